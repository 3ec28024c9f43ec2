from __future__ import annotations

import pytest
from click.testing import CliRunner

from adjobs.cli import dispatch
from adjobs.queue import service
from adjobs.queue.dispatcher import Limits
from adjobs.training.resources import Growth
from adjobs.web.door import Door


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(service, "serve", lambda settings, *values: calls.append(values))
    return calls


@pytest.mark.parametrize(
    ("options", "growth"),
    [
        ([], None),
        (["--largest-node", "cpus=16", "--max-nodes", "3"], Growth({"CPU": 16.0, "GPU": 0.0}, 3)),
        (["--largest-node", "cpus=16,gpus=4", "--max-nodes", "8"], Growth({"CPU": 16.0, "GPU": 4.0}, 8)),
    ],
)
def test_dispatch_passes_on_how_far_the_cluster_may_grow(served, options, growth):
    assert CliRunner().invoke(dispatch.command, options).exit_code == 0
    assert served == [(Door("127.0.0.1", 18211), Limits(1), growth)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--largest-node", "16", "--max-nodes", "3"], "--largest-node: got '16'; must be like cpus=16 or cpus=16,gpus=4"),
        (["--largest-node", "cpus=16"], "--largest-node and --max-nodes belong together; give both or none"),
        (["--max-nodes", "2"], "--largest-node and --max-nodes belong together; give both or none"),
    ],
)
def test_dispatch_growth_that_says_nothing_is_refused(served, options, message):
    result = CliRunner().invoke(dispatch.command, options)
    assert message in result.output + str(result.exception)
    assert served == []
