"""Runs by the start of their id or by their name: nobody types 32 digits."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adjobs.errors import TrackingError, shorten, shown
from adjobs.tracking.client import SQLITE, connect, hint_of_stopped_stack, mlflow_errors, sqlite_file
from adjobs.tracking.layout import RUN_FILE

SHORT_ID = 8
"""Digits of an id that lists show."""

MIN_DIGITS = 4
"""Digits from which on the start of an id is taken for one."""

_FULL_ID = re.compile(r"[0-9a-f]{32}")
_START = re.compile(rf"[0-9a-f]{{{MIN_DIGITS},31}}")
_MAX_NAME = 250  # characters; MLflow allows no more
_SHOWN = 5  # candidates that a refusal lists


class Candidate(NamedTuple):
    """A run that a text may stand for."""

    tracking_uri: str
    run_id: str
    name: str
    status: str


def is_full_id(text: str) -> bool:
    """Whether a text is a whole id."""
    return _FULL_ID.fullmatch(text) is not None


def is_start_of_id(text: str) -> bool:
    """Whether a text may be the start of an id."""
    return _START.fullmatch(text) is not None


def has_runs(uri: str) -> bool:
    """Whether there can be runs at a tracking URI; a SQLite file that does not exist yet is not made for the question."""
    return not uri.startswith(SQLITE) or sqlite_file(uri).exists()


def choose(text: str, candidates: Sequence[Candidate], uri: str) -> Candidate:
    """The run that a text stands for.

    Args:
        text: start of an id, or a name.
        candidates: the runs that match it.
        uri: tracking URI of MLflow, for the hint that its stack is stopped.

    Raises:
        TrackingError: there is none, or there are several, which are listed.
    """
    if not candidates:
        advice = "give an id or a name that 'adjobs runs list' shows"
        if re.fullmatch(rf"[0-9a-f]{{1,{MIN_DIGITS - 1}}}", text):
            advice = f"give at least {MIN_DIGITS} digits of its id, or its name; 'adjobs runs list' shows both"
        raise TrackingError(f"run {shown(text)}: not found; {advice}{hint_of_stopped_stack(uri)}")
    if len(candidates) > 1:
        digits = _distinct_digits([candidate.run_id for candidate in candidates])
        listed = [f"{each.run_id[:digits]} ({shorten(each.name, 60)}, {each.status})" for each in candidates[:_SHOWN]]
        more = " and more" if len(candidates) > _SHOWN else ""
        raise TrackingError(f"run {shown(text)}: stands for {', '.join(listed)}{more}; give more digits of the id")
    return candidates[0]


def mlflow_candidates(client: Any, uri: str, text: str) -> list[Candidate]:
    """The runs of MLflow whose id starts with a text, or that have it as their name; of more than five only six.

    Args:
        client: of MLflow.
        uri: its tracking URI.
        text: start of an id, or a name.

    Raises:
        TrackingError: MLflow does not answer.
    """
    filters = [f"attributes.run_id LIKE '{text}%'"] if is_start_of_id(text) else []
    quote = next((mark for mark in "'\"" if mark not in text), None)
    if quote is not None and 0 < len(text) <= _MAX_NAME and text.isprintable():
        filters.append(f"attributes.run_name = {quote}{text}{quote}")
    runs: dict[str, Candidate] = {}
    with mlflow_errors(uri):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()] if filters else []
        for condition in filters if experiments else []:
            for run in client.search_runs(experiments, condition, max_results=_SHOWN + 1):
                run_id = str(run.info.run_id)
                runs[run_id] = Candidate(uri, run_id, run.info.run_name or run_id, str(run.info.status))
    return list(runs.values())


def folder_candidates(folder: Path, uri: str, text: str) -> list[Candidate]:
    """The same of the runs without MLflow.

    Args:
        folder: that holds a folder for each run.
        uri: its tracking URI.
        text: start of an id, or a name.
    """
    is_start = is_start_of_id(text)
    candidates = []
    for path in sorted(folder.glob(f"*/{RUN_FILE}")):
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            candidate = Candidate(uri, path.parent.name, str(state["name"]), str(state["status"]))
        except (OSError, ValueError, KeyError, TypeError):  # damaged; the whole id leads to an error that says so
            continue
        if candidate.name == text or (is_start and candidate.run_id.startswith(text)):
            candidates.append(candidate)
    return candidates


def find_in_mlflow(client: Any, uri: str, text: str) -> str:
    """The whole id of a run of MLflow.

    Args:
        client: of MLflow.
        uri: its tracking URI.
        text: an id, the start of one, or a name.

    Raises:
        TrackingError: there is no such run, or there are several, or MLflow does not answer.
    """
    return text if is_full_id(text) else choose(text, mlflow_candidates(client, uri, text), uri).run_id


def find_anywhere(uri: str, folder: Path, own_uri: str, text: str) -> Candidate:
    """The run that a text stands for among those of MLflow and those without.

    Args:
        uri: tracking URI of MLflow.
        folder: that holds a folder for each run without MLflow.
        own_uri: tracking URI of these.
        text: start of an id, or a name.

    Raises:
        TrackingError: there is no such run, or there are several, or MLflow does not answer.
    """
    candidates = folder_candidates(folder, own_uri, text)
    if has_runs(uri):
        candidates += mlflow_candidates(connect(uri), uri, text)
    return choose(text, candidates, uri)


def _distinct_digits(ids: Sequence[str]) -> int:
    """So many first digits that the ids differ in them."""
    return next((digits for digits in range(SHORT_ID, 32) if len({each[:digits] for each in ids}) == len(ids)), 32)
