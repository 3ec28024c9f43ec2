"""The JSON of a search."""

from __future__ import annotations

import json

from adjobs.cli.output import to_json
from adjobs.tuning.result import Optimism, SearchResult
from adjobs.tuning.summary import summarise_study
from tests.helpers.search import FakeSearch


def test_to_dict_is_json_with_every_trial():
    search = FakeSearch(metrics=("image_auroc", "ms_per_image"))
    search.run(image_auroc=0.9)
    search.start()
    search.manager.on_error(1, "loss not finite")
    optimism = {"image_auroc": Optimism(0.9, 0.91, 0.8, None, None, 0.1)}
    result = SearchResult("mine", "r", None, "u", "cdo", "d", summarise_study(search.manager), optimism, "f", "m", 7.0)
    document = json.loads(to_json(result.to_dict()))
    assert document["search"] == "mine"
    assert document["metrics"] == ["image_auroc:max", "ms_per_image:min"]
    assert document["best"] == {"number": 0, "run_id": "run-0", "params": {"params.gamma": 2.0}, "value": 0.9}
    assert (document["baseline"], document["pareto"]) == (0.9, [0])
    assert [trial["state"] for trial in document["trials"]] == ["complete", "failed"]
    assert document["trials"][1]["reason"] == "loss not finite"
    assert document["chosen"] == {
        "search/image_auroc": 0.9,
        "val/image_auroc": 0.91,
        "test/image_auroc": 0.8,
        "test/image_auroc_low": None,
        "test/image_auroc_high": None,
        "optimism/image_auroc": 0.1,
    }
    assert (result.best, result.trials) == (result.study.best, result.study.trials)
