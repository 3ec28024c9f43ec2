"""Makes the results of a search from its trials and the final training, and draws its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from adjobs.evaluation.result import compute_split_metrics
from adjobs.metrics.intervals import Estimate
from adjobs.reporting import figures
from adjobs.reporting.description import DESCRIPTION_FIGURE, markdown_table
from adjobs.reporting.figures.style import metric_name
from adjobs.tracking.layout import FIGURES, THRESHOLDS_FILE, RunRef, artifact_link
from adjobs.tracking.runs import open_reader, open_writer
from adjobs.tuning.objective import COSTS, Objective, pareto_front
from adjobs.tuning.result import Optimism, StudyResult, TrialResult
from adjobs.tuning.space import format_params
from adjobs.tuning.state import Trial, TrialState
from adjobs.tuning.trial_manager import TrialManager

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRIALS_WITH_FIGURES = 5  # the best ones: figures for hundreds of trials would take long and are hardly ever opened


def summarise_study(manager: TrialManager) -> StudyResult:
    """Make the result of a search's trials, of which at least one must be complete."""
    objectives, ranking = manager.study.objectives, manager.ranking()
    metrics = {objective.metric for objective in objectives} | set(COSTS)
    trials = {number: _trial_result(trial, metrics) for number, trial in sorted(manager.trials.items())}
    finalists = manager.finalists()
    front = pareto_front([trial.objective_values(objectives) or () for trial in ranking], objectives)
    baseline = manager.trials[0].values if manager.study.has_baseline_trial else {}
    return StudyResult(
        objectives=objectives,
        trials=tuple(trials.values()),
        best=trials[finalists[0].number],
        finalists=tuple(finalists),
        baseline=baseline.get(objectives[0].metric),
        pareto=tuple(sorted(ranking[i].number for i in front)) if len(objectives) > 1 else (),
        importance=manager.study.importance(),
        rejected_draws=manager.study.rejected_draws,
    )


def _trial_result(trial: Trial, metrics: set[str]) -> TrialResult:
    return TrialResult(
        number=trial.number,
        run_id=trial.run_id,
        params=trial.params,
        state=trial.state,
        reason=trial.reason,
        intervals=max(trial.history, default=None),
        seconds=trial.seconds,
        values={name: value for name, value in trial.values.items() if name in metrics},
    )


def draw_study(manager: TrialManager, result: StudyResult) -> dict[str, Figure]:
    """Figures of the whole search, by name."""
    summaries = [_figure_summary(trial, result.objectives) for trial in manager.searched]
    metrics = [objective.metric for objective in result.objectives]
    higher = [objective.direction == "max" for objective in result.objectives]
    return figures.of_search(summaries, metrics, higher, result.importance, result.pareto)


def _figure_summary(trial: Trial, objectives: tuple[Objective, ...]) -> figures.TrialSummary:
    is_pruned = trial.state == TrialState.PRUNED and trial.history
    return figures.TrialSummary(
        number=trial.number,
        params=trial.params,
        values=trial.objective_values(objectives) or (),
        pruned_at=list(trial.history.values())[-1] if is_pruned else None,
        is_failed=trial.state is not None and trial.state.is_failure,
    )


def log_figures_of_best(tracking_uri: str, ranking: Sequence[Trial]) -> None:
    """Draw the validation scores of the best trials into their runs."""
    for trial in ranking[:TRIALS_WITH_FIGURES]:
        run = RunRef(tracking_uri, trial.run_id)
        reader, writer = open_reader(run), open_writer(run)
        scores = reader.scores("val")
        threshold = float(reader.read_json(THRESHOLDS_FILE)["image"]["value"])
        metrics = compute_split_metrics(scores, threshold, None)
        for name, figure in figures.of_split(scores, threshold, "val", metrics).items():
            writer.log_figure(figure, f"{FIGURES}/val_{name}.png")


def compute_optimism(
    objectives: Sequence[Objective], best: Mapping[str, float], final: Mapping[str, Estimate]
) -> dict[str, Optimism]:
    """Compare validation, which chose the best among many trials, with test, which chose nothing.

    Args:
        objectives: of the search; costs are left out.
        best: values of the best trial.
        final: metrics of the final training, such as ``test/image_auroc``.
    """
    optimism: dict[str, Optimism] = {}
    for objective in objectives:
        metric = objective.metric
        if objective.is_cost:
            continue
        search, none = best[metric], Estimate(None)
        val, test = final.get(f"val/{metric}", none), final.get(f"test/{metric}", none)
        gap = None if test.value is None else search - test.value
        optimism[metric] = Optimism(
            search=search,
            val=val.value,
            test=test.value,
            test_low=test.low,
            test_high=test.high,
            gap=gap if gap is None or objective.direction == "max" else -gap,
        )
    return optimism


def describe_study(method: str, study: StudyResult, optimism: Mapping[str, Optimism], run_id: str, final_run: str) -> str:
    """A search in a few lines of Markdown, as MLflow's page of its run shows it."""
    metrics = [objective.metric for objective in study.objectives]
    best, promised = study.best, optimism.get(metrics[0])
    tested = "" if promised is None or promised.test is None else f"; trained in full, {promised.test:.4f} on the test images"
    baseline = "" if study.baseline is None else f" (the job as it is: {study.baseline:.4f})"
    rows = [
        [str(trial.number), *(_number(trial.values.get(name)) for name in metrics), format_params(trial.params)]
        for trial in study.ranking()[:TRIALS_WITH_FIGURES]
    ]
    blocks = [
        f"Best of {len(study.searched)} trials of `{method}`: trial {best.number}, validation {metric_name(metrics[0])} "
        f"{best.values[metrics[0]]:.4f}{baseline}{tested}.",
        "\n".join(markdown_table(["trial", *map(metric_name, metrics), "parameters"], rows)),
        *_describe_seeds(study),
        f"![the search, trial by trial]({artifact_link(run_id, DESCRIPTION_FIGURE)})",
        f"Use its model: `adjobs predict --model {final_run} IMAGES`. Train it again: `best.yaml` among the artifacts.",
    ]
    return "\n\n".join(blocks)


def _describe_seeds(study: StudyResult) -> list[str]:
    """The finalists with all their seeds."""
    if study.deviation_over_seeds is None:
        return []
    header, rows = study.seed_table()
    return ["\n".join(markdown_table(header, rows)), f"{study.seed_verdict()}."]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
