from __future__ import annotations

from adjobs.training.resources import Growth


def test_growth_adds_the_nodes_that_may_come():
    growth = Growth.parse("cpus=8,gpus=1,nodes=3")
    assert growth
    assert Growth.parse(growth.to_text()) == growth
    assert growth.grown([{"CPU": 0.0}]) == [{"CPU": 0.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}]
    assert growth.grown([{"CPU": 4.0}] * 4) == [{"CPU": 4.0}] * 4
    assert Growth.parse("") is None
