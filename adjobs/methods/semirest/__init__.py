"""SemiREST: a Swin transformer classifies blocks by their residuals to a memory bank of normal features, given few labels.

Efficient Anomaly Detection with Budget Annotation Using Semi-Supervised Residual Transformer, Li et al.
"""

from adjobs.methods.contract import LabelParam, Selection, Spec, WarmStart

SPEC = Spec(
    title="Semi-supervised Residual Transformer",
    paper=(
        "Li, Wu, Chen, Wang, Shen: Efficient Anomaly Detection with Budget Annotation Using "
        "Semi-Supervised Residual Transformer, arXiv 2023"
    ),
    supervisions=("none", "masks", "blocks", "boxes"),
    gives_map=True,
    simulates=True,
    selection=Selection("last", "image_auroc"),
    threshold=("max_fpr", 0.01),
    label_params=(
        LabelParam("masks", "supervision", "masks"),
        LabelParam("blocks", "supervision", "blocks"),
        LabelParam("boxes", "supervision", "boxes"),
    ),
    warm_start=WarmStart(
        "unsupervised_from",
        must_match=(
            *("backbone", "weights", "feature_dim", "standardise_features", "position_weight", "coreset_ratio"),
            *("residual_distance", "target_mean_residual"),
            *("window", "embed_dim", "depth", "heads", "attention_window", "mlp_ratio"),
        ),
        # Anomalies that another run was trained on may be in this run's test split.
        required_values=(("supervision", "none"),),
    ),
)
