"""``adjobs train``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from adjobs.cli.output import table, verb
from adjobs.errors import JobError


@click.command()
@click.argument("job_file", required=False, type=click.Path(path_type=Path))
@click.option("--method", help="The method, in place of the job file's.")
@click.option("--data", "uri", help="Folder, s3:// URI, or the word elpv; in place of the job file's data.uri.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one key, such as params.gamma=3. Repeatable.")
@click.option("--local", is_flag=True, help="Train in this process, without Ray.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was interrupted.")
@verb
def command(
    job_file: Path | None,
    method: str | None,
    uri: str | None,
    settings: tuple[str, ...],
    local: bool,
    resume: str | None,
) -> tuple[dict[str, Any], str]:
    """Train a method as a job and record the run in MLflow.

    \b
    adjobs train job.yaml
    adjobs train --method cdo --data elpv --set params.epochs=4 --set data.image_size=128
    adjobs train --resume RUN
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    from adjobs.config import resolve
    from adjobs.config import settings as places

    if resume is not None:
        if job_file or method or uri or settings:
            raise JobError("--resume: takes the job from the run; leave out the job file, --method, --data and --set")
        prepared = None
    else:
        document = resolve.read_job(job_file) if job_file else {}
        if not document and method is None and uri is None:
            raise JobError("nothing to train: give a job file, or --method and --data, or --resume RUN")
        if method is not None:
            document["method"] = method
        if uri is not None:
            document["data"] = {**(document.get("data") or {}), "uri": uri}
        prepared = resolve.resolve(resolve.override(document, settings), source=str(job_file or "job"))
    found = places.load()

    from adjobs.jobs import run
    from adjobs.training.progress import ProgressBar

    with ProgressBar() as bar:
        if prepared is None:
            summary = run.resume(str(resume), found, on_progress=bar)
        else:
            summary = run.train(prepared, found, local=local, on_progress=bar)
    return summary, describe(summary)


def describe(summary: dict[str, Any]) -> str:
    """The summary for a person."""
    speed = summary["images_per_s"]
    trained = "no training" if speed is None else f"{speed:.1f} training images/s"
    pixel = summary["pixel_threshold"]
    lines = [
        f"method      {summary['method']}",
        f"data        {summary['data']}, fingerprint {summary['data_fingerprint'][:16]}",
        f"speed       {trained}, {summary['ms_per_image']:.1f} ms per test image",
        f"threshold   {summary['threshold']['value']:.6g}: {summary['threshold']['meaning']}",
        *([f"pixels      {pixel['value']:.6g}: {pixel['meaning']}"] if pixel else []),
        "",
        _measures(summary),
        "",
        f"run         {summary['run_id']} (experiment {summary['experiment']}, round {summary['selected_round']} selected)",
        f"model       {summary['model']}",
        f"MLflow      {summary['run_url'] or summary['tracking_uri']}",
        f"took        {summary['seconds']:.0f} s",
    ]
    return "\n".join(lines)


def _measures(summary: dict[str, Any]) -> str:
    """Validation and test side by side, the test with its intervals; what is defined in neither comes last, with the reason."""
    metrics, intervals = summary["metrics"], summary["intervals"]
    names = list(dict.fromkeys(name.split("/", 1)[1] for name in metrics))
    rows, missing = [], defaultdict(list)
    for name in names:
        val, test = metrics.get(f"val/{name}"), metrics.get(f"test/{name}")
        if val is None and test is None:
            reasons = summary["reasons"]
            missing[reasons.get(f"test/{name}") or reasons.get(f"val/{name}", "")].append(name)
            continue
        low, high = intervals.get(f"test/{name}", (None, None))
        between = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        rows.append([name, *("-" if value is None else f"{value:.3f}" for value in (val, test)), between])
    found = table(rows, ["measure", "val", "test", "95 % interval"])
    return "\n".join([found, *(f"undefined: {', '.join(names)} ({reason})" for reason, names in missing.items())])
