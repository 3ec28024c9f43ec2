"""What a person should know of a job before it trains: the labels that it learns from, and the warnings of its data."""

from __future__ import annotations

import json
import logging
import shlex
from collections import Counter
from collections.abc import Mapping

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.data.dataset import Sample
from adjobs.errors import shorten
from adjobs.jobs.data import PreparedData
from adjobs.jobs.places import describe_choice
from adjobs.jobs.prepare import PreparedJob
from adjobs.methods.contract import LabelParam

log = logging.getLogger(__name__)

RANKS: Mapping[str, int] = {"none": 0, "image labels": 1, "boxes": 2, "blocks": 3, "masks": 4}
"""Kinds of labels, the more detailed the higher; each can be coarsened to those below it."""


def announce_job(prepared: PreparedJob) -> None:
    """Log which labels a job learns from, what follows from its places, and how many warnings the check of its data has."""
    job, data, places = prepared
    log.info("labels: %s", describe_labels(job, data))
    if places is not None:
        log.info("places: %s", describe_choice(job, places))
    announce_warnings(job, data)


def announce_warnings(job: JobConfig, data: PreparedData) -> None:
    """Log how many warnings the check of a job's data has and the command that lists them; nothing without any."""
    warnings = [problem for problem in data.problems if problem.severity == "warning"]
    excluded = len({problem.sample for problem in data.problems if problem.severity == "error"})
    remedy = f"list all with '{check_command(job)}'"
    if excluded:
        log.warning(
            "data: %s left out; %s", "1 image with errors is" if excluded == 1 else f"{excluded} images with errors are", remedy
        )
    if warnings:
        counts = Counter(problem.kind for problem in warnings)
        kinds = shorten(", ".join(f"{kind} {count}" for kind, count in counts.most_common()))
        number = "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
        first = shorten(f"{warnings[0].sample or 'the data set'}: {warnings[0].message}", 300)
        log.warning("data: %s (%s), first: %s; %s", number, kinds, first, remedy)


def check_command(job: JobConfig) -> str:
    """The command that checks the data of a resolved job as the job itself does."""
    data = job.data
    scale = [] if data.value_range is None else ["--value-range", *(f"{value:g}" for value in data.value_range)]
    split = ["--protocol", data.protocol] if data.protocol else []
    split += [] if data.max_train_anomalies is None else ["--max-train-anomalies", str(data.max_train_anomalies)]
    split += ["--seed", str(data.seed)] if data.seed else []
    words = [
        *("adjobs", "data", "check", data.uri),
        *([] if data.format == "auto" else ["--format", data.format]),
        *(["--follow-links"] if data.follow_links else []),
        *(word for name in data.normal_classes or () for word in ("--normal-class", name)),
        *([] if data.version is None else ["--version", str(data.version)]),
        *(split if data.split is None else ["--split", data.split]),
        *("--method", job.method),
        *([] if data.bit_depth == "auto" else ["--bit-depth", str(data.bit_depth)]),
        *scale,
    ]
    return shlex.join(words)


def describe_labels(job: JobConfig, data: PreparedData) -> str:
    """Which labels of the training split a job learns from, which lie idle, and which key uses them; one sentence."""
    ids = set(data.split.train)
    anomalies = [sample for sample in data.dataset.samples if sample.id in ids and sample.label == "anomalous"]
    if not anomalies:
        return "learns from normal images alone; the training split has no labelled anomalies"
    kinds = Counter(_finest(sample) for sample in anomalies)
    rank = RANKS[job.supervision]
    if rank == RANKS["none"]:
        used = "learns from normal images alone"
    else:
        count = sum(number for kind, number in kinds.items() if RANKS[kind] >= rank)
        used = f"learns from the {job.supervision} of {count} of {len(anomalies)} anomalous training images"
    idle = {kind: number for kind, number in kinds.items() if RANKS[kind] > rank}
    if not idle:
        return used
    listed = ", ".join(f"{kind} of {idle[kind]}" for kind in sorted(idle, key=lambda kind: -RANKS[kind]))
    return f"{used}; labels that lie idle in the training split: {listed} images; {_remedy(job, idle)}"


def _finest(sample: Sample) -> str:
    """The most detailed label of an anomalous image."""
    if sample.mask is not None:
        return "masks"
    if sample.blocks is not None:
        return "blocks"
    return "boxes" if sample.boxes else "image labels"


def _remedy(job: JobConfig, idle: Mapping[str, int]) -> str:
    """Which key makes a job learn from labels that lie idle."""
    finest = max(RANKS[kind] for kind in idle)
    if RANKS[job.method_config().supervision_used] > RANKS[job.supervision]:
        return "to use them, set data.label_detail=full"
    rank = RANKS[job.supervision]
    usable = [param for param in methods.spec(job.method).label_params if rank < RANKS[param.supervision] <= finest]
    if not usable:
        return f"{job.method} cannot learn from them; 'adjobs methods' lists the labels that each method can learn from"
    best = max(usable, key=lambda param: RANKS[param.supervision])
    detail = " and data.label_detail=full" if _hides(job, best) else ""
    return f"to learn from {best.supervision}, set params.{best.param}={json.dumps(best.value).strip(chr(34))}{detail}"


def _hides(job: JobConfig, param: LabelParam) -> bool:
    """Whether the job shows training no labels as fine as those that a parameter uses."""
    detail = {"full": "masks", "image": "image labels"}.get(job.data.label_detail, job.data.label_detail)
    return RANKS[detail] < RANKS[param.supervision]
