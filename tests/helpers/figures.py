"""Scores and metrics to draw, and what a drawn figure shows."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from adjobs.metrics.intervals import Estimate
from adjobs.types import ImageScores

ESTIMATES = {"image_auroc": Estimate(0.912, 0.88, 0.94), "image_ap": Estimate(0.8), "au_pro": Estimate(0.75, 0.7, 0.8)}


def make_scores(n_normal: int = 12, n_anomalous: int = 6, *, maps: bool = True, size: int = 16) -> ImageScores:
    """Scores 0, 1, … for normal images and from half of them upwards for anomalous ones, whose lower half is the defect."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [n_normal, n_anomalous])
    scores = np.concatenate((np.arange(n_normal), np.arange(n_anomalous) + n_normal / 2)).astype(float)
    masks = np.zeros((len(labels), size, size), dtype=bool)
    masks[n_normal:, size // 2 :] = True
    heat = (rng.random(masks.shape) + masks * 0.5).astype(np.float32)
    ids = tuple(f"folder/{i:02}.png" for i in range(len(labels)))
    defects = tuple("" if not label else "crack" for label in labels)
    return ImageScores(ids, labels, scores, defects, heat if maps else None, masks if maps else None)


def pixels(figure: Figure) -> np.ndarray:
    """The drawn figure; small, so that drawing is quick."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=40)
    return np.asarray(Image.open(buffer).convert("L"))


def all_text(figure: Figure) -> str:
    """The text of a figure's legends, titles and labels."""
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.get_title(loc="left"), axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        texts += [text.get_text() for text in axes.texts]
        texts += [text.get_text() for text in axes.get_yticklabels()]
    return "\n".join([figure.get_suptitle(), *texts])


def make_metrics(counts: dict[str, int] | None = None) -> SimpleNamespace:
    estimates = {"image_recall": Estimate(0.5, 0.2, 0.8), "image_auroc": Estimate(0.7, 0.6, 0.8)}
    counts = {"crack": 6} if counts is None else counts
    return SimpleNamespace(overall=ESTIMATES, counts=counts, by_defect=dict.fromkeys(counts, estimates))


def image(name: str) -> np.ndarray:
    return np.full((16, 16, 3), 128, dtype=np.uint8)
