"""The report as one HTML page that needs nothing from outside: styles inside, pictures inside, no scripts."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from adjobs import methods
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.pixel_threshold import PixelThreshold, describe_pixels
from adjobs.metrics.region import SIZES
from adjobs.metrics.threshold import Threshold, describe
from adjobs.reporting import figures
from adjobs.reporting.figures.style import DPI, SPLITS, measure_name
from adjobs.reporting.report import Group, RunReport
from adjobs.storage.base import atomic_write, disk_errors
from adjobs.version import __version__

TEMPLATE = "report.html.j2"
HEADLINES = ("image_auroc", "image_ap", "image_recall", "image_specificity", "pixel_auroc", "au_pro")
PAGE_DPI = 108  # an inch of a figure on the page, in its pixels: type of 8.5 points is as large as a caption's
MOST_IDS = 2000  # image ids listed per part; the run has all of them
CAPTIONS = {
    "histogram": "Scores of good and of anomalous images. Each tick under the bars is one image; right of the dashed line an "
    "image raises an alarm.",
    "confusion": "Decisions at the threshold.",
    "roc": "How many anomalies are found at the price of how many false alarms, for every threshold. The dot is the threshold.",
    "pr": "How many alarms are right when so many of the anomalies are found. The dot is the threshold.",
    "pro": "How much of the defects' area is covered when so many good pixels are marked, each defect region weighing the same.",
    "defects": "Share of each type that is found at the threshold, and how well its scores stand out from those of good images.",
    "gallery_misses": "Anomalies with the lowest scores: those that the threshold lets pass.",
    "gallery_false_alarms": "Good images with the highest scores: those that raise an alarm.",
    "gallery_hits": "Anomalies with the highest scores.",
    "training": "The course of the training, round by round.",
    "annotation": "How well defects are located against the labels that a run learnt from. Each mark is one run, the line its "
    "interval.",
}


_APART = ("test_gallery_", "val_gallery_", "test_defects")  # shown elsewhere than among the curves


class Picture(NamedTuple):
    """A figure on the page: ``uri`` holds its bytes, ``width`` and ``height`` are those of the page, in its pixels."""

    name: str
    caption: str
    uri: str
    width: int
    height: int


class Decision(NamedTuple):
    """A threshold: what it decides, its policy and value, and what it promises in a sentence."""

    of: str
    policy: str
    value: float
    promise: str | None


class Change(NamedTuple):
    """A threshold that was chosen anew after the training: when, by whom, the value before (None for none), and the new one."""

    time: str
    by: str
    old: float | None
    new: Decision


KINDS: Mapping[str, type[Threshold] | type[PixelThreshold]] = {"image": Threshold, "pixel": PixelThreshold}


def render(reports: Sequence[RunReport]) -> str:
    """The page of one run, or of several with a comparison at the top."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"measure": measure_name, "number": number, "duration": duration, "part": _part_name}
    template = environment.from_string(files("adjobs.reporting").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    headlines = [name for name in HEADLINES if any(name in part.overall for r in reports for part in r.parts.values())]
    return template.render(
        runs=[view(report) for report in reports],
        headlines=headlines,
        cautions=cautions(reports),
        annotation=_annotation(reports),
        version=__version__,
        title=_title(reports[0]) if len(reports) == 1 else f"{len(reports)} runs compared",
        most_ids=MOST_IDS,
    )


def write(reports: Sequence[RunReport], out: Path) -> int:
    """Write the page as a whole or not at all; returns its size in bytes.

    Raises:
        StorageError: the disk refuses.
    """
    content = render(reports).encode()
    with disk_errors("write", out), atomic_write(out) as part:
        part.write_bytes(content)
    return len(content)


def view(report: RunReport) -> dict[str, Any]:
    """What the template shows of a run."""
    pictures = _pictures(report)
    found = [part for part in ("test", "val") if part in report.parts]
    names = dict.fromkeys(name for part in found for name in report.parts[part].overall)
    return {
        "report": report,
        "title": _title(report),
        "method_title": methods.spec(report.tags["method"]).title if report.tags.get("method") in methods.names() else None,
        "parts": found,
        "measures": [(name, [report.parts[part].overall.get(name) for part in found]) for name in names],
        "tiles": _tiles(report),
        "groups": {
            "Defect types": [(part, *_table(report.parts[part].by_defect)) for part in found if report.parts[part].by_defect],
            "Sizes of defect regions": [
                (part, *_table(_in_words(report.parts[part].by_region_size)))
                for part in found
                if report.parts[part].by_region_size
            ],
        },
        "galleries": [p for p in pictures if "_gallery_" in p.name],
        "curves": {
            part: [p for p in pictures if p.name.startswith(f"{part}_") and not p.name.startswith(_APART)] for part in SPLITS
        },
        "defects": [p for p in pictures if p.name == "test_defects"],
        "training": [p for p in pictures if p.name == "training"],
        "others": [p for p in pictures if not p.name.startswith(("test_", "val_")) and p.name != "training"],
        "decisions": decisions(report.thresholds),
        "changes": [change(one) for one in report.thresholds.get("history") or []],
        "counts": counts(report),
        "card": None if report.card is None else markdown(report.card),
    }


def number(value: float | None) -> str:
    """A measure with three digits, which tells apart what a few hundred images can tell apart."""
    return "" if value is None else f"{value:.3f}"


def duration(report: RunReport) -> str:
    """How long a run took, in words; "" while it runs."""
    if report.started is None or report.ended is None:
        return ""
    seconds = round((report.ended - report.started).total_seconds())
    minutes, hours = seconds // 60, seconds // 3600
    return f"{seconds} s" if not minutes else f"{minutes} min {seconds % 60} s" if not hours else f"{hours} h {minutes % 60} min"


def markdown(text: str) -> str:
    """Markdown as HTML: tags in it are shown, not obeyed; pictures are left out, and links lead to https alone.

    Headings start at the fourth level, below those of the page.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    parser.validateLink = lambda url: url.startswith("https://")  # type: ignore[method-assign]
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 3)}"
    return str(parser.renderer.render(tokens, parser.options, {}))


def decisions(thresholds: Mapping[str, Any]) -> list[Decision]:
    """The thresholds for images and for pixels, where a run has them."""
    return [decision(f"{level}s", thresholds[level], kind) for level, kind in KINDS.items() if thresholds.get(level)]


def change(stored: Mapping[str, Any]) -> Change:
    """One entry of the thresholds' history."""
    level, old = str(stored.get("level", "image")), stored.get("old")
    new = decision(f"{level}s", stored.get("new") or {}, KINDS.get(level, Threshold))
    return Change(str(stored.get("time", "")), str(stored.get("by", "")), None if old is None else float(old["value"]), new)


def decision(of: str, stored: Mapping[str, Any], kind: type[Threshold] | type[PixelThreshold]) -> Decision:
    """A stored threshold with its sentence; without one where an older version stored less than the sentence needs."""
    known = {item.name for item in fields(kind)}
    try:
        threshold = kind(**{name: value for name, value in stored.items() if name in known})
        promise = describe(threshold) if isinstance(threshold, Threshold) else describe_pixels(threshold)
    except TypeError:
        promise = None
    return Decision(of, str(stored.get("policy", "unknown")), float(stored.get("value", "nan")), promise)


def counts(report: RunReport) -> list[tuple[str, bool, list[int | None]]]:
    """Images by label, then the anomalous ones by type: ``(name, whether it is a type, [training, validation, test])``."""
    stored: Mapping[str, int] = report.data.get("counts", {})
    labels = sorted({name.split("/")[1] for name in stored if name.count("/") == 1}, reverse=True)
    rows: list[tuple[str, bool, list[int | None]]] = [
        (label, False, [stored.get(f"{part}/{label}", 0) for part in ("train", "val", "test")]) for label in labels
    ]
    types = {part: report.parts[part].by_defect for part in ("val", "test") if part in report.parts}
    for defect in sorted({name for found in types.values() for name in found}):
        of_type = [types[part].get(defect, Group(0, {})).count if part in types else None for part in ("val", "test")]
        rows.append((defect, True, [None, *of_type]))
    return rows


def cautions(reports: Sequence[RunReport]) -> list[str]:
    """What forbids to compare runs number by number."""
    if len(reports) < 2:
        return []
    found = []
    measured = [report for report in reports if report.parts]
    if len({report.tags.get("data_fingerprint") for report in measured}) > 1:
        found.append("The runs saw different data.")
    elif len({report.split.test for report in measured if report.split}) > 1:
        found.append("The runs were tested on different images.")
    if len({report.tags.get("metrics_version") for report in measured}) > 1:
        found.append("The measures were computed by different versions of their definitions.")
    return found


def _title(report: RunReport) -> str:
    data = str(report.data.get("uri", "")).rstrip("/").rsplit("/", 1)[-1]
    return f"{report.tags.get('method', report.name)} on {data}" if data else report.name


def _part_name(part: str) -> str:
    return SPLITS.get(part, part)


def _tiles(report: RunReport) -> list[tuple[str, Estimate]]:
    overall = report.parts["test"].overall if "test" in report.parts else {}
    return [(name, overall[name]) for name in HEADLINES if name in overall and overall[name].value is not None]


def _table(groups: Mapping[str, Group]) -> tuple[list[str], list[tuple[str, int | None, list[Estimate | None]]]]:
    """Names of the measures, and a row for each group."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group.measures))
    return names, [(key, group.count, [group.measures.get(name) for name in names]) for key, group in groups.items()]


def _in_words(sizes: Mapping[str, Group]) -> dict[str, Group]:
    """Sizes of regions with what they mean: ``small (below 0.1 % of the image)``."""
    words = {}
    for size, (low, high) in SIZES.items():
        limits = [f"from {100 * low:g} %"] if low else []
        limits += [f"below {100 * high:g} %"] if math.isfinite(high) else []
        words[size] = f"{size} ({', '.join(limits)} of the image)"
    return {words.get(size, size): group for size, group in sizes.items()}


def _pictures(report: RunReport) -> list[Picture]:
    """The run's figures in the order of the captions, and its course, which a run that failed has not drawn itself."""
    contents = dict(report.figures)
    if "training" not in contents:
        selected = report.tags.get("selected_checkpoint", "")
        course = figures.training(report.history, int(selected) if selected.isdigit() else None)
        if course is not None:
            contents["training"] = _png(course)
    order = list(CAPTIONS)

    def place(name: str) -> tuple[int, str]:
        kind = _kind(name)
        return (order.index(kind) if kind in CAPTIONS else len(order), name)

    return [_picture(name, contents[name]) for name in sorted(contents, key=place)]


def _annotation(reports: Sequence[RunReport]) -> Picture | None:
    """The picture of what labels are worth; None where the runs cannot be compared, or learnt from the same labels."""
    if len(reports) < 2 or cautions(reports):
        return None
    marks = [
        figures.Labelled(
            report.tags.get("method", ""), report.tags.get("supervision", ""), report.parts["test"].overall["pixel_ap"]
        )
        for report in reports
        if "test" in report.parts and "pixel_ap" in report.parts["test"].overall
    ]
    drawn = figures.annotation(marks)
    return None if drawn is None else _picture("annotation", _png(drawn))


def _png(drawn: Figure) -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png")
    return buffer.getvalue()


def _picture(name: str, content: bytes) -> Picture:
    width, height = (round(int.from_bytes(content[at : at + 4], "big") * PAGE_DPI / DPI) for at in (16, 20))  # PNG's header
    uri = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return Picture(name, CAPTIONS.get(_kind(name), name), uri, width, height)


def _kind(name: str) -> str:
    """The name of a figure without its part: ``roc`` for ``test_roc``."""
    return name.removeprefix("test_").removeprefix("val_")
