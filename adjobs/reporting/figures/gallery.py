"""Pictures worth a look: the worst misses, the worst false alarms, the clearest hits, with their heat maps."""

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

from adjobs.reporting.figures.style import DPI, INK, PALE, SPLITS, fit
from adjobs.types import ImageScores

GALLERY = 6  # pictures per row
TITLES = {"misses": "Worst misses", "false_alarms": "Worst false alarms", "hits": "Clearest hits"}
_HEAT = "inferno"  # its lightness rises with the score, so that it reads in grey, too
_COLUMN, _TYPE = 1.9, 7.5  # inches, points
_OPAQUE, _FULL = 0.8, 0.67  # opacity of hot pixels over their image, and the place on the scale from which a pixel has all of it


class Case(NamedTuple):
    """One picture of a gallery.

    Attributes:
        name: file name.
        image: ``(H, W, 3)`` uint8.
        map: ``(H, W)``, or None for methods that locate nothing.
        mask: ``(H, W)`` bool, or None where defect pixels are not known.
        notes: lines under the name, such as defect type and score.
    """

    name: str
    image: np.ndarray
    map: np.ndarray | None
    mask: np.ndarray | None
    notes: tuple[str, ...] = ()


def scores_in_masks(scores: ImageScores, threshold: float) -> dict[str, np.ndarray]:
    """Rows worth a look: worst misses, worst false alarms, clearest hits."""
    order = np.argsort(scores.score, kind="stable")
    labels, called = scores.labels[order], scores.score[order] >= threshold
    return {
        "misses": order[(labels == 1) & ~called][:GALLERY],
        "false_alarms": order[(labels == 0) & called][::-1][:GALLERY],
        "hits": order[(labels == 1) & called][::-1][:GALLERY],
    }


def galleries(scores: ImageScores, threshold: float, part: str, image_of: Callable[[str], np.ndarray]) -> dict[str, Figure]:
    """The galleries of a part, by the names of :func:`scores_in_masks`, all heat maps on one scale; those without a picture are left out.

    Args:
        scores: of the part.
        threshold: where images are decided.
        part: its name.
        image_of: gives the image ``(H, W, 3)`` uint8 of a sample id, at the size of the maps.
    """
    scale = heat_scale(scores.anomaly_maps)
    drawn = {}
    for name, rows in scores_in_masks(scores, threshold).items():
        cases = [_case(scores, int(row), image_of) for row in rows]
        if cases:
            title = f"{TITLES[name]}\n{SPLITS.get(part, part)} images, alarm from {threshold:.4g}"
            drawn[name] = gallery(cases, title, scale)
    return drawn


def _case(scores: ImageScores, row: int, image_of: Callable[[str], np.ndarray]) -> Case:
    mask = None if scores.masks is None else scores.masks[row]
    map_ = None if scores.anomaly_maps is None else scores.anomaly_maps[row]
    notes = (scores.defects[row] or ("defect" if scores.labels[row] else "good"), f"score {scores.score[row]:.4g}")
    return Case(PurePosixPath(scores.ids[row]).name, image_of(scores.ids[row]), map_, mask, notes)


def heat_scale(maps: np.ndarray | None) -> tuple[float, float]:
    """Ends of the colour scale for maps ``(N, H, W)``: their median, and what the hottest pixel of 2 % of the images exceeds."""
    if maps is None or not maps.size:
        return 0.0, 1.0
    low = float(np.median(maps[:, ::4, ::4]))  # every sixteenth pixel says as much of a median
    high = float(np.quantile(maps.reshape(len(maps), -1).max(1), 0.98))
    return low, high if high > low else low + 1.0


def gallery(cases: Sequence[Case], title: str, scale: tuple[float, float]) -> Figure:
    """Image, ground truth, heat map and overlay of each case; rows of which nothing is known are left out.

    Args:
        cases: one column each.
        title: of the figure; lines that fit over one picture.
        scale: scores at the two ends of the colour scale.
    """
    rows = ["image"]
    rows += ["ground truth"] if any(case.mask is not None and case.mask.any() for case in cases) else []
    rows += ["heat map", "overlay"] if any(case.map is not None for case in cases) else []
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
        lines = [fit(line, 72 * _COLUMN - 8, _TYPE) for line in (case.name, *case.notes)]
        column[0].set_title("\n".join(lines), fontsize=_TYPE, color=INK, parse_math=False)
        for axes, row in zip(column, rows, strict=True):
            _cell(axes, row, case, norm)
    if "heat map" in rows:
        # Room is taken from all rows, so that the columns stay columns.
        everywhere = grid.ravel().tolist()
        shrink, pad = 1.8 / len(rows), 0.06 / len(cases)
        bar = figure.colorbar(ScalarMappable(norm, _HEAT), ax=everywhere, shrink=shrink, pad=pad, anchor=(0, 0.05), aspect=30)
        bar.set_label("anomaly score of the pixel", fontsize=9, color=INK)
        bar.ax.tick_params(labelsize=8, colors=INK)
        bar.outline.set_visible(False)
    return figure


def _cell(axes: Axes, row: str, case: Case, norm: Normalize) -> None:
    if row == "image":
        axes.imshow(case.image)
    elif row == "ground truth":
        if case.mask is None or not case.mask.any():
            text = "not known" if case.mask is None else "no defect"
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=8, color=PALE)
        else:
            axes.imshow(case.mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    elif case.map is not None and row == "heat map":
        axes.imshow(case.map, cmap=_HEAT, norm=norm)
    elif case.map is not None:
        axes.imshow(overlay(case.image, case.map, norm))
        if case.mask is not None and case.mask.any():
            _outline(axes, case.mask)


def _outline(axes: Axes, mask: np.ndarray) -> None:
    """The border of a mask; a light line on a dark one is seen on any ground."""
    axes.autoscale(enable=False)
    height, width = mask.shape
    x, y, closed = np.arange(-1, width + 1), np.arange(-1, height + 1), np.pad(mask, 1)  # also along the image's border
    for colour, thickness in (("black", 2.0), ("white", 0.9)):
        axes.contour(x, y, closed, levels=[0.5], colors=[colour], linewidths=[thickness])


def overlay(image: np.ndarray, map_: np.ndarray, norm: Normalize) -> np.ndarray:
    """Heat over an image, the more opaque the hotter: ``(H, W, 3)`` float in [0, 1]."""
    heat = np.asarray(norm(map_))
    opacity = _OPAQUE * np.minimum(1.0, heat / _FULL)[..., None]
    blended: np.ndarray = (1 - opacity) * (image / 255.0) + opacity * colormaps[_HEAT](heat)[..., :3]
    return blended
