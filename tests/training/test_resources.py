from __future__ import annotations

import pytest

from adjobs.config.job import TrainSection
from adjobs.errors import ClusterError
from adjobs.training.resources import Growth, fit_resources


def test_growth_adds_the_nodes_that_may_come():
    growth = Growth.parse("cpus=8,gpus=1,nodes=3")
    assert growth
    assert Growth.parse(growth.to_text()) == growth
    assert growth.grown([{"CPU": 0.0}]) == [{"CPU": 0.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}]
    assert growth.grown([{"CPU": 4.0}] * 4) == [{"CPU": 4.0}] * 4
    assert Growth.parse("") is None


def test_fit_resources_of_a_range_of_workers_needs_room_for_the_smallest_number():
    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0}]
    assert fit_resources(TrainSection(workers=(1, 4)), nodes) == (3, 1.0)
    assert fit_resources(TrainSection(workers=(2, 4)), nodes) == (3, 0.0)
    assert fit_resources(TrainSection(workers=4), nodes[1:]) == (1, 0.0)
    with pytest.raises(ClusterError, match=r"^train.workers: got 2 workers with 4 CPU and 0 GPU each, the cluster holds 1 "):
        fit_resources(TrainSection(workers=(2, 16), cpus_per_worker=4), nodes[1:])
