"""CDO: an apprentice network learns to agree with a frozen expert on normal pixels and to differ from it on simulated defects.

Collaborative Discrepancy Optimization for Reliable Image Anomaly Localization, Cao et al.
"""

from adjobs.methods.contract import LabelParam, PlaceParam, Selection, Spec

SPEC = Spec(
    title="Collaborative Discrepancy Optimization",
    paper="Cao, Xu, Liu, Shen: Collaborative Discrepancy Optimization for Reliable Image Anomaly Localization, IEEE TII 2023",
    supervisions=("none", "masks"),
    gives_map=True,
    simulates=True,
    selection=Selection("last", "image_auroc"),
    threshold=("max_fpr", 0.01),
    label_params=(LabelParam("masks", "use_labelled_masks", True),),
    place_param=PlaceParam("distance", same_place="mahalanobis", any_place="nearest"),
)
