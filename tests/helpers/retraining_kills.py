"""Kill a pass after each write that lasts, run it again, and compare what is left with an undisturbed pass.

    python -m tests.helpers.retraining_kills FOLDER [STEP [FIRST]]

Prints JSON: the writes of the undisturbed pass, and for each kill what differs in the end. A program of its own, since it forks:
PyTorch's threads, which other tests have started, do not survive that. Of the copies of images, which are many and alike, it is
killed after every tenth; with STEP, only after each write of that many.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.helpers.retraining import MODEL, count_writes, draw_initial, fill_inbox, in_child, make_config, restore, settings_of

_VOLATILE = ("run_id", "page", "model", "started_at")


def main(folder: Path, step: int = 1, first: int = 0) -> dict[str, Any]:
    """All kills, or one of every ``step`` from the first on."""
    os.environ |= {"OMP_NUM_THREADS": "1", "ADJOBS_HOME": str(folder / "work" / "home"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["ADJOBS_ARTIFACTS"] = str(folder / "work" / "artifacts")
    _import_all()
    work, snapshot = folder / "work", folder / "snapshot"
    draw_initial(work)
    (work / "inbox").mkdir()
    assert in_child(lambda: _create_dataset(work)) == 0
    assert in_child(lambda: _run(work)) == 0  # the first champion
    fill_inbox(work, 12)
    work.rename(snapshot)
    restore(snapshot, work)
    assert in_child(lambda: _run(work, None, folder / "writes.log")) == 0
    expected = _state(work, folder)
    names = (folder / "writes.log").read_text().split()
    differences: dict[str, Any] = {}
    copies = [number for number, name in enumerate(names, 1) if name == "LocalStore.put"]
    numbers = sorted({*range(1, len(names) + 1)} - {*copies} | {*copies[::10]})
    for number in numbers[first::step]:
        restore(snapshot, work)
        status = in_child(lambda number=number: _run(work, number))  # type: ignore[misc]
        again = in_child(lambda: _run(work))
        state = _state(work, folder)
        name = f"{number} {names[number - 1]}"
        differences[name] = {"killed": status == 9, "again": again} | {
            key: [expected[key], state.get(key)] for key in expected if expected[key] != state.get(key)
        }
    return {"writes": names, "state": expected, "kills": differences}


def _import_all() -> None:
    import mlflow  # noqa: F401
    import torch

    import adjobs.retraining.run
    import adjobs.versioning.adding  # noqa: F401
    from adjobs import methods

    methods.load("cdo")
    torch.set_num_threads(1)


def _create_dataset(work: Path) -> None:
    from adjobs.data.versions.record import SplitRule
    from adjobs.versioning.creating import Origin, create_dataset

    origin = Origin(str(work / "initial"), protocol="holdout")
    create_dataset(str(work / "dataset"), settings=settings_of(work), author="ann", rule=SplitRule(), origin=origin)


def _run(work: Path, kill_after: int | None = None, log: Path | None = None) -> None:
    from adjobs.retraining.observer import RetrainObserver
    from adjobs.retraining.run import run_retraining

    if kill_after is not None or log is not None:
        count_writes(kill_after, log)
    run_retraining(make_config(work), settings_of(work), RetrainObserver(), backend="local")


def _state(work: Path, folder: Path) -> dict[str, Any]:
    """What a person would see in the end, read by another process."""
    path = folder / "state.json"
    path.unlink(missing_ok=True)
    assert in_child(lambda: path.write_text(json.dumps(_read_state(work)))) == 0
    return dict(json.loads(path.read_text()))


def _read_state(work: Path) -> dict[str, Any]:
    from adjobs.registry.journal import Journal
    from adjobs.registry.models import ModelStore
    from adjobs.retraining.passes import END, Passes
    from adjobs.retraining.run import location
    from adjobs.storage import open_store
    from adjobs.tracking.client import connect
    from adjobs.versioning.dataset import VersionedDataset

    settings = settings_of(work)
    client = connect(settings.tracking_uri)
    experiments = [item.experiment_id for item in client.search_experiments()]
    runs = sorted(client.search_runs(experiments), key=lambda run: run.info.start_time)
    journal = Journal(ModelStore(settings.tracking_uri), settings.artifacts, "ann")
    state = journal.reconcile(MODEL)
    last = Passes(open_store(location(settings.artifacts, MODEL))).last()
    assert last is not None
    end = last.outcome(END) or {}
    dataset = VersionedDataset.open(str(work / "dataset"))
    return {
        "dataset": [[record.number, record.fingerprint] for record in dataset.records()],
        "runs": [run.info.status for run in runs],
        "metrics": [_metrics(run.data.metrics) for run in runs],
        "models": len(client.search_logged_models(experiments)),
        "versions": [[item.version, sorted(item.tags)] for item in journal.store.versions(state.model)],
        "aliases": dict(state.model.aliases),
        "history": [[record.number, str(record.action), list(map(str, record.changes))] for record in state.records],
        "pass": last.start.number,
        "end": {key: value for key, value in end.items() if key not in _VOLATILE},
    }


def _metrics(values: dict[str, float]) -> dict[str, float]:
    """Those that do not depend on the clock."""
    return {
        name: value
        for name, value in values.items()
        if not name.endswith(("images_per_s", "ms_per_image", "seconds", "memory_mib"))
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]).absolute(), *map(int, sys.argv[2:])), indent=1))
