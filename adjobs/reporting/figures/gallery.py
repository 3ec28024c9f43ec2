"""Images worth inspecting: the worst misses, the worst false alarms, the clearest hits, with their heat maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from adjobs.reporting.figures.style import DPI, GREY, INK, SPLITS, fit_text
from adjobs.types import ImageScores

GALLERY = 6  # images per gallery
TITLES = {"misses": "Worst misses", "false_alarms": "Worst false alarms", "hits": "Clearest hits"}
_HEAT = "inferno"  # its lightness rises with the score, so that it is readable in grey, too
_COLUMN, _TYPE = 1.9, 7.5  # inches, points
_OPAQUE, _FULL = 0.8, 0.67  # opacity of hot pixels over their image, and the value on the scale from which a pixel has all of it


class Case(NamedTuple):
    """One image of a gallery.

    Attributes:
        name: file name.
        image: ``(H, W, 3)`` uint8.
        anomaly_map: ``(H, W)``, or None for methods that locate nothing.
        mask: ``(H, W)`` bool, or None if defect pixels are unknown.
        notes: lines under the name, such as defect type and score.
    """

    name: str
    image: np.ndarray
    anomaly_map: np.ndarray | None
    mask: np.ndarray | None
    notes: tuple[str, ...] = ()


def select_cases(scores: ImageScores, threshold: float) -> dict[str, np.ndarray]:
    """Indices of the worst misses, the worst false alarms, and the clearest hits."""
    order = np.argsort(scores.score, kind="stable")
    labels, alarms = scores.labels[order], scores.score[order] >= threshold
    return {
        "misses": order[(labels == 1) & ~alarms][:GALLERY],
        "false_alarms": order[(labels == 0) & alarms][::-1][:GALLERY],
        "hits": order[(labels == 1) & alarms][::-1][:GALLERY],
    }


def galleries(scores: ImageScores, threshold: float, split: str, image_of: Callable[[str], np.ndarray]) -> dict[str, Figure]:
    """The galleries of a split, by the names of :func:`select_cases`, all heat maps on one scale; empty ones are left out.

    Args:
        scores: of the split.
        threshold: for images.
        split: its name.
        image_of: gives the image ``(H, W, 3)`` uint8 of a sample id, at the size of the maps.
    """
    scale = heat_scale(scores.anomaly_maps)
    figures = {}
    for name, indices in select_cases(scores, threshold).items():
        cases = [_case(scores, int(index), image_of) for index in indices]
        if cases:
            title = f"{TITLES[name]}\n{SPLITS.get(split, split)} images, alarm from {threshold:.4g}"
            figures[name] = gallery(cases, title, scale)
    return figures


def _case(scores: ImageScores, index: int, image_of: Callable[[str], np.ndarray]) -> Case:
    is_known = scores.masks is not None and (scores.mask_known is None or scores.mask_known[index])
    mask = scores.masks[index] if scores.masks is not None and is_known else None
    anomaly_map = None if scores.anomaly_maps is None else scores.anomaly_maps[index]
    notes = (scores.defects[index] or ("defect" if scores.labels[index] else "normal"), f"score {scores.score[index]:.4g}")
    sample_id = scores.ids[index]
    return Case(PurePosixPath(sample_id).name, image_of(sample_id), anomaly_map, mask, notes)


def heat_scale(maps: np.ndarray | None) -> tuple[float, float]:
    """Ends of the colour scale for maps ``(N, H, W)``: their median, and what the hottest pixel of 2 % of the images exceeds."""
    if maps is None or not maps.size:
        return 0.0, 1.0
    low = float(np.median(maps[:, ::4, ::4]))  # every sixteenth pixel is enough for a median
    high = float(np.quantile(maps.reshape(len(maps), -1).max(1), 0.98))
    return low, high if high > low else low + 1.0


def gallery(cases: Sequence[Case], title: str, scale: tuple[float, float]) -> Figure:
    """Image, ground truth, heat map and overlay of each case; rows without content are left out.

    Args:
        cases: one column each.
        title: of the figure; lines that fit over one image.
        scale: scores at the two ends of the colour scale.
    """
    rows = ["image"]
    rows += ["ground truth"] if any(case.mask is not None and case.mask.any() for case in cases) else []
    rows += ["heat map", "overlay"] if any(case.anomaly_map is not None for case in cases) else []
    size = (_COLUMN * len(cases) + 1.0, _COLUMN * len(rows) + 1.1)
    figure = Figure(figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", color=INK)
    grid = figure.subplots(len(rows), len(cases), squeeze=False)
    norm = Normalize(*scale, clip=True)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, row in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(row, fontsize=9, color=INK)
    for column, case in zip(grid.T, cases, strict=True):
        lines = [fit_text(line, 72 * _COLUMN - 8, _TYPE) for line in (case.name, *case.notes)]
        column[0].set_title("\n".join(lines), fontsize=_TYPE, color=INK, parse_math=False)
        for axes, row in zip(column, rows, strict=True):
            _cell(axes, row, case, norm)
    if "heat map" in rows:
        # Space is taken from all rows, so that the columns stay aligned.
        all_axes = grid.ravel().tolist()
        shrink, pad = 1.8 / len(rows), 0.06 / len(cases)
        bar = figure.colorbar(ScalarMappable(norm, _HEAT), ax=all_axes, shrink=shrink, pad=pad, anchor=(0, 0.05), aspect=30)
        bar.set_label("anomaly score of the pixel", fontsize=9, color=INK)
        bar.ax.tick_params(labelsize=8, colors=INK)
        bar.outline.set_visible(False)
    return figure


def _cell(axes: Axes, row: str, case: Case, norm: Normalize) -> None:
    if row == "image":
        axes.imshow(case.image)
    elif row == "ground truth":
        if case.mask is None or not case.mask.any():
            text = "unknown" if case.mask is None else "no defect"
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=8, color=GREY)
        else:
            axes.imshow(case.mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    elif case.anomaly_map is not None and row == "heat map":
        axes.imshow(case.anomaly_map, cmap=_HEAT, norm=norm)
    elif case.anomaly_map is not None:
        axes.imshow(overlay(case.image, case.anomaly_map, norm))
        if case.mask is not None and case.mask.any():
            _outline(axes, case.mask)


def _outline(axes: Axes, mask: np.ndarray) -> None:
    """Draw the border of a mask; a light line on a dark one is visible on any background."""
    axes.autoscale(enable=False)
    height, width = mask.shape
    x, y, padded = np.arange(-1, width + 1), np.arange(-1, height + 1), np.pad(mask, 1)  # also along the image's border
    for colour, thickness in (("black", 2.0), ("white", 0.9)):
        axes.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=[thickness])


def overlay(image: np.ndarray, anomaly_map: np.ndarray, norm: Normalize) -> np.ndarray:
    """A heat map over an image, more opaque where hotter: ``(H, W, 3)`` float in [0, 1]."""
    heat = np.asarray(norm(anomaly_map))
    opacity = _OPAQUE * np.minimum(1.0, heat / _FULL)[..., None]
    blended: np.ndarray = (1 - opacity) * (image / 255.0) + opacity * colormaps[_HEAT](heat)[..., :3]
    return blended
