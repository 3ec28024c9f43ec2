"""Drawn data sets for all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.helpers.drawing import draw_folder, draw_mvtec
from tests.helpers.folders import delete_unless_failed

# Read by PyTorch when it is imported, here and in every process that a test starts. On pictures this small a second thread makes
# nothing faster, and where something else is at work on a processor, threads that wait for each other take fifty times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# An example that takes long on a busy machine is not a fault.
settings.register_profile("adjobs", deadline=None)
settings.load_profile("adjobs")

# Programs that write test files with other packages; they are run by hand, in environments that have those.
collect_ignore_glob = ["data/make/*"]


def stack_group(nodeid: str) -> str | None:
    """The group of tests that share a running stack, of a test by its id; None if it needs none.

    Two groups take about as long: with several processes (``-n``) two of them have a stack each, at the same time.
    """
    if "tests/integration/" not in nodeid:
        return None
    file = nodeid.partition("::")[0].rpartition("/")[2]
    return "stack for trainings" if file in ("test_training.py", "test_tuning.py") else "stack for the queue"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several processes (``-n``) begin with what takes longest, so that none has a long file left when the others are done."""
    if hasattr(config, "workerinput"):
        slow_files = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (stack_group(item.nodeid) is None, item.path not in slow_files))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Several processes share the tests by files; those that share a stack stay together."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return stack_group(nodeid) or nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """Twenty good and ten scratched squares with masks, in plain folders."""
    return draw_folder(tmp_path / "folder", 20, 10)


@pytest.fixture
def mvtec_root(tmp_path: Path) -> Path:
    """Fifteen good squares for training, five good and ten scratched ones with masks for testing, in MVTec AD's layout."""
    return draw_mvtec(tmp_path / "mvtec", 20, 10)


@pytest.fixture(scope="session")
def empty_mlflow(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Puts MLflow's tables into a home that has none yet, and gives their address.

    MLflow makes them by going through all its migrations, which keeps a disk busy for ten seconds; here that is done once for
    each version of MLflow, kept in pytest's cache, and copied. ``tests/test_readme.py`` and the stack of ``tests/integration``
    begin with nothing, as users do.
    """
    from adjobs.tracking.client import connect

    cache = request.config.cache
    assert cache is not None
    folder = cache.mkdir(f"mlflow-{version('mlflow')}")
    made = folder / "mlflow.db"
    with FileLock(folder / "lock"):  # several processes (-n) may need it at the same time
        if not made.exists():
            unfinished = folder / f"{os.getpid()}.db"
            connect(f"sqlite:///{unfinished}")
            unfinished.rename(made)

    def copy(home: Path) -> str:
        place = home / "mlflow" / "mlflow.db"
        place.parent.mkdir(parents=True)
        shutil.copy(made, place)
        return f"sqlite:///{place}"

    return copy


@pytest.fixture(scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder with adjobs' home in it; no service of the surroundings is seen."""
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADJOBS_HOME", str(root / "home"))
        for name in ("MLFLOW_TRACKING_URI", "ADJOBS_ARTIFACTS", "RAY_ADDRESS", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        yield root
    delete_unless_failed(root, request)
