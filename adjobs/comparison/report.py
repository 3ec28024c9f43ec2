"""What a comparison stores for people: a summary, the result as JSON, and a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adjobs.comparison.result import ComparisonResult, CurvePoint, MethodResult, MethodState, Ranking
from adjobs.evaluation.compare import Difference
from adjobs.reporting import figures
from adjobs.reporting.description import DESCRIPTION_FIGURE, markdown_table
from adjobs.reporting.figures.style import metric_name
from adjobs.tracking.comparison import RESULT_FILE, SUMMARY_FILE
from adjobs.tracking.layout import DESCRIPTION_DPI, FIGURES, artifact_link
from adjobs.tracking.writer import RunWriter


def log_report(writer: RunWriter, result: ComparisonResult) -> None:
    """Store summary, result and figure in the run of the comparison, and tag it with the choice."""
    metric, chosen = result.ranking.metric, result.ranking.chosen
    tested = result.test.get(metric)
    values = {f"chosen/val/{metric}": chosen.complete.values[metric], f"chosen/test/{metric}": tested and tested.value}
    writer.log_metrics(values, len(result.ranking.complete))
    writer.log_json(result.to_dict(), RESULT_FILE)
    writer.log_text(summarise(result), SUMMARY_FILE)
    figure = draw(result.ranking)
    writer.log_figure(figure, f"{FIGURES}/comparison.png")
    writer.log_figure(figure, DESCRIPTION_FIGURE, DESCRIPTION_DPI)
    writer.set_description(describe(result, artifact_link(writer.ref.run_id, DESCRIPTION_FIGURE)))
    writer.set_tags({"chosen": result.chosen, "chosen_run": result.chosen_run})


def draw(ranking: Ranking) -> figures.Figure:
    """The methods by metric and cost, and the learning curves."""
    metric = ranking.metric
    points = [
        figures.ComparedMethod(
            name=method.name,
            value=method.complete.values[metric],
            difference=method.difference and (method.difference.low, method.difference.high),
            ms_per_image=method.complete.ms_per_image,
            is_tied=method.is_tied,
            curve=tuple(
                [(point.train_anomalies, point.value) for point in reversed(ranking.curves) if _is_drawn(point, method)]
                + [(ranking.train_anomalies, method.complete.values[metric])]
            ),
        )
        for method in ranking.complete
    ]
    return figures.comparison(points, metric)


def _is_drawn(point: CurvePoint, method: MethodResult) -> bool:
    return point.name == method.name and point.value is not None


def table_header(ranking: Ranking) -> list[str]:
    """Heads of the columns of :func:`table_rows`."""
    return [
        "",
        "method",
        metric_name(ranking.metric),
        "to the best",
        "p",
        "train s",
        "ms/image",
        "memory MiB",
        "size MiB",
        "note",
    ]


def table_rows(ranking: Ranking) -> list[list[str]]:
    """The compared methods, the best first; the recommended one has a mark."""
    chosen = ranking.chosen
    return [_row(method, ranking.metric, is_chosen=method is chosen) for method in ranking.complete]


def _row(method: MethodResult, metric: str, *, is_chosen: bool) -> list[str]:
    outcome, difference = method.complete, method.difference
    notes = ["tied"] if method.is_tied and difference is not None else []
    notes += [f"time limit at {stage}" for stage in outcome.cut_stages]
    p_value = None if difference is None else difference.p_value
    return [
        "*" if is_chosen else "",
        method.name,
        f"{outcome.values[metric]:.4f}",
        "best" if difference is None else describe_difference(difference),
        "" if p_value is None else f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001",
        f"{outcome.train_seconds:.0f}",
        f"{outcome.ms_per_image:.1f}",
        f"{outcome.peak_memory_mib:.0f}",
        f"{outcome.detector_mib:.1f}",
        ", ".join(notes),
    ]


def describe_difference(difference: Difference) -> str:
    """Such as ``-0.012 (-0.031 to +0.004)``."""
    if difference.value is None:
        return difference.reason
    if difference.low is None or difference.high is None:
        return f"{difference.value:+.3f}"
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def curve_header(ranking: Ranking) -> list[str]:
    """Heads of the columns of :func:`curve_rows`."""
    return ["method", "labelled anomalies", metric_name(ranking.metric), f"gain with all {ranking.train_anomalies}"]


def curve_rows(ranking: Ranking) -> list[list[str]]:
    """The points of the learning curves."""
    return [
        [
            point.name,
            str(point.train_anomalies),
            "" if point.value is None else f"{point.value:.4f}",
            f"not trained: {point.reason}" if point.gain is None else describe_difference(point.gain),
        ]
        for point in ranking.curves
    ]


def not_compared(ranking: Ranking) -> list[str]:
    """A line for each method that is not in the table."""
    words = {MethodState.FAILED: "failed", MethodState.EXCLUDED: "left out"}
    return [f"{method.name} {words[method.state]}: {method.reason}" for method in ranking.methods if method.outcome is None]


def describe_counts(ranking: Ranking) -> str:
    """What the ranking rests on."""
    normal, anomalous = (ranking.val_counts.get(label, 0) for label in ("normal", "anomalous"))
    return (
        f"{normal} normal and {anomalous} anomalous images in validation; {ranking.train_anomalies} labelled anomalies in "
        f"training; at most {ranking.seconds_each:.0f} s of training for each method"
    )


def describe_test(result: ComparisonResult) -> str:
    """The metrics of the chosen method on the test split that matter most."""
    texts = []
    for name in dict.fromkeys((result.ranking.metric, "image_auroc", "pixel_ap")):
        estimate = result.test.get(name)
        if estimate is not None and estimate.value is not None:
            ends = "" if estimate.low is None or estimate.high is None else f" ({estimate.low:.3f} to {estimate.high:.3f})"
            texts.append(f"{metric_name(name)} {estimate.value:.3f}{ends}")
    return f"{result.chosen} on the test split, which chose nothing: {', '.join(texts)}"


def summarise(result: ComparisonResult) -> str:
    """The result as Markdown."""
    return "\n".join([f"# Which method for {result.data}", "", *_summary(result, _markdown)]).rstrip() + "\n"


def describe(result: ComparisonResult, figure: str) -> str:
    """The same for MLflow's page of the run, with the figure at an address."""
    return "\n".join([*_summary(result, markdown_table), "", f"![methods by metric and cost]({figure})"])


def _summary(result: ComparisonResult, table: Callable[[Sequence[str], Sequence[Sequence[str]]], list[str]]) -> list[str]:
    ranking = result.ranking
    return [
        " ".join(result.recommendation),
        "",
        f"{describe_test(result)}.",
        "",
        *table(table_header(ranking), table_rows(ranking)),
        "",
        f"{describe_counts(ranking)}. The intervals of the differences hold together with 95 % confidence.",
        "",
        *([*table(curve_header(ranking), curve_rows(ranking)), ""] if ranking.curves else []),
        *(f"- {line}" for line in not_compared(ranking)),
    ]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [list(header), ["---"] * len(header), *map(list, rows)]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
