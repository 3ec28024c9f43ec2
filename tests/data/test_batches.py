"""Order, distribution and composition of training batches."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from adjobs.data.packing import to_float
from adjobs.data.prefetch import AHEAD, prefetch
from adjobs.errors import DataError
from tests.helpers.tiny import drawn_data

CPU = torch.device("cpu")


@pytest.fixture
def data(folder_root, tmp_path):
    """Twenty normal and ten anomalous images."""
    return drawn_data(folder_root, tmp_path / "cache", size=32)[1]


def batch_indices(plan, step: int, rank: int = 0) -> list[int]:
    indices, _ = plan._global_batch(step, 7, 0)
    return indices[rank :: plan.world_size].tolist()


def test_plan_epoch_has_every_normal_image_once(data):
    plan = data.plan((0, 0, 8, 0), 1)
    assert plan.steps_per_epoch == 3  # 8 + 8 + 4
    assert [plan.global_size(step) for step in range(3)] == [8, 8, 4]
    indices = [index for step in range(3) for index in batch_indices(plan, step)]
    assert sorted(indices) == sorted(data.normal_pool.indices.tolist())
    assert batch_indices(plan, 0) != batch_indices(plan, 3)  # the next epoch has another order


def test_plan_last_batch_too_small_is_dropped(data):
    assert data.plan((0, 0, 19, 0), 1).steps_per_epoch == 1  # one image remains
    assert data.plan((0, 0, 18, 0), 1).steps_per_epoch == 2
    assert data.plan((0, 0, 18, 0), 2).steps_per_epoch == 1  # two images remain for two workers


def test_plan_any_number_of_workers_has_the_same_global_batches(data):
    one_worker, two_workers = data.plan((0, 0, 8, 0), 1), data.plan((0, 0, 8, 0), 2)
    for step in range(6):
        indices = batch_indices(two_workers, step, 0) + batch_indices(two_workers, step, 1)
        assert sorted(indices) == sorted(batch_indices(one_worker, step))


@pytest.mark.parametrize("composition", [(0, 0, 8, 0), (0, 9, 9, 4), (22, 0, 0, 0), (0, 0, 32, 0)])
def test_plan_made_for_more_workers_has_their_batches(data, composition):
    """Also at the end of an epoch, where one worker alone would have other batches."""
    two, one_of_two = data.plan(composition, 2), data.plan(composition, 1, max_world_size=2)
    assert one_of_two.steps_per_epoch == two.steps_per_epoch
    for step in range(2 * two.steps_per_epoch):
        assert sorted(batch_indices(one_of_two, step)) == sorted(batch_indices(two, step, 0) + batch_indices(two, step, 1))
        assert one_of_two.global_size(step) == two.global_size(step)


def test_plan_made_for_more_workers_than_share_a_batch_is_refused(data):
    with pytest.raises(DataError, match=r"batch of 8 .* equally among 3 workers; change params.batch_size or train.workers"):
        data.plan((0, 0, 8, 0), 1, max_world_size=3)


def test_batch_workers_have_different_generators(data):
    plan = data.plan((0, 0, 8, 0), 2)
    draws = [torch.rand(1, generator=plan.batch(0, seed=0, stage=0, rank=rank, device=CPU).generator) for rank in (0, 1)]
    repeated = torch.rand(1, generator=plan.batch(0, seed=0, stage=0, rank=0, device=CPU).generator)
    assert draws[0] != draws[1]
    assert draws[0] == repeated


def test_batch_normal_simulated_and_anomalous_composition(data):
    batch = data.plan((0, 2, 2, 3), 1).batch(0, seed=0, stage=0, rank=0, device=CPU)
    assert batch.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert batch.simulate.tolist() == [False, False, True, True, False, False, False]
    assert batch.masks[:4].sum() == 0
    assert (batch.masks[4:].flatten(1).sum(1) > 0).all()


def test_batch_anomalies_are_drawn_equally_often(data):
    plan = data.plan((0, 0, 4, 3), 1)
    indices = np.concatenate([plan._global_batch(step, 0, 0)[0][4:] for step in range(10)])
    assert sorted(np.unique(indices, return_counts=True)[1]) == [3] * 10


def test_batch_all_labels_composition_has_natural_frequencies(data):
    plan = data.plan((10, 0, 0, 0), 1)
    assert plan.steps_per_epoch == 3
    labels = torch.cat([plan.batch(step, seed=0, stage=0, rank=0, device=CPU).labels for step in range(3)])
    assert labels.sum() == 10


def test_plan_split_smaller_than_a_batch_is_one_batch(data):
    plan = data.plan((0, 0, 64, 0), 1)
    assert (plan.steps_per_epoch, plan.global_size(0)) == (1, 20)


def test_plan_too_many_workers_for_the_batch_are_refused(data):
    with pytest.raises(DataError, match="a global batch has 4 images, but each of 4 workers needs at least 2"):
        data.plan((0, 0, 4, 0), 4)


@pytest.mark.parametrize("composition", [(0, 0, 8, 0), (0, 0, 6, 2), (8, 0, 0, 0)])
def test_plan_unequal_distribution_is_refused(data, composition):
    with pytest.raises(DataError, match="cannot be distributed equally among 3 workers; change"):
        data.plan(composition, 3)


def test_plan_missing_anomalies_are_refused(tmp_path):
    from tests.helpers.drawing import draw_folder

    data = drawn_data(draw_folder(tmp_path / "d", 12, 0), tmp_path / "cache", 32)[1]
    with pytest.raises(DataError, match="training split has none"):
        data.plan((0, 0, 4, 1), 1)


def test_to_float_read_only_images_are_copied(data):
    pixels = np.array([0, 128, 255], dtype=np.uint8).reshape(1, 1, 1, 3)
    pixels.flags.writeable = False
    tensor = to_float(pixels, CPU)
    torch.testing.assert_close(tensor.flatten(), torch.tensor([0, 128 / 255, 1]))
    assert tensor.shape == (1, 3, 1, 1)


def anomalous_batch(root, cache, **options):
    """A batch of all ten anomalies."""
    data = drawn_data(root, cache, size=32, **options)[1]
    return data.load(data.anomalous_pool.indices, torch.Generator())


def test_load_coarser_labels_have_more_unknown_pixels(folder_root, tmp_path):
    masks, blocks, boxes, image = (
        anomalous_batch(folder_root, tmp_path / "cache", label_detail=level, block=4)
        for level in ("masks", "blocks", "boxes", "image")
    )
    assert not masks.unknown.any()
    assert blocks.masks.any()
    assert blocks.unknown.any()
    assert not (masks.masks & ~blocks.masks & ~blocks.unknown).float().mean() > 0.02  # few defect pixels in normal blocks
    assert not boxes.masks.any()
    assert (boxes.unknown & masks.masks).sum() == masks.masks.sum()  # no defect outside the boxes
    assert not boxes.unknown.all()
    assert image.unknown.all()
    assert not image.masks.any()


def test_load_anomaly_without_mask_is_unknown_everywhere(tmp_path):
    from tests.helpers.drawing import draw_folder

    root = draw_folder(tmp_path / "d", 4, 2)
    (root / "masks" / "scratch" / "001.png").unlink()
    data = drawn_data(root, tmp_path / "cache", 32)[1]
    batch = data.load(data.all_labels_pool.indices, torch.Generator())
    fractions = batch.unknown.flatten(1).float().mean(1)
    assert fractions[batch.labels == 0].sum() == 0
    assert sorted(fractions[batch.labels == 1].tolist()) == [0, 1]


@pytest.mark.parametrize("layout", ["coco", "labelstudio", "manifest", "yolo"])
def test_load_pixels_outside_boxes_are_normal(layout, tmp_path):
    from tests.helpers.layouts import LAYOUTS

    dataset, data = drawn_data(LAYOUTS[layout](tmp_path / "d"), tmp_path / "cache", 32)
    indices = np.array([i for i, sample in enumerate(dataset.samples) if sample.boxes and sample.mask is None])
    assert len(indices)
    batch = data.load(indices, torch.Generator())
    assert not batch.masks.any()
    fractions = batch.unknown.flatten(1).float().mean(1)
    assert ((fractions > 0) & (fractions < 1)).all()


def test_plan_fewer_images_than_workers_are_refused(data):
    with pytest.raises(DataError, match=r"use fewer workers, .* more training images \(currently 20\)"):
        data.plan((0, 0, 32, 64), 32)


def test_plan_order_is_shuffled_once_per_epoch_and_batches_do_not_share_it(data, monkeypatch):
    plan = data.plan((0, 0, 8, 1), 1)
    generators = []
    create = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda entropy: generators.append(entropy) or create(entropy))
    first = [plan._global_batch(step, 7, 0)[0] for step in range(3)]
    assert generators == [(7, 0, 0), (7, 0, 1, 0)]
    for indices in first:
        indices[:] = -1
    pool = data.normal_pool
    order = create((7, 0, 0)).permutation(pool.indices)
    assert [plan._global_batch(step, 7, 0)[0][:-1].tolist() for step in range(3)] == [
        order[:8].tolist(),
        order[8:16].tolist(),
        order[16:].tolist(),
    ]


@pytest.mark.parametrize("composition", [(0, 2, 4, 3), (7, 0, 0, 0)])
def test_resident_pixels_give_the_same_batches(composition, data):
    """As on a GPU, where a step then needs nothing but the numbers of its images."""

    def batches() -> list[torch.Tensor]:
        plan = data.plan(composition, 1)
        return [value for step in range(5) for value in plan.batch(step, seed=3, stage=0, rank=0, device=CPU)[:6]]

    copied = batches()
    assert not data.packer.make_resident(0.5)  # main memory needs no second copy
    data.packer.resident = data.packer.copy_all()
    assert data.packer.buffer_size(7) == 7 * 32
    for value, expected in zip(batches(), copied, strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("composition", [(0, 2, 4, 0), (0, 0, 6, 6), (0, 6, 0, 0), (12, 0, 0, 0)])
def test_simulated_rows_are_those_that_simulate_marks(composition, world_size, data):
    plan = data.plan(composition, world_size)
    for rank in range(world_size):
        batch = plan.batch(0, seed=0, stage=0, rank=rank, device=CPU)
        marked = torch.zeros_like(batch.simulate)
        marked[batch.simulated_rows] = True
        assert torch.equal(marked, batch.simulate)


def test_prefetch_gives_all_batches_in_order_and_a_few_ahead(data):
    plan, packed = data.plan((0, 0, 8, 0), 1), []

    def pack(step: int):
        packed.append(step)
        return plan.pack(step, seed=0, stage=0, rank=0)

    for step, batch in prefetch(pack, range(9), CPU):
        assert torch.equal(batch.buffer, plan.pack(step, seed=0, stage=0, rank=0).buffer)
        assert len(packed) <= step + 1 + AHEAD
    assert packed == list(range(9))


def test_prefetch_raises_an_error_where_its_batch_would_have_come_and_ends_its_thread(data):
    plan = data.plan((0, 0, 8, 0), 1)

    def pack(step: int):
        if step == 2:
            raise DataError("unreadable")
        return plan.pack(step, seed=0, stage=0, rank=0)

    seen = []
    with pytest.raises(DataError, match="unreadable"):
        seen.extend(step for step, _ in prefetch(pack, range(9), CPU))
    assert seen == [0, 1]
    batches = prefetch(lambda step: plan.pack(step, seed=0, stage=0, rank=0), range(9), CPU)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
