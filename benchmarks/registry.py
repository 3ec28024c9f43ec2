"""What does the registry cost with 1,000 versions and 10,050 changes of aliases?

    python benchmarks/registry.py           # a SQLite file and a folder
    eval "$(adjobs status --env)"           # before it: MLflow and S3 of the embedded stack, too

Each figure is the median of five calls in a process that has imported and connected everything; a whole command is a new process.
With a Chromium on the PATH, MLflow's page of the model is opened in it, too.
The model that is made on the stack stays there; delete it in MLflow.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from report import machine, table, write_result

from adjobs.config.environment import load_settings
from adjobs.registry.changes import promote
from adjobs.registry.history import SNAPSHOT_INTERVAL, History, history_location
from adjobs.registry.journal import LOCATION_TAG, Journal
from adjobs.registry.models import CHAMPION, ModelStore
from adjobs.registry.record import Action, AliasChange, HistoryRecord
from adjobs.storage import open_store
from adjobs.tracking.layout import UI_QUERY

REPEATS = 5
START = datetime(2024, 1, 1, tzinfo=UTC)


def fill(journal: Journal, artifacts: str, name: str, versions: int, changes: int) -> float:
    """Make a model with its versions and a history; returns the seconds that a record takes to add."""
    store = journal.store
    store._client.create_registered_model(name)
    for _ in range(versions):
        store._client.create_model_version(name, f"{artifacts}/model", tags={"adjobs.gate": "promote"})
    model = store.model(name)
    location = history_location(artifacts, model)
    history, records = History(open_store(location)), []
    started_at = time.perf_counter()
    for number in range(1, changes + 1):
        change = AliasChange(CHAMPION, None if number == 1 else (number - 2) % versions + 1, (number - 1) % versions + 1)
        at = START + timedelta(hours=number)
        record = HistoryRecord(number, at, "ann", Action.PROMOTE, (change,), reason="nightly retraining with new anomalies")
        history.append(records, record)
        records.append(record)
    seconds = (time.perf_counter() - started_at) / changes
    store.set_tag(name, LOCATION_TAG, location)
    store.set_alias(name, CHAMPION, (changes - 1) % versions + 1)
    return seconds


def median_seconds(action: Callable[[], object]) -> float:
    """Median duration of several calls."""
    durations = []
    for _ in range(REPEATS):
        started_at = time.perf_counter()
        action()
        durations.append(time.perf_counter() - started_at)
    return statistics.median(durations)


def command_seconds(environment: Mapping[str, str], *words: str) -> float:
    """Duration of a command in a process of its own."""
    started_at = time.perf_counter()
    subprocess.run([sys.executable, "-m", "adjobs", "models", *words], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started_at


def page_seconds(tracking_uri: str, name: str, newest: int) -> dict[str, float]:
    """Durations until MLflow's page of a model shows its newest version: in a fresh browser, and again with its files cached."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.helpers.browser import CHROMIUM, running_browser
    from tests.helpers.postgres import free_port

    if CHROMIUM is None:
        return {}
    port, durations = free_port(), []
    options = {"backend-store-uri": tracking_uri, "host": "127.0.0.1", "port": port, "workers": 1}
    command = [sys.executable, "-m", "mlflow", "server", *(f"--{key}={value}" for key, value in options.items())]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for_answer(f"http://127.0.0.1:{port}/health")
            with running_browser() as browser:
                for _ in range(2):
                    started_at = time.perf_counter()
                    tab = browser.open(f"http://127.0.0.1:{port}/#/models/{name}{UI_QUERY}")
                    tab.wait(f"document.body?.innerText.includes('Version {newest}')", 120)
                    durations.append(time.perf_counter() - started_at)
                    tab.close()
        finally:
            server.terminate()
    first, again = durations
    return {"MLflow's page of the model in a browser, first time": first, "MLflow's page of the model, again": again}


def wait_for_answer(url: str) -> None:
    """Until a server answers."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def run(place: str, tracking_uri: str, artifacts: str, versions: int, changes: int) -> list[list[str]]:
    """One row for each figure of a place."""
    journal = Journal(ModelStore(tracking_uri), artifacts, "ann")
    name = f"benchmark-{os.getpid()}"
    added = fill(journal, artifacts, name, versions, changes)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri, "ADJOBS_ARTIFACTS": artifacts}

    def list_versions() -> None:
        journal.store.versions(journal.reconcile(name).model, 51)  # as the command does without --limit

    def list_models() -> None:
        journal.store.models()

    def promote_next() -> None:
        promote(journal, name, (journal.store.model(name).aliases[CHAMPION] % versions) + 1)

    figures = {
        "add a record to the history": added,
        "list: all models": median_seconds(list_models),
        "list: newest 50 versions of the model, history reconciled": median_seconds(list_versions),
        "history: all records, reconciled": median_seconds(lambda: journal.reconcile(name)),
        "promote": median_seconds(promote_next),
        "whole command `adjobs models list MODEL`": command_seconds(environment, "list", name),
        "whole command `adjobs models history MODEL`": command_seconds(environment, "history", name),
        "whole command `adjobs models --help`": command_seconds(environment, "--help"),
    }
    if tracking_uri.startswith("sqlite"):
        figures |= page_seconds(tracking_uri, name, versions)
    return [[place, figure, f"{seconds:.3f}"] for figure, seconds in figures.items()]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=10_050)
    arguments = parser.parse_args()
    settings = load_settings()
    sizes = arguments.versions, arguments.changes
    with TemporaryDirectory(prefix="adjobs-") as folder:
        os.environ["ADJOBS_HOME"] = folder
        rows = run("SQLite, folder", f"sqlite:///{Path(folder)}/mlflow/mlflow.db", f"{folder}/artifacts", *sizes)
    if settings.tracking_uri.startswith("http") and settings.artifacts.startswith("s3://"):
        rows += run("MLflow server, S3", settings.tracking_uri, settings.artifacts, *sizes)
    write_result(
        "registry",
        "The registry with many versions and changes",
        machine(torch.device("cpu")),
        [
            f"{sizes[0]:,} versions, {sizes[1]:,} changes of aliases of one model, "
            f"{sizes[1] % SNAPSHOT_INTERVAL} of them beyond the snapshot. Seconds.",
            table("| place | what | s |", rows, left=2),
        ],
    )


if __name__ == "__main__":
    main()
