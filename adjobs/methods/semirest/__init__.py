"""SemiREST: a Swin transformer tells defects from good parts by residuals to a memory of good features, from few labels.

Efficient Anomaly Detection with Budget Annotation Using Semi-Supervised Residual Transformer, Li et al.
"""

from adjobs.methods.contract import Selection, Spec, WarmStart

SPEC = Spec(
    title="Semi-supervised Residual Transformer",
    paper=(
        "Li, Zhang, Zhang, Tang, Wei, Chen, Chen, Zhang, Gu: Efficient Anomaly Detection with Budget Annotation Using "
        "Semi-Supervised Residual Transformer, arXiv 2023"
    ),
    supervisions=("none", "masks", "blocks", "boxes"),
    gives_map=True,
    simulates=True,
    selection=Selection("last", "image_auroc"),
    threshold=("max_fpr", 0.01),
    warm_start=WarmStart(
        "unsupervised_from",
        must_match=(
            *("backbone", "weights", "features", "standardised", "position", "coreset", "strength", "loudness"),
            *("window", "embed", "depth", "heads", "attention_window", "mlp_ratio"),
        ),
        required_values=(("supervision", "none"),),  # anomalies that another run learnt from may be in this run's test part
    ),
)
