"""LIAC: a classifier on two networks that agree on normal images and differ on anomalies, for few labelled anomalies.

Logit Inducing With Abnormality Capturing for Semi-Supervised Image Anomaly Detection, Wan et al.
"""

from adjobs.methods.contract import Selection, Spec

SPEC = Spec(
    title="Logit Inducing with Abnormality Capturing",
    paper="Wan, Gao, Li: Logit Inducing With Abnormality Capturing for Semi-Supervised Image Anomaly Detection, IEEE TIM 2022",
    supervisions=("image labels",),
    gives_map=True,
    selection=Selection("best", "image_macro_f1_at_0.5"),
    threshold=("fixed", 0.5),
    map_param="heat_map",
)
