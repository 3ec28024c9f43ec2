"""A run in a few lines of Markdown, as MLflow's pages show them of a run, of a version and of a registered model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from adjobs import methods
from adjobs.errors import shorten
from adjobs.metrics.intervals import Estimate
from adjobs.reporting.decisions import decisions
from adjobs.reporting.figures.style import metric_name
from adjobs.reporting.report import RunReport
from adjobs.tracking.layout import artifact_link

REPORT_FILE = "report.html"  # among the artifacts
ROWS = ("image_auroc", "image_ap", "image_recall", "image_specificity", "pixel_auroc", "pixel_ap", "au_pro", "au_spro")
HEADLINES = ("image_auroc", "image_recall", "image_specificity", "pixel_ap")  # what a list of versions has room for
DESCRIPTION_FIGURE = "description.png"  # among the artifacts


def describe_run(report: RunReport) -> str:
    """How good it is, what was trained, when it alarms, and how to use it: MLflow shows the first three lines at once."""
    blocks = [
        headline(report),
        describe_training(report),
        _describe_decisions(report),
        metric_table(report),
        f"![scores of the test images]({artifact_link(report.run_id, DESCRIPTION_FIGURE)})",
        f"Use it: `adjobs predict --model {report.run_id} IMAGES`. The report is `{REPORT_FILE}` among the artifacts.",
    ]
    return "\n\n".join(filter(None, blocks))


def describe_version(report: RunReport, uri: str) -> str:
    """The same of a version of a registered model, shorter: its page links the run."""
    blocks = [headline(report), describe_training(report), metric_table(report), f"Use it: `adjobs predict --model {uri} IMAGES`"]
    return "\n\n".join(filter(None, blocks))


def describe_model(name: str) -> str:
    """What the aliases of a registered model mean, and the commands that change them."""
    return (
        "The version in force has the alias **champion**, one that may replace it **challenger**.\n\n"
        f"- use the one in force: `adjobs predict --model models:/{name}@champion IMAGES`\n"
        f"- compare two: `adjobs models compare {name}@champion {name}/VERSION`\n"
        f"- put one in force: `adjobs models promote {name}/VERSION`\n"
        f"- who changed what, when and why: `adjobs models history {name}`"
    )


def describe_training(report: RunReport) -> str:
    """Method and data in a sentence."""
    method = report.tags.get("method", "")
    title = f"{methods.spec(method).title} (`{method}`)" if method in methods.names() else f"`{method}`"
    data = str(report.data.get("uri", "")).rstrip("/")
    counts: Mapping[str, int] = report.data.get("counts", {})
    splits = [
        f"{split} " + " and ".join(f"{counts[f'{key}/{label}']} {label}" for label in labels)
        for key, split in (("train", "training"), ("val", "validation"), ("test", "test"))
        if (labels := [label for label in ("normal", "anomalous") if counts.get(f"{key}/{label}")])
    ]
    return f"**{title}** on {_code(shorten(PurePosixPath(data).name or data, 100))}: {', '.join(splits)} images."


def headline(report: RunReport) -> str:
    """The metrics that matter most, without Markdown: lists of versions show the start as it is; "" if it was not tested."""
    overall = _test_metrics(report)
    texts = [f"{metric_name(name).partition(' (')[0]} {overall[name].value:.3f}" for name in HEADLINES if name in overall]
    return f"{', '.join(texts)} on the test images." if texts else ""


def metric_table(report: RunReport) -> str:
    """The metrics of the test split by which people choose; "" if it was not tested."""
    overall = _test_metrics(report)
    rows = [(metric_name(name), overall[name]) for name in ROWS if name in overall]
    if not rows:
        return ""
    return "\n".join(
        markdown_table(
            ["test images", "", "95 % interval"],
            [[name, f"{estimate.value:.3f}", _interval(estimate)] for name, estimate in rows],
        )
    )


def _describe_decisions(report: RunReport) -> str:
    lines = [
        f"- {decision.level.capitalize()} alarm from a score of {decision.value:.6g}"
        + (f": {decision.meaning}" if decision.meaning else "")
        for decision in decisions(report.thresholds)
    ]
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, with space between its columns, which MLflow's tables lack."""
    cells = [list(header), *map(list, rows)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") + "&emsp;" for cell in row) + " |" for row in cells]
    return [lines[0], "|" + ":---|" * len(header), *lines[1:]]


def _test_metrics(report: RunReport) -> dict[str, Estimate]:
    """Those that are defined."""
    overall = report.splits["test"].overall if "test" in report.splits else {}
    return {name: estimate for name, estimate in overall.items() if estimate.value is not None}


def _interval(estimate: Estimate) -> str:
    return "–" if estimate.low is None or estimate.high is None else f"{estimate.low:.3f} to {estimate.high:.3f}"


def _code(text: str) -> str:
    """Text as it is, whatever characters of Markdown are in it."""
    return f"`{text.replace('`', chr(39))}`"
