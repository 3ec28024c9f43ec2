"""SemiREST: a Swin transformer tells defects from good parts by residuals to a memory of good features, from few labels.

Efficient Anomaly Detection with Budget Annotation Using Semi-Supervised Residual Transformer, Li et al.
"""

from adjobs.methods.contract import Selection, Spec, Start

SPEC = Spec(
    title="Semi-supervised Residual Transformer",
    paper=(
        "Li, Zhang, Zhang, Tang, Wei, Chen, Chen, Zhang, Gu: Efficient Anomaly Detection with Budget Annotation Using "
        "Semi-Supervised Residual Transformer, arXiv 2023"
    ),
    supervision=("none", "masks", "blocks", "boxes"),
    gives_map=True,
    simulates=True,
    selection=Selection("last", "image_auroc"),
    threshold=("max_fpr", 0.01),
    start=Start(
        "unsupervised_from",
        equal=(
            *("backbone", "weights", "features", "standardised", "position", "coreset", "strength", "loudness"),
            *("window", "embed", "depth", "heads", "attention_window", "mlp_ratio"),
        ),
        there=(("supervision", "none"),),  # anomalies that another run learnt from may be in this run's test part
    ),
)
