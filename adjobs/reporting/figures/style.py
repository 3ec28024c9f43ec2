"""What all figures share: colours, axes, names of metrics, and text that fits its space."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from functools import cache

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from adjobs.metrics.intervals import Estimate

# Paul Tol's high-contrast scheme: colour-blind readers can distinguish it, and in grey each is lighter than the one before.
BLUE, RED, YELLOW = "#004488", "#bb5566", "#ddaa33"
INK, GREY, LIGHT_BLUE = "#333333", "#8a8a8a", "#8ba9cb"
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
    "image_recall": "recall (sensitivity)",
    "image_specificity": "specificity",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1": "pixel F1",
    "pixel_f1max": "best pixel F1",
    "au_pro": "AU-PRO",
}
Estimates = Mapping[str, Estimate]


def style_axes(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Axes without a frame, with a faint grid and the title at the left."""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.tick_params(labelsize=SMALL, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def new_figure(title: str, x: str, y: str, size: tuple[float, float] = (5.6, 5.0)) -> tuple[Figure, Axes]:
    """A figure with one axes, ``size`` in inches."""
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    return figure, style_axes(figure.subplots(), title, x, y)


def legend_below(figure: Figure, axes: Axes) -> None:
    """Add a legend under the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=SMALL, labelcolor=INK)


def metric_name(key: str) -> str:
    """A metric's name for readers: ``image AUROC`` for ``image_auroc``."""
    name, _, limit = key.partition("@")
    text = NAMES.get(name, name)
    for short, long in {"au_pro": "AU-PRO", "au_spro": "AU-sPRO", "auroc": "AUROC", "_f1_": "_F1_", "_ap_": "_AP_"}.items():
        text = text.replace(short, long)
    return text.replace("_", " ") + (f" up to {limit}" if limit else "")


def with_interval(name: str, estimate: Estimate | None) -> str:
    """A metric with its interval, for a label: ``AUROC 0.912 (0.880 to 0.940)``."""
    if estimate is None or estimate.value is None:
        return name
    if estimate.low is None or estimate.high is None:
        return f"{name} {estimate.value:.3f}"
    return f"{name} {estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def fit_text(text: str, width: float, size: float = SMALL) -> str:
    """Text in one line of at most ``width`` points at a type size; text that is too long loses its middle.

    File names and defect types come from outside: characters that matplotlib's font lacks, and line breaks, become ``?``.
    """
    text = "".join(character if ord(character) in _drawable() else "?" for character in text)
    if _text_width(text, size) <= width:
        return text
    # The most characters that fit; each more makes the text wider.
    length = bisect_right(range(3, len(text)), width, key=lambda n: _text_width(_without_middle(text, n), size)) + 2
    return _without_middle(text, length)


def _without_middle(text: str, length: int) -> str:
    """The first and last characters of a text, ``length`` of them, around an ellipsis."""
    return f"{text[: (length + 1) // 2]}…{text[len(text) - length // 2 :]}"


@cache
def _drawable() -> frozenset[int]:
    """Code points of the printable characters in matplotlib's own font."""
    return frozenset(code for code in get_font(findfont(FontProperties())).get_charmap() if chr(code).isprintable())


def _text_width(text: str, size: float) -> float:
    """In points."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(width)
