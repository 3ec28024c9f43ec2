"""SemiREST's features, its memory, its labels, and that what is kept is what would be computed."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F

from adjobs.config.resolve import resolve
from adjobs.data.labels.masks import ANOMALOUS, NORMAL, UNKNOWN
from adjobs.errors import DataError, JobError
from adjobs.methods.semirest import memory as memory_module
from adjobs.methods.semirest.config import Config
from adjobs.methods.semirest.loss import aligned, sharpened
from adjobs.methods.semirest.memory import Memory, check_memory
from adjobs.methods.semirest.networks import ResidualSwin
from adjobs.methods.semirest.tokens import UNDECIDED, block_targets
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import drawn_data, random_batch, tiny

CPU = torch.device("cpu")


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turned_to(method, data, count: int | None = None):
    """The method at the beginning of its last stage, or of the ``count``-th, with what that keeps of the images."""
    for each in method.stages()[:count]:
        each.prepare(data)
        if each.on_stage_start is not None:
            each.on_stage_start(data)
    return method


# Features and network.


def test_features_are_those_of_patchcore_and_a_code_of_the_place():
    _, method = tiny("semirest", position=0.3, standardised=False, features=48)
    images = random_batch().images
    features = method.features
    maps = features.backbone(images)[1:]
    columns = []
    for level in maps:  # patches stretched before they are pooled, as PatchCore does it
        patches = F.unfold(level, 3, padding=1).unflatten(2, level.shape[-2:])
        patches = F.interpolate(patches, size=maps[0].shape[-2:], mode="bilinear", align_corners=False)
        columns.append(F.adaptive_avg_pool1d(patches.flatten(2).transpose(1, 2), 48))
    expected = F.adaptive_avg_pool1d(torch.cat(columns, 2), 48).view(4, 8, 8, 48)
    place = features(images).float() - expected
    torch.testing.assert_close(place, features.position.permute(1, 2, 0).expand(4, -1, -1, -1), rtol=0, atol=2e-3)
    assert features.position.abs().max() == pytest.approx(0.3)


def test_features_have_unit_deviation_and_stay_frozen():
    _, method = tiny("semirest")
    images = random_batch().images
    method.features.standardise([images])
    method.train()
    before = method.features(images)
    assert not method.features.backbone.training
    torch.testing.assert_close(method.features(images), before)
    levels = [level / scale for level, scale in zip(method.features.backbone(images)[1:], method.features.scale, strict=True)]
    torch.testing.assert_close(torch.stack([level.std() for level in levels]), torch.ones(2))


def test_how_far_a_token_is_from_the_memory_is_seen_only_if_it_is_quiet():
    """The first layer norm takes the size away from what is loud beside the biases."""
    network = ResidualSwin(Config(features=64, embed=32, heads=2), 4)
    near = torch.rand(8, 4, 4, 64, generator=gen())

    @torch.no_grad()
    def change(gain: float) -> float:
        few, many = (network.embed_norm(network.embed(size * gain * near)) for size in (1, 4))
        return float((few - many).norm() / few.norm())

    assert change(0.1) > 10 * change(10.0)


def test_the_network_is_shown_good_tokens_as_loud_as_it_should_be(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    _, method = tiny("semirest", loudness=0.01)
    turned_to(method, data)
    batch = next(data.normal(8))
    tokens, neighbours = method._tokens(batch.images, batch._replace(simulate=torch.zeros(8, dtype=torch.bool)))
    shown = method._strength(method.memory.residuals(tokens, neighbours[..., 0]))
    assert float(shown.mean()) == pytest.approx(0.01, rel=1e-3)


def test_good_images_that_are_all_the_same_are_refused(tmp_path):
    place = draw_folder(tmp_path / "d", 4, 4)
    first, *rest = sorted((place / "good").iterdir())
    for path in rest:
        path.write_bytes(first.read_bytes())
    _, data = drawn_data(place, tmp_path / "cache")
    with pytest.raises(DataError, match="the good images of the training part are all the same"):
        tiny("semirest", coreset=1.0)[1].stages()[0].prepare(data)


# Memory.


def test_an_image_does_not_match_itself():
    _, method = tiny("semirest", coreset=1.0)
    images = random_batch(8).images
    tokens = method.features(images)
    rows = torch.arange(8)
    itself = method.memory.search(tokens, 1)
    others = method.memory.search(tokens, 3, rows)
    torch.testing.assert_close(itself.distances, torch.zeros_like(itself.distances))
    assert others.distances.min() > 0
    assert (method.memory.owners[others.indices] != rows.view(-1, 1, 1, 1)).all()


def test_where_others_are_few_the_nearest_stands_for_them():
    memory = Memory(4)
    memory.fill(torch.eye(4)[:3], torch.tensor([0, 0, 1]))
    found = memory.search(torch.zeros(1, 1, 1, 4), 3, torch.tensor([0]))
    assert found.indices.flatten().tolist() == [2, 2, 2]


def test_a_state_with_another_memory_is_taken_as_it_is():
    memory, other = Memory(4), Memory(4)
    memory.fill(torch.rand(7, 4, generator=gen()), torch.arange(7))
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.bank, memory.bank)
    assert other.digest() == memory.digest()
    memory.fill(torch.rand(7, 4, generator=gen(1)), torch.arange(7))
    assert other.digest() != memory.digest()


def test_a_memory_that_does_not_fit_is_refused_with_the_ratio_that_does(monkeypatch):
    free = namedtuple("Free", "available")
    monkeypatch.setattr(memory_module.psutil, "virtual_memory", lambda: free(2**30))
    check_memory(100_000, 128, 0.1, CPU)
    message = r"coreset: got 0.9 of 1,000,000 tokens, which needs .* MiB of 1,024 free; choose at most 0"
    with pytest.raises(JobError, match=message) as raised:
        check_memory(1_000_000, 128, 0.9, CPU)
    most = float(str(raised.value).rsplit(" ", 1)[1])
    check_memory(1_000_000, 128, most, CPU)
    with pytest.raises(JobError, match="coreset"):
        check_memory(1_000_000, 128, most * 1.1, CPU)
    with pytest.raises(JobError, match=r"choose a smaller data.image_size, or train on fewer good images"):
        check_memory(10_000_000, 128, 0.1, CPU)


def test_one_good_image_is_not_enough(tmp_path):
    _, method = tiny("semirest")
    _, data = drawn_data(draw_folder(tmp_path / "d", 1, 4), tmp_path / "cache")
    with pytest.raises(DataError, match=r"one good image fill the memory.*give more good images"):
        method.stages()[0].prepare(data)


def test_what_is_kept_of_the_images_is_what_would_be_computed(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    _, method = tiny("semirest", supervision="masks")
    turned_to(method, data)
    plan = data.plan(method.stages()[-1].mix, 1)
    batch = plan.batch(0, seed=0, stage=1, rank=0, device=CPU)
    assert batch.simulate.any()
    assert not batch.simulate.all()
    kept = method._tokens(batch.images, batch)
    method._store = None
    fresh = method._tokens(batch.images, batch)
    torch.testing.assert_close(kept[0].float(), fresh[0].float(), rtol=0, atol=2e-3)
    assert (kept[1] == fresh[1]).float().mean() > 0.98  # half precision may change the order of equals


def test_runs_of_the_same_data_share_what_is_kept(tmp_path, monkeypatch):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    first = turned_to(tiny("semirest")[1], data)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    _, second = tiny("semirest", lr=3e-3)
    monkeypatch.setattr(memory_module, "coreset", never)
    monkeypatch.setattr(memory_module, "write_array", never)
    turned_to(second, data)
    assert torch.equal(first.memory.bank, second.memory.bank)
    folders = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "cache" / "derived").glob("*/*") if path.is_dir()}
    assert folders == {"tokens", "bank", "neighbours"}


# Labels.


def targets(mask: torch.Tensor, unknown: torch.Tensor, **params: object) -> torch.Tensor:
    config = Config(**params)
    return block_targets(mask, unknown, config.phases[-1], config)[0]


def test_tokens_are_what_their_share_of_defect_makes_them():
    mask, nothing = torch.zeros(1, 1, 8, 40, dtype=torch.bool), torch.zeros(1, 1, 8, 40, dtype=torch.bool)
    for i, pixels in enumerate((0, 5, 6, 31, 32)):  # of 64: 8 % is 5.1, a half is 32
        block = torch.zeros(64, dtype=torch.bool)
        block[:pixels] = True
        mask[0, 0, :, 8 * i : 8 * i + 8] = block.view(8, 8)
    assert targets(mask, nothing).tolist() == [[NORMAL, NORMAL, UNDECIDED, UNDECIDED, ANOMALOUS]]
    assert targets(mask, nothing, supervision="masks").tolist() == [[NORMAL, NORMAL, UNDECIDED, ANOMALOUS, ANOMALOUS]]


def test_tokens_in_boxes_are_unknown():
    box, nothing = torch.zeros(1, 1, 8, 24, dtype=torch.bool), torch.zeros(1, 1, 8, 24, dtype=torch.bool)
    box[0, 0, :, 14:] = True  # a quarter of the second token, all of the third
    assert targets(nothing, box, supervision="boxes").tolist() == [[NORMAL, UNKNOWN, UNKNOWN]]
    assert targets(nothing, box, supervision="boxes", free=0.7).tolist() == [[NORMAL, NORMAL, UNKNOWN]]


def test_an_anomaly_without_a_box_teaches_nothing():
    box, nothing = torch.zeros(1, 1, 8, 16, dtype=torch.bool), torch.zeros(1, 1, 8, 16, dtype=torch.bool)
    box[0, 0, :, 8:] = True
    assert targets(nothing, box, supervision="boxes").tolist() == [[NORMAL, UNKNOWN]]
    assert targets(nothing, torch.ones_like(box), supervision="boxes").tolist() == [[UNDECIDED, UNDECIDED]]


def test_stages_are_what_the_supervision_asks_for():
    def stages(**params: object) -> list[tuple]:
        return [(s.name, *s.mix) for s in tiny("semirest", **params)[1].stages()]

    memory = ("memory", 0, 0, 0, 0)
    assert stages() == [memory, ("learn", 0, 4, 2, 0)]
    assert stages(supervision="masks") == stages(supervision="blocks") == [memory, ("learn", 0, 2, 2, 2)]
    assert stages(supervision="boxes") == [memory, ("learn", 0, 4, 2, 0), ("refine", 0, 3, 3, 2)]
    assert stages(supervision="boxes", unsupervised_from="x") == [("refine", 0, 3, 3, 2)]
    assert stages(supervision="masks", unsupervised_from="x") == [("learn", 0, 2, 2, 2)]
    assert stages(unsupervised_from="x") == [("learn", 0, 4, 2, 0)]


@pytest.mark.parametrize(
    ("supervision", "labels", "shown", "told"),
    [
        ("none", "full", "image", "none"),
        ("masks", "full", "masks", "masks"),
        ("blocks", "full", "blocks", "blocks"),
        ("boxes", "masks", "boxes", "boxes"),
        ("masks", "blocks", "blocks", "blocks"),
        ("boxes", "image", "image", "image labels"),
    ],
)
def test_training_sees_no_finer_labels_than_the_supervision(supervision, labels, shown, told):
    job = resolve({"method": "semirest", "data": {"uri": "x", "labels": labels}, "params": {"supervision": supervision}})
    assert (job.label_detail, job.supervision) == (shown, told)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"labelled": 2}, "labelled: got 2 with supervision none; leave it out"),
        ({"step": 17}, "step: got 17, must not exceed window 16"),
        ({"heads": 3}, "heads: got 3, must divide embed 128"),
        ({"window": 13}, "window: got 13, in which attention would see 1 × 1 tokens, .* choose a multiple of 8"),
        ({"first": 0.9}, "first: got 0.9, must not exceed second 0.8"),
        ({"block_normal": 0.5}, "block_normal: got 0.5, must be below block_anomalous 0.5"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(params, message):
    with pytest.raises(JobError, match=message):
        resolve({"method": "semirest", "data": {"uri": "x"}, "params": params})


@pytest.mark.parametrize(("supervision", "shown"), [("masks", "image"), ("blocks", "boxes"), ("boxes", "image")])
def test_labels_that_do_not_say_enough_are_refused_before_any_work(supervision, shown, tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache", labels=shown)
    _, method = tiny("semirest", supervision=supervision)
    with pytest.raises(DataError, match=f"params.supervision {supervision}: none of 4 labelled anomalies"):
        method.stages()[0].prepare(data)
    assert not list((tmp_path / "cache").glob("derived/*/*"))


def test_boxes_are_never_learnt_as_anomalous(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache", labels="boxes")
    for batch in data.anomalous(4):
        config = Config(supervision="boxes")
        found = block_targets(batch.masks, batch.unknown, config.phases[-1], config)
        assert (found == UNKNOWN).any()
        assert not (found == ANOMALOUS).any()


@pytest.mark.parametrize(
    ("labels", "params"),
    [("boxes", {"supervision": "boxes"}), ("masks", {"supervision": "masks", "unsupervised_from": "another"})],
)
def test_what_goes_on_begins_with_the_mean_of_what_was_learnt(labels, params, tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache", labels=labels)
    _, first = tiny("semirest")
    turned_to(first, data, 1)
    _, method = tiny("semirest", **params)
    method.load_pretrained(first.state_dict())
    with torch.no_grad():
        for parameter in method.network.parameters():
            parameter.add_(1)
    method.steps.fill_(5)
    mean = {key: value.clone() for key, value in method.average.state_dict().items()}
    method.stages()[-1].prepare(data)
    method.stages()[-1].on_stage_start(data)
    assert method.steps == 0
    assert all(torch.equal(p, mean[key.replace(".", "-")]) for key, p in method.network.named_parameters())


def test_unknown_tokens_count_more_from_step_to_step(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache", labels="boxes")
    _, method = tiny("semirest", supervision="boxes", ramp=10, refine_windows=1.0, unknown_apart=True, unknown_weight=5)
    turned_to(method, data)
    batch = data.plan(method.stages()[-1].mix, 1).batch(0, seed=0, stage=2, rank=0, device=CPU)
    for step, weight in ((0, 0.0), (5, 2.5), (10, 5.0), (20, 5.0)):
        method.steps.fill_(step)
        loss = method(batch._replace(generator=gen()))
        assert float(loss.terms["unknown"]) > 0
        torch.testing.assert_close(loss.total.detach(), loss.terms["known"] + weight * loss.terms["unknown"])


def test_an_unknown_token_weighs_lambda_known_ones_however_few_there_are(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache", labels="boxes")
    _, method = tiny("semirest", supervision="boxes", refine_windows=1.0, dropped=0)
    turned_to(method, data)
    batch = data.plan(method.stages()[-1].mix, 1).batch(0, seed=0, stage=2, rank=0, device=CPU)
    seen = batch._replace(generator=gen())
    found = method._windows(method.simulate(seen), seen).targets
    known, unknown = int((found <= ANOMALOUS).sum()), int((found == UNKNOWN).sum())
    assert 0 < unknown < known

    def of_unknown(**changed: bool) -> torch.Tensor:
        method.config = method.config.model_copy(update=changed)
        method.usual.fill_(0.5)
        return method(batch._replace(generator=gen())).terms["unknown"]

    torch.testing.assert_close(of_unknown(unknown_apart=False) * known, of_unknown(unknown_apart=True) * unknown)
    assert not torch.isclose(of_unknown(mix=True), of_unknown(mix=False))


def test_the_guess_of_a_token_is_the_sharpened_mean_of_its_views(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache", labels="boxes")
    _, method = tiny("semirest", supervision="boxes", versions=2, sharpening=0.5, in_boxes=None, refine_windows=1.0)
    turned_to(method, data)
    batch = data.plan(method.stages()[-1].mix, 1).batch(0, seed=0, stage=2, rank=0, device=CPU)
    windows = method._windows(method.simulate(batch), batch)
    again = batch._replace(generator=gen(7))
    views = [method.network(method._strength(method._varied(windows, again))).softmax(-1) for _ in range(2)]
    assert not torch.equal(*views)
    mean = (views[0] + views[1]) / 2
    guess = method._guess(windows, batch._replace(generator=gen(7)))
    torch.testing.assert_close(guess, sharpened(mean, 0.5))
    assert not guess.requires_grad
    # Aligned, it is moved by the running mean of what was guessed of unknown tokens.
    method.config = method.config.model_copy(update={"in_boxes": 0.7})
    unknown = windows.targets == UNKNOWN
    usual = torch.lerp(torch.full((2,), 0.5), mean[unknown].mean(0), 1 / 32)
    guess = method._guess(windows, batch._replace(generator=gen(7)))
    assert unknown.any()
    torch.testing.assert_close(method.usual, usual)
    torch.testing.assert_close(guess, sharpened(aligned(mean, usual, 0.7), 0.5))
