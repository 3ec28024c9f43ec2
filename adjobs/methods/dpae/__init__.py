"""DPAE: encoder, decoder and second encoder; images whose two latent vectors differ in an unusual way are anomalous.

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
