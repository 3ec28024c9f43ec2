"""A figure of the gate's verdict: each check's value and limits against its bound."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from adjobs.evaluation.gate_verdict import GateCheck, GateVerdict
from adjobs.reporting.figures.style import BLUE, DPI, GREY, INK, RED, SMALL, YELLOW, fit_text, style_axes

_COLOURS = {"passed": BLUE, "failed": RED, "undecided": YELLOW}
_LABEL_POINTS = 150.0
_TITLE_POINTS = 420.0
_PANELS = {
    "at least": "challenger minus champion; must reach the bound",
    "at most": "share of the challenger; must keep to the bound",
    "cost": "cost over its limit; must keep to it",
}


def gate(verdict: GateVerdict) -> Figure:
    """Draw the checks that were not skipped, one panel for differences, one for shares and one for costs."""
    panels = {
        name: [check for check in verdict.checks if check.status != "skipped" and _panel(check) == name] for name in _PANELS
    }
    drawn = {name: checks for name, checks in panels.items() if checks}
    heights = [len(checks) + 1.6 for checks in drawn.values()]
    figure = Figure(figsize=(7.6, 0.9 + 0.36 * sum(heights)), dpi=DPI, layout="constrained")
    for axes, (name, checks) in zip(
        figure.subplots(len(drawn), height_ratios=heights, squeeze=False)[:, 0], drawn.items(), strict=True
    ):
        _draw(axes, checks, _PANELS[name])
    figure.suptitle(fit_text(f"Gate: {verdict.decision}", _TITLE_POINTS, 12), x=0.01, ha="left", fontsize=12, color=INK)
    handles: list[Artist] = [Patch(color=colour, label=status) for status, colour in _COLOURS.items()]
    handles.append(Line2D([], [], color=INK, linewidth=1.4, label="bound"))
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=SMALL, labelcolor=INK)
    return figure


def _panel(check: GateCheck) -> str:
    return "cost" if check.unit else check.direction


def _draw(axes: Axes, checks: Sequence[GateCheck], title: str) -> None:
    style_axes(axes, title)
    for row, check in enumerate(checks):
        # Costs of different units share an axis: each in shares of its limit.
        scale = (check.bound or 1.0) if check.unit else 1.0
        colour = _COLOURS[check.status]
        if check.low is not None and check.high is not None:
            axes.plot([check.low / scale, check.high / scale], [row, row], color=colour, linewidth=2.2)
        if check.value is not None:
            axes.plot([check.value / scale], [row], "o", color=colour, markersize=6, clip_on=False, zorder=3)
        else:
            axes.text((check.bound or 0.0) / scale, row, "  no value", va="center", fontsize=SMALL, color=INK)
        if check.bound is not None:
            axes.plot([check.bound / scale] * 2, [row - 0.36, row + 0.36], color=INK, linewidth=1.4)
    axes.set_yticks(range(len(checks)), [fit_text(check.name, _LABEL_POINTS) for check in checks])
    axes.set_ylim(len(checks) - 0.4, -0.6)
    if checks[0].direction == "at least":
        axes.axvline(0, color=GREY, linewidth=0.8)
    else:
        axes.set_xlim(left=0)
    axes.margins(x=0.06)
