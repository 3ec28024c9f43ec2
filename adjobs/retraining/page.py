"""The summary of a pass as one HTML page that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from adjobs.evaluation.gate_verdict import TABLE_HEADER, GateVerdict
from adjobs.reporting.figures.gate import gate as draw_gate
from adjobs.reporting.templates import data_uri, environment, figure_png
from adjobs.retraining.passes import PassStart
from adjobs.version import __version__

TEMPLATE = "retraining.html.j2"
MAX_ROWS = 200
"""Images that the page lists in one table."""


def render_page(start: PassStart, facts: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    """The page.

    Args:
        start: of the pass.
        facts: what came of it: state, sentence, run_id, version, champion, dataset_version, decision.
        gate: what the step ``gate`` gave.
    """
    verdict = GateVerdict.from_dict(gate["verdict"]) if gate.get("verdict") else None
    decisions: Sequence[Mapping[str, Any]] = gate.get("decisions", ())
    new = [item for item in decisions if item["is_new"]]
    changed = [item for item in decisions if item["champion"] != item["challenger"] and not item["is_new"]]
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            start=start,
            started_at=datetime.fromisoformat(start.started_at).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            facts=facts,
            verdict=verdict,
            header=TABLE_HEADER,
            figure=None if verdict is None else data_uri(figure_png(draw_gate(verdict))),
            tables=[
                ("New anomalies", new[:MAX_ROWS], len(new)),
                ("Other test images on which the two models decide differently", changed[:MAX_ROWS], len(changed)),
            ],
            counts=[(defect, *_counts(new, defect)) for defect in sorted({item["defect"] for item in new})],
            version=__version__,
        )
    )


def _counts(new: Sequence[Mapping[str, Any]], defect: str) -> tuple[int, int, int]:
    """Images of a defect type, and how many of them champion and challenger detect."""
    items = [item for item in new if item["defect"] == defect]
    return len(items), sum(item["champion"] for item in items), sum(item["challenger"] for item in items)
