"""``adjobs train``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adjobs.cli.output import table, verb
from adjobs.errors import JobError
from adjobs.waits import waiting_for

PIXEL_METRICS = ("pixel_ap", "au_pro")  # of defect types

if TYPE_CHECKING:
    from adjobs.jobs.result import TrainResult
    from adjobs.metrics.intervals import Estimate


@click.command()
@click.argument("job_file", required=False, type=click.Path(path_type=Path))
@click.option("--method", help="Method to train, in place of the job file's.")
@click.option(
    "--data",
    "uri",
    help="Folder, s3:// URI, or elpv for the installed package elpv-dataset; in place of the job file's data.uri.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key, such as params.gamma=3. Repeatable."
)
@click.option("--local", is_flag=True, help="Train in this process, without Ray.")
@click.option(
    "--resume", "run_id", metavar="RUN", help="Resume a run that was interrupted, as it was started; no other option is allowed."
)
@verb
def command(
    job_file: Path | None,
    method: str | None,
    uri: str | None,
    overrides: tuple[str, ...],
    local: bool,
    run_id: str | None,
) -> tuple[TrainResult, str]:
    """Train a method as a job and record the run in MLflow.

    \b
    adjobs train job.yaml
    adjobs train --method cdo --data elpv --set params.epochs=4 --set data.image_size=128
    adjobs train --resume RUN
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    from adjobs.config import resolve
    from adjobs.config.environment import load_settings

    if run_id is not None:
        if job_file or method or uri or overrides or local:
            raise JobError(
                "--resume: takes the job, and where it trains, from the run; remove the job file and all other options"
            )
        job = None
    else:
        document = resolve.read_job(job_file) if job_file else {}
        if not document and method is None and uri is None:
            raise JobError("nothing to train: give a job file, or --method and --data, or --resume RUN")
        if method is not None:
            document["method"] = method
        if uri is not None and isinstance(document.get("data") or {}, dict):  # resolve refuses anything else
            document["data"] = {**(document.get("data") or {}), "uri": uri}
        job = resolve.resolve(resolve.override(document, overrides), source=str(job_file or "job"))
    settings = load_settings()

    from adjobs.cli.signals import close_runs_when_stopped

    with waiting_for("loading PyTorch"):
        from adjobs.jobs import run
    from adjobs.tracking.runs import find_run
    from adjobs.training.progress import ProgressBar

    with close_runs_when_stopped(), ProgressBar() as bar:
        if job is None:
            result = run.resume(find_run(settings.tracking_uri, settings.home, str(run_id)), settings, on_progress=bar)
        else:
            result = run.train(job, settings, backend="local" if local else "ray", on_progress=bar)
    return result, describe(result)


def describe(result: TrainResult) -> str:
    """The result for a person."""
    evaluation = result.evaluation
    image, pixel = evaluation.thresholds.image, evaluation.thresholds.pixel
    speed = "no training" if result.images_per_s is None else f"{result.images_per_s:.1f} training images/s"
    experiment = "" if result.experiment is None else f"experiment {result.experiment}, "
    lines = [
        f"method      {result.method}",
        f"data        {result.data}, fingerprint {result.data_fingerprint[:16]}",
        f"speed       {speed}, {evaluation.ms_per_image:.1f} ms per test image",
        f"threshold   {image.value:.6g}: {image.describe()}",
        *([f"pixels      {pixel.value:.6g}: {pixel.describe()}"] if pixel else []),
        "",
        metric_table(evaluation.estimates),
        *_pixel_metrics_by_defect(result),
        "",
        f"run         {result.run_id} ({experiment}checkpoint {result.selected_checkpoint} selected)",
        f"model       {result.model}",
        f"tracked in  {result.run_url or result.tracking_uri}",
        f"took        {result.seconds:.0f} s",
    ]
    return "\n".join(lines)


def metric_table(estimates: Mapping[str, Estimate]) -> str:
    """Validation and test side by side, the test with its intervals; metrics defined in neither come last, with the reason.

    Args:
        estimates: by names such as ``test/image_auroc``.
    """
    names = list(dict.fromkeys(name.split("/", 1)[1] for name in estimates))
    rows, undefined = [], defaultdict(list)
    for name in names:
        val, test = estimates.get(f"val/{name}"), estimates.get(f"test/{name}")
        values = [None if estimate is None else estimate.value for estimate in (val, test)]
        if values == [None, None]:
            reasons = [estimate.reason for estimate in (test, val) if estimate is not None and estimate.reason]
            undefined[next(iter(reasons), "")].append(name)
            continue
        interval = "" if test is None or test.low is None or test.high is None else f"{test.low:.3f} to {test.high:.3f}"
        rows.append([name, *("-" if value is None else f"{value:.3f}" for value in values), interval])
    text = table(rows, ["metric", "val", "test", "95 % interval"])
    reasons = [f"undefined: {', '.join(names)} ({reason})" for reason, names in undefined.items()]
    return "\n".join([text, *reasons])


def _pixel_metrics_by_defect(result: TrainResult) -> list[str]:
    """Where the test images as a whole have no pixel metrics: those of the defect types that have some, in a line."""
    test = result.evaluation.splits.get("test")
    if test is None or "pixel_ap" not in test.overall or test.overall["pixel_ap"].value is not None:
        return []
    known = {
        defect: [
            f"{name} {metrics[name].value:.3f}" for name in PIXEL_METRICS if name in metrics and metrics[name].value is not None
        ]
        for defect, metrics in test.by_defect.items()
    }
    texts = [f"{defect} {', '.join(values)}" for defect, values in known.items() if values]
    return [f"by defect type, test: {'; '.join(texts)}"] if texts else []
