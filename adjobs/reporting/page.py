"""The report as one HTML page that needs nothing from outside: styles and figures are embedded, there are no scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from adjobs import methods
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.region import SIZES
from adjobs.reporting.decisions import changes, decisions
from adjobs.reporting.differences import Differences, differences
from adjobs.reporting.embedding import embed_annotation, embed_figures
from adjobs.reporting.figures.style import SPLITS, metric_name
from adjobs.reporting.report import MetricGroup, RunReport
from adjobs.reporting.templates import environment
from adjobs.storage.base import atomic_write, disk_errors
from adjobs.version import __version__

TEMPLATE = "report.html.j2"
HEADLINES = ("image_auroc", "image_ap", "image_recall", "image_specificity", "pixel_auroc", "au_pro")
_HEAD_BYTES, _GENERATOR = 4096, b'<meta name="generator" content="adjobs '  # the start of a page names its generator
MAX_IDS = 2000  # image ids listed per split; the run has all of them
_NOT_CURVES = ("test_gallery_", "val_gallery_", "test_defects")  # figures that are shown elsewhere than among the curves


def render(reports: Sequence[RunReport]) -> str:
    """The page of one run, or of several with a comparison at the top."""
    templates = environment()
    templates.filters |= {"metric_name": metric_name, "number": number, "duration": duration, "split_name": _split_name}
    all_splits = [split for report in reports for split in report.splits.values()]
    warnings = comparison_warnings(reports)
    compared = None if len(reports) < 2 or warnings else differences(reports)
    return templates.get_template(TEMPLATE).render(
        runs=[run_context(report) for report in reports],
        headlines=[name for name in HEADLINES if any(name in split.overall for split in all_splits)],
        warnings=warnings,
        compared=compared if isinstance(compared, Differences) else None,
        not_compared=compared if isinstance(compared, str) else None,
        annotation=None if len(reports) < 2 or warnings else embed_annotation(reports),
        version=__version__,
        title=_title(reports[0]) if len(reports) == 1 else f"{len(reports)} runs compared",
        max_ids=MAX_IDS,
    )


def write_page(reports: Sequence[RunReport], out: Path) -> int:
    """Write the page completely or not at all; returns its size in bytes.

    Raises:
        StorageError: the disk refuses.
    """
    content = render(reports).encode()
    with disk_errors("write", out), atomic_write(out) as temporary:
        temporary.write_bytes(content)
    return len(content)


def is_report(path: Path) -> bool:
    """Whether a file is a page that was written by :func:`write_page`."""
    with path.open("rb") as file:
        return _GENERATOR in file.read(_HEAD_BYTES)


def run_context(report: RunReport) -> dict[str, Any]:
    """What the template shows of a run."""
    embedded = embed_figures(report)
    splits = [split for split in ("test", "val") if split in report.splits]
    names = dict.fromkeys(name for split in splits for name in report.splits[split].overall)
    by_defect = {split: report.splits[split].by_defect for split in splits}
    by_size = {split: _with_limits(report.splits[split].by_region_size) for split in splits}
    return {
        "report": report,
        "title": _title(report),
        "method_title": methods.spec(report.tags["method"]).title if report.tags.get("method") in methods.names() else None,
        "splits": splits,
        "metrics": [(name, [report.splits[split].overall.get(name) for split in splits]) for name in names],
        "tiles": _tiles(report),
        "lacks_anomalies": _lacks_anomalies(report),
        "groups": {
            "Defect types": [(split, *_table(groups)) for split, groups in by_defect.items() if groups],
            "Sizes of defect regions": [(split, *_table(groups)) for split, groups in by_size.items() if groups],
        },
        "galleries": [figure for figure in embedded if "_gallery_" in figure.name],
        "curves": {
            split: [f for f in embedded if f.name.startswith(f"{split}_") and not f.name.startswith(_NOT_CURVES)]
            for split in SPLITS
        },
        "defects": [figure for figure in embedded if figure.name == "test_defects"],
        "training": [figure for figure in embedded if figure.name == "training"],
        "others": [f for f in embedded if not f.name.startswith(("test_", "val_")) and f.name != "training"],
        "decisions": decisions(report.thresholds),
        "changes": changes(report.thresholds),
        "counts": counts(report),
        "card": None if report.card is None else markdown_to_html(report.card),
    }


def number(value: float | None) -> str:
    """A metric with three digits, which is as precise as a few hundred images can make it."""
    return "" if value is None else f"{value:.3f}"


def duration(report: RunReport) -> str:
    """How long a run took, in words; "" while it runs."""
    if report.started_at is None or report.ended_at is None:
        return ""
    seconds = round((report.ended_at - report.started_at).total_seconds())
    minutes, hours = seconds // 60, seconds // 3600
    return f"{seconds} s" if not minutes else f"{minutes} min {seconds % 60} s" if not hours else f"{hours} h {minutes % 60} min"


def markdown_to_html(text: str) -> str:
    """Markdown as HTML: tags in it are escaped, images are left out, and only https links work.

    Headings start at the fourth level, below those of the page.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    parser.validateLink = lambda url: url.startswith("https://")  # type: ignore[method-assign]
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 3)}"
    return str(parser.renderer.render(tokens, parser.options, {}))


def counts(report: RunReport) -> list[tuple[str, bool, list[int | None]]]:
    """Images by label, then the anomalous ones by type: ``(name, whether it is a type, [training, validation, test])``."""
    stored: Mapping[str, int] = report.data.get("counts", {})
    labels = sorted({name.split("/")[1] for name in stored if name.count("/") == 1}, reverse=True)
    table_rows: list[tuple[str, bool, list[int | None]]] = [
        (label, False, [stored.get(f"{split}/{label}", 0) for split in ("train", "val", "test")]) for label in labels
    ]
    types = {split: report.splits[split].by_defect for split in ("val", "test") if split in report.splits}
    for defect in sorted({name for by_defect in types.values() for name in by_defect}):
        of_type = [types[split].get(defect, MetricGroup(0, {})).count if split in types else None for split in ("val", "test")]
        table_rows.append((defect, True, [None, *of_type]))
    return table_rows


def comparison_warnings(reports: Sequence[RunReport]) -> list[str]:
    """Why the metrics of these runs cannot be compared."""
    if len(reports) < 2:
        return []
    warnings = []
    evaluated = [report for report in reports if report.splits]
    if len({report.tags.get("data_fingerprint") for report in evaluated}) > 1:
        warnings.append("The runs used different data.")
    elif len({report.split.test for report in evaluated if report.split}) > 1:
        warnings.append("The runs were tested on different images.")
    if len({report.tags.get("metrics_version") for report in evaluated}) > 1:
        warnings.append("The metrics were computed by different versions of their definitions.")
    return warnings


def _title(report: RunReport) -> str:
    data = str(report.data.get("uri", "")).rstrip("/").rsplit("/", 1)[-1]
    return f"{report.tags.get('method', report.name)} on {data}" if data else report.name


def _split_name(split: str) -> str:
    return SPLITS.get(split, split)


def _tiles(report: RunReport) -> list[tuple[str, Estimate]]:
    overall = report.splits["test"].overall if "test" in report.splits else {}
    return [(name, overall[name]) for name in HEADLINES if name in overall and overall[name].value is not None]


def _lacks_anomalies(report: RunReport) -> bool:
    """Whether the test split is known to have no anomalous images."""
    stored = report.data.get("counts", {})
    return "test" in report.splits and bool(stored) and not stored.get("test/anomalous")


def _table(groups: Mapping[str, MetricGroup]) -> tuple[list[str], list[tuple[str, int | None, list[Estimate | None]]]]:
    """Names of the metrics, and for each group its name, count and estimates."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group.metrics))
    return names, [(key, group.count, [group.metrics.get(name) for name in names]) for key, group in groups.items()]


def _with_limits(sizes: Mapping[str, MetricGroup]) -> dict[str, MetricGroup]:
    """Sizes of regions with their limits: ``small (below 0.1 % of the image)``."""
    names = {}
    for size, (low, high) in SIZES.items():
        limits = [f"from {100 * low:g} %"] if low else []
        limits += [f"below {100 * high:g} %"] if math.isfinite(high) else []
        names[size] = f"{size} ({', '.join(limits)} of the image)"
    return {names.get(size, size): group for size, group in sizes.items()}
