"""Cached tokens and matches: equal to computed ones, and shared between runs."""

from __future__ import annotations

import pytest
import torch

from adjobs.errors import DataError
from adjobs.methods.semirest import token_cache
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import drawn_data, tiny_method
from tests.methods.semirest.stages import start_stages


def test_token_store_returns_what_would_be_computed(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    method = tiny_method("semirest", supervision="masks")
    start_stages(method, data)
    plan = data.plan(method.stages()[-1].mix, 1)
    batch = plan.batch(0, seed=0, stage=1, rank=0, device=torch.device("cpu"))
    assert batch.simulate.any()
    assert not batch.simulate.all()
    cached = method._tokens_and_neighbours(batch.images, batch)
    method._token_store = None
    computed = method._tokens_and_neighbours(batch.images, batch)
    torch.testing.assert_close(cached[0].float(), computed[0].float(), rtol=0, atol=2e-3)
    assert (cached[1] == computed[1]).float().mean() > 0.98  # half precision may swap near neighbours at equal distance


def test_cache_is_shared_by_runs_on_the_same_data(tmp_path, monkeypatch):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    first = tiny_method("semirest")
    start_stages(first, data)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("computed although cached")

    second = tiny_method("semirest", lr=3e-3)
    monkeypatch.setattr(token_cache, "coreset", fail)
    monkeypatch.setattr(token_cache, "write_array", fail)
    start_stages(second, data)
    assert torch.equal(first.memory.tokens, second.memory.tokens)
    folders = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "cache" / "derived").glob("*/*") if path.is_dir()}
    assert folders == {"tokens", "bank", "neighbours"}


def test_select_coreset_single_normal_image_is_refused(tmp_path):
    method = tiny_method("semirest")
    _, data = drawn_data(draw_folder(tmp_path / "d", 1, 4), tmp_path / "cache")
    with pytest.raises(DataError, match=r"memory bank are from one normal image.*add normal images"):
        method.stages()[0].prepare(data)
