"""DPAE: encoder, decoder and second encoder; an image whose two latent vectors part in an unusual way is anomalous.

Semi-supervised anomaly detection with dual prototypes autoencoder for industrial surface inspection, Liu et al.
"""

from adjobs.methods.contract import Selection, Spec

SPEC = Spec(
    title="Dual Prototype Auto-Encoder",
    paper="Liu, Song, Feng, Yan, Tu, Zhu: Semi-supervised anomaly detection with dual prototypes autoencoder for industrial "
    "surface inspection, Optics and Lasers in Engineering 2021",
    supervisions=("none",),
    gives_map=True,
    selection=Selection("last", "image_auroc"),
    threshold=("max_fpr", 0.01),
)
