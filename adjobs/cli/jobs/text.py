"""Jobs of the queue as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from adjobs.cli.output import table

STATES = ("queued", "starting", "running", "done", "failed", "stopped")
ENDED = STATES[3:]


def listing(jobs: Sequence[dict[str, Any]], now: float) -> str:
    """One line for each job."""
    if not jobs:
        return "no jobs; submit one with: adjobs submit job.yaml"
    rows = [
        [
            job["id"],
            job["state"] + (f" {job['position']}" if job.get("position") else ""),
            job["user"],
            job["name"],
            f"{job['verb']} {job['method'] or ('methods' if job['verb'] == 'compare' else 'job')}",
            age(now - job["created_at"]),
            str(job["attempt"]),
            job["run_id"] or "-",
            (progress_text(job["progress"]) if job["state"] == "running" else "") or job["why"] or "-",
        ]
        for job in jobs
    ]
    return table(rows, ["job", "state", "user", "name", "what", "age", "attempt", "run", "progress or reason"])


def details(job: dict[str, Any], now: float) -> str:
    """A job with its history."""
    lines = [
        f"job         {job['id']} ({job['name']})",
        f"state       {job['state']}: {job['explanation']}",
        f"what        {job['verb']} {job['method'] or 'methods'} on {job['data']}",
        f"user        {job['user']}, priority {job['priority']}",
        f"attempt     {job['attempt']} of {job['max_attempts']}",
        f"submitted   {age(now - job['created_at'])} ago",
        f"run         {job['run_id'] or 'not opened yet'}",
    ]
    if job["progress"]:
        lines.append(f"progress    {progress_text(job['progress'])}")
    if job["started_at"]:
        lines.append(f"ran for     {age((job['ended_at'] or now) - job['started_at'])}")
    rows = [
        [f"{datetime.fromtimestamp(change['time']):%Y-%m-%d %H:%M:%S}", change["state"], str(change["attempt"]), change["reason"]]
        for change in job["history"]
    ]
    return "\n".join([*lines, "", ""]) + table(rows, ["time", "state", "attempt", "reason"])


def progress_text(progress: Mapping[str, Any] | None) -> str:
    """How far a job is; nothing before its first word.

    >>> progress_text({"stage": "distil", "done": 120, "total": 3000, "loss": 2.7813, "seconds_left": 610.0})
    'distil 120/3000, loss 2.78, 10 min left'
    """
    if not progress:
        return ""
    terms = [f"{progress['stage']} {progress['done']}/{progress['total']}"]
    if progress.get("loss") is not None:
        terms.append(f"loss {progress['loss']:.3g}")
    if progress.get("seconds_left") is not None:
        terms.append(f"{age(progress['seconds_left'])} left")
    return ", ".join(terms)


def age(seconds: float) -> str:
    """A duration in its largest unit.

    >>> age(59), age(7200), age(200_000)
    ('59 s', '2 h', '2 d')
    """
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
