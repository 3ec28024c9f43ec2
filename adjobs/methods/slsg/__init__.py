"""SLSG: an encoder learns to inpaint normal images, then a segmentation network on top of it learns from simulated anomalies.

SLSG: Industrial Image Anomaly Detection by Learning Better Feature Embeddings and One-Class Classification, Yang et al.
"""

from adjobs.methods.contract import LabelParam, PlaceParam, Selection, Spec, WarmStart

SPEC = Spec(
    title="Self-Supervised Learning and Self-Attentive Graph Convolution",
    paper=(
        "Yang, Liu, Yang, Wu: SLSG: Industrial Image Anomaly Detection by Learning Better Feature Embeddings and One-Class "
        "Classification, arXiv 2023"
    ),
    supervisions=("none", "masks"),
    gives_map=True,
    simulates=True,
    selection=Selection("last", "image_auroc"),
    threshold=("max_fpr", 0.01),
    label_params=(LabelParam("masks", "labelled_per_batch", 2),),
    warm_start=WarmStart("pretrain_from", must_match=("width", "pretrain")),
    place_param=PlaceParam("score", same_place="combined", any_place="network", only_with=("pretrain", "backbone")),
)
