"""Which images make a batch: passes, shares, mixes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adjobs.data.batches import to_float
from adjobs.errors import DataError
from tests.helpers.tiny import drawn_data

CPU = torch.device("cpu")


@pytest.fixture
def data(folder_root, tmp_path):
    """Twenty good, ten bad."""
    return drawn_data(folder_root, tmp_path / "cache", size=32)[1]


def rows(plan, step: int, rank: int = 0) -> list[int]:
    share = plan._rows(step, 7, 0)[0]
    return share[rank :: plan.world].tolist()


def test_an_epoch_shows_every_normal_image_once(data):
    plan = data.plan((0, 0, 8, 0), 1)
    assert plan.steps_per_epoch == 3  # 8 + 8 + 4
    assert [plan.global_size(step) for step in range(3)] == [8, 8, 4]
    seen = [row for step in range(3) for row in rows(plan, step)]
    assert sorted(seen) == sorted(data.normal_pool.rows.tolist())
    assert rows(plan, 0) != rows(plan, 3)  # the next epoch has another order


def test_a_last_batch_too_small_for_batch_normalisation_is_dropped(data):
    assert data.plan((0, 0, 19, 0), 1).steps_per_epoch == 1  # one image left over
    assert data.plan((0, 0, 18, 0), 1).steps_per_epoch == 2
    assert data.plan((0, 0, 18, 0), 2).steps_per_epoch == 1  # two left over, two workers


def test_workers_share_the_same_global_batches(data):
    alone, pair = data.plan((0, 0, 8, 0), 1), data.plan((0, 0, 8, 0), 2)
    for step in range(6):
        together = rows(pair, step, 0) + rows(pair, step, 1)
        assert sorted(together) == sorted(rows(alone, step))


def test_workers_draw_from_different_generators(data):
    plan = data.plan((0, 0, 8, 0), 2)
    draws = [torch.rand(1, generator=plan.batch(0, seed=0, stage=0, rank=rank, device=CPU).generator) for rank in (0, 1)]
    again = torch.rand(1, generator=plan.batch(0, seed=0, stage=0, rank=0, device=CPU).generator)
    assert draws[0] != draws[1]
    assert draws[0] == again


def test_mix_of_normal_simulated_and_anomalous(data):
    batch = data.plan((0, 2, 2, 3), 1).batch(0, seed=0, stage=0, rank=0, device=CPU)
    assert batch.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert batch.simulate.tolist() == [False, False, True, True, False, False, False]
    assert batch.masks[:4].sum() == 0
    assert (batch.masks[4:].flatten(1).sum(1) > 0).all()


def test_anomalies_are_drawn_over_and_over_each_equally_often(data):
    plan = data.plan((0, 0, 4, 3), 1)
    seen = np.concatenate([plan._rows(step, 0, 0)[0][4:] for step in range(10)])
    assert sorted(np.unique(seen, return_counts=True)[1]) == [3] * 10


def test_natural_sampling_takes_the_part_as_it_is(data):
    plan = data.plan((10, 0, 0, 0), 1)
    assert plan.steps_per_epoch == 3
    labels = torch.cat([plan.batch(step, seed=0, stage=0, rank=0, device=CPU).labels for step in range(3)])
    assert labels.sum() == 10


def test_a_part_smaller_than_a_batch_is_one_batch(data):
    plan = data.plan((0, 0, 64, 0), 1)
    assert (plan.steps_per_epoch, plan.global_size(0)) == (1, 20)


def test_too_many_workers_for_the_batch_is_an_error(data):
    with pytest.raises(DataError, match="a global batch has 4 images, each of 4 workers needs at least 2"):
        data.plan((0, 0, 4, 0), 4)


@pytest.mark.parametrize("mix", [(0, 0, 8, 0), (0, 0, 6, 2), (8, 0, 0, 0)])
def test_a_batch_that_cannot_be_shared_equally_is_an_error(data, mix):
    with pytest.raises(DataError, match="cannot be shared equally by 3 workers; choose"):
        data.plan(mix, 3)


def test_missing_anomalies_are_an_error(tmp_path):
    from tests.helpers.drawing import draw_folder

    data = drawn_data(draw_folder(tmp_path / "d", 12, 0), tmp_path / "cache", 32)[1]
    with pytest.raises(DataError, match="training part has none"):
        data.plan((0, 0, 4, 1), 1)


def test_images_arrive_as_floats_and_the_cache_is_not_written_to(data):
    pixels = np.array([0, 128, 255], dtype=np.uint8).reshape(1, 1, 1, 3)
    pixels.flags.writeable = False
    tensor = to_float(pixels, CPU)
    torch.testing.assert_close(tensor.flatten(), torch.tensor([0, 128 / 255, 1]))
    assert tensor.shape == (1, 3, 1, 1)


def anomalies(root, cache, **options):
    """A batch of all ten anomalies."""
    data = drawn_data(root, cache, size=32, **options)[1]
    return data.load(data.anomalous_pool.rows, np.zeros(10, dtype=bool), torch.Generator())


def test_coarser_labels_leave_more_open(folder_root, tmp_path):
    masks, blocks, boxes, image = (
        anomalies(folder_root, tmp_path / "cache", labels=level, block=4) for level in ("masks", "blocks", "boxes", "image")
    )
    assert not masks.unknown.any()
    assert blocks.masks.any()
    assert blocks.unknown.any()
    assert not (masks.masks & ~blocks.masks & ~blocks.unknown).float().mean() > 0.02  # few defect pixels in blocks called normal
    assert not boxes.masks.any()
    assert (boxes.unknown & masks.masks).sum() == masks.masks.sum()  # no defect outside the boxes
    assert not boxes.unknown.all()
    assert image.unknown.all()
    assert not image.masks.any()


def test_an_anomaly_without_a_mask_is_unknown_everywhere_and_a_good_image_nowhere(tmp_path):
    from tests.helpers.drawing import draw_folder

    root = draw_folder(tmp_path / "d", 4, 2)
    (root / "masks" / "scratch" / "001.png").unlink()
    data = drawn_data(root, tmp_path / "cache", 32)[1]
    batch = data.load(data.all_labels_pool.rows, np.zeros(6, dtype=bool), torch.Generator())
    shares = batch.unknown.flatten(1).float().mean(1)
    assert shares[batch.labels == 0].sum() == 0
    assert sorted(shares[batch.labels == 1].tolist()) == [0, 1]


@pytest.mark.parametrize("layout", ["coco", "labelstudio", "manifest", "yolo"])
def test_boxes_say_that_the_rest_is_good(layout, tmp_path):
    from tests.helpers.drawing import LAYOUTS

    index, data = drawn_data(LAYOUTS[layout](tmp_path / "d"), tmp_path / "cache", 32)
    boxed = [sample.id for sample in index.samples if sample.boxes and sample.mask is None]
    assert boxed
    rows = np.array([i for i, sample in enumerate(index.samples) if sample.id in boxed])
    batch = data.load(rows, np.zeros(len(rows), dtype=bool), torch.Generator())
    assert not batch.masks.any()
    shares = batch.unknown.flatten(1).float().mean(1)
    assert ((shares > 0) & (shares < 1)).all()


def test_fewer_images_than_workers_is_an_error(data):
    with pytest.raises(DataError, match=r"use fewer workers, .* more training images \(20 now\)"):
        data.plan((0, 0, 32, 64), 32)
