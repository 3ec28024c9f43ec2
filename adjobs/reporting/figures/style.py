"""What all figures share: colours, axes, and words that fit where they stand."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from functools import cache

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from adjobs.metrics.intervals import Estimate

# Paul Tol's high-contrast scheme: told apart by colour-blind readers, and in grey, where each is lighter than the one before.
GOOD, BAD, MARK = "#004488", "#bb5566", "#ddaa33"
INK, PALE, PALE_GOOD = "#333333", "#8a8a8a", "#8ba9cb"
SMALL = 8.5  # points; the size of all text that is neither title nor axis label
DPI = 150
SPLITS = {"train": "training", "val": "validation", "test": "test"}
NAMES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1": "image F1",
    "image_f1max": "best image F1",
    "image_accuracy": "accuracy",
    "image_precision": "precision",
    "image_recall": "sensitivity",
    "image_specificity": "specificity",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1": "pixel F1",
    "pixel_f1max": "best pixel F1",
    "au_pro": "AU-PRO",
}
Estimates = Mapping[str, Estimate]


def plain(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Axes without frame, with a faint grid and the title at the left."""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.tick_params(labelsize=SMALL, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def canvas(title: str, x: str, y: str, size: tuple[float, float] = (5.6, 5.0)) -> tuple[Figure, Axes]:
    """A figure with one axes, ``size`` in inches."""
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    return figure, plain(figure.subplots(), title, x, y)


def legend_below(figure: Figure, axes: Axes) -> None:
    """A legend under the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=SMALL, labelcolor=INK)


def measure_name(key: str) -> str:
    """A measure's name for readers: ``image AUROC`` for ``image_auroc``."""
    name, _, limit = key.partition("@")
    words = NAMES.get(name, name)
    for short, long in {"au_pro": "AU-PRO", "au_spro": "AU-sPRO", "auroc": "AUROC", "_f1_": "_F1_", "_ap_": "_AP_"}.items():
        words = words.replace(short, long)
    return words.replace("_", " ") + (f" up to {limit}" if limit else "")


def said(name: str, estimate: Estimate | None) -> str:
    """A measure with its interval, for a label: ``AUROC 0.912 (0.880 to 0.940)``."""
    if estimate is None or estimate.value is None:
        return name
    if estimate.low is None or estimate.high is None:
        return f"{name} {estimate.value:.3f}"
    return f"{name} {estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def fit(text: str, width: float, size: float = SMALL) -> str:
    """Text in one line of at most ``width`` points at a type size; what is too long loses its middle.

    File names and defect types come from outside: signs that matplotlib's font lacks, and line breaks, become ``?``.
    """
    text = "".join(sign if ord(sign) in _drawable() else "?" for sign in text)
    if _points(text, size) <= width:
        return text
    # The most signs that fit; each more makes the text wider.
    kept = bisect_right(range(3, len(text)), width, key=lambda n: _points(_without_middle(text, n), size)) + 2
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


@cache
def _drawable() -> frozenset[int]:
    """Code points of the printable signs in matplotlib's own font."""
    return frozenset(code for code in get_font(findfont(FontProperties())).get_charmap() if chr(code).isprintable())


def _points(text: str, size: float) -> float:
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(width)
