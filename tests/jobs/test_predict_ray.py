"""Many images on a cluster."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import psutil
import pytest

from adjobs.errors import ClusterError
from adjobs.inference.results import LINES_FILE
from adjobs.jobs.predict import PredictOptions, predict_batch
from adjobs.jobs.predict_ray import WorkerPlan, plan_workers, rows_per_task
from tests.jobs.test_predict import detector, draw_images, settings  # noqa: F401 (fixtures)

TWO = [{"CPU": 8.0}, {"CPU": 4.0}]
GPUS = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 6.0, "GPU": 2.0}, {"CPU": 8.0}]


@pytest.mark.parametrize(
    ("workers", "nodes", "plan"),
    [
        (None, TWO, WorkerPlan(2, 4, 0)),
        (1, TWO, WorkerPlan(1, 8, 0)),
        (3, TWO, WorkerPlan(3, 4, 0)),
        (12, TWO, WorkerPlan(12, 1, 0)),
        (None, [{}, {"CPU": 2.0}], WorkerPlan(1, 2, 0)),
        (None, GPUS, WorkerPlan(6, 3, 1)),
        (2, GPUS, WorkerPlan(2, 3, 1)),
    ],
)
def test_plan_workers_share_the_cores_or_take_a_gpu_each(workers, nodes, plan):
    assert plan_workers(workers, nodes) == plan


@pytest.mark.parametrize(("workers", "nodes"), [(13, TWO), (7, GPUS), (None, [{}]), (1, []), (1, [{"CPU": 1.0, "GPU": 2.0}])])
def test_plan_workers_that_never_fit_are_refused_in_one_line(workers, nodes):
    with pytest.raises(ClusterError, match=r"^workers: got \d+; each needs a .*; give fewer") as caught:
        plan_workers(workers, nodes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("images", [1, 4, 5, 100, 1000, 10**6])
@pytest.mark.parametrize("workers", [1, 3, 64])
def test_rows_per_task_are_whole_batches_and_few(images, workers):
    rows = rows_per_task(images, workers)
    assert rows % 4 == 0
    assert 4 <= rows <= 64


class KillWorker:
    """Kills a worker's process as soon as there is a line."""

    def __init__(self) -> None:
        self.killed: list[int] = []

    def started(self, total: int, kept: int) -> None:
        pass

    def predicted(self, line: dict) -> None:
        if self.killed:
            return
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "MapWorker" in " ".join(process.cmdline()):
                    process.kill()
                    self.killed.append(process.pid)
                    return


@pytest.mark.slow
def test_predict_batch_on_ray_has_the_lines_of_this_process_though_a_worker_is_killed(tmp_path, settings, detector, monkeypatch):  # noqa: F811
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    names = draw_images(tmp_path / "images", 300)
    Path(names[7]).write_bytes(b"not an image")
    observer = KillWorker()
    options = PredictOptions(engine="torch", backend="ray", workers=2)
    on_ray = predict_batch(detector, names, tmp_path / "ray", settings, options, observer)
    local = predict_batch(detector, names, tmp_path / "local", settings, PredictOptions(engine="torch"))
    assert observer.killed
    assert (on_ray.images, on_ray.failed, on_ray.anomalous) == (local.images, local.failed, local.anomalous)
    lines, expected = [
        [json.loads(line) for line in (tmp_path / folder / LINES_FILE).read_text().splitlines()] for folder in ("ray", "local")
    ]
    assert [line["path"] for line in lines] == names
    for line, other in zip(lines, expected, strict=True):
        assert line.keys() == other.keys()
        assert line.get("error") == other.get("error")
        if "error" not in line:
            assert line["score"] == pytest.approx(other["score"], rel=1e-5)
            assert Path(line["overlay"]).is_file()
            assert Path(line["overlay"]).name == Path(other["overlay"]).name
