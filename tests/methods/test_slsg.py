"""SLSG's equations, its two stages, and that its switches do what the tables of the paper say."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from adjobs.config.resolve import resolve
from adjobs.errors import DataError, JobError
from adjobs.methods.slsg.config import Config
from adjobs.methods.slsg.graph import SGBlock, max_relative
from adjobs.methods.slsg.inpaint import masked
from adjobs.methods.slsg.loss import absolute, focal, mean_where
from adjobs.methods.slsg.networks import Encoder
from adjobs.nn.position import sincos_2d
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import drawn_data, random_batch, tiny


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def few_steps(stage, steps: int, batch, lr: float | None = None) -> list[dict[str, float]]:
    """Plain steps on batches that differ in their draws only."""
    optimizer, logged = stage.optimizer(), []
    for group in optimizer.param_groups:
        group["lr"] = lr or group["lr"]
    stage.module.train()
    for step in range(steps):
        loss = stage.module(batch._replace(generator=gen(step)))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        logged.append({name: float(value) for name, value in loss.terms.items()})
    return logged


# Stage 1.


def test_the_encoder_is_resnet18_without_its_pooling():
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", num_classes=0).eval()
    encoder = Encoder(64).eval()
    encoder.take(network.state_dict())
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in network.parameters())
    network.maxpool = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 64, generator=gen())
    maps = encoder(images)
    torch.testing.assert_close(maps[-1], network.forward_features(images))
    assert [tuple(level.shape[1:]) for level in maps] == [(64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


@pytest.mark.parametrize(("mode", "cells", "across"), [("cells", 8, 8), ("pixels", 8, 32), ("cells", 4, 4)])
def test_the_grid_masks_its_share_of_whole_cells(mode, cells, across):
    config = Config(cells=cells, grid_mode=mode, mask_ratio=0.8, large_masks=0)
    hidden = masked(config, torch.zeros(3, 3, 64, 64), gen())
    by_cell = F.avg_pool2d(hidden.float(), 64 // across).flatten(1)
    assert set(by_cell.unique().tolist()) == {0.0, 1.0}
    assert by_cell.sum(1).tolist() == [round(0.8 * across**2)] * 3
    assert not torch.equal(by_cell[0], by_cell[1])


def test_large_rectangles_come_beside_the_grid():
    config = Config(mask_ratio=0, large_masks=1, large_min=64, large_max=128)
    hidden = masked(config, torch.zeros(200, 3, 64, 64), gen())
    rows = hidden.any(3).sum((1, 2))
    assert (int(rows.min()), int(rows.max())) == (16, 32)  # 64 and 128 of 256 pixels


def test_generator_and_discriminator_do_not_reach_each_other():
    _, method = tiny("slsg")
    net, batch = method.inpainter.train(), random_batch()

    def touched(**weights: float) -> set[str]:
        net.config = net.config.model_copy(update={"alpha_adv": 0.0, "alpha_rec": 0.0, "alpha_bottleneck": 0.0, **weights})
        net.zero_grad()
        net(batch._replace(generator=gen())).total.backward()
        return {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}

    before = {name: p.grad.clone() for name, p in net.discriminator.named_parameters()} if touched() else {}
    assert touched() == {"discriminator"}
    assert touched(alpha_adv=1.0) == {"encoder", "decoder", "discriminator"}
    for name, p in net.discriminator.named_parameters():  # that it is fooled is no gradient of its own
        torch.testing.assert_close(p.grad, before[name])
    assert touched(alpha_bottleneck=1.0) == {"encoder", "coarse", "discriminator"}


def test_its_losses_are_those_of_least_squares():
    """Eq. (8) and (9) of a discriminator that answers ¼ whatever it sees."""
    _, method = tiny("slsg")
    net = method.inpainter.train()
    last = net.discriminator[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 0.25)
    parts = net(random_batch()).terms
    assert float(parts["adversarial"]) == pytest.approx(0.75**2 / 2)
    assert float(parts["discriminator"]) == pytest.approx(0.25**2 / 2 + 0.75**2 / 2)
    assert float(parts["judged_real"]) == float(parts["judged_made"]) == pytest.approx(0.25)


def test_inpainting_learns_from_both_heads_and_its_pictures_do_not_collapse():
    _, method = tiny("slsg", pretrain_lr=1e-2)
    rows = torch.linspace(0, 1, 4).view(4, 1, 1, 1)
    pictures = (torch.linspace(0, 1, 64).view(1, 1, 64, 1) * rows + 0.2 * rows).clamp(0, 1).expand(4, 3, 64, 64).contiguous()
    logged = few_steps(method.stages()[0], 60, random_batch()._replace(images=pictures))
    for name in ("reconstruction", "bottleneck"):
        assert logged[-1][name] < 0.5 * logged[0][name], name
    method.eval()
    shown, made = method.inpainter.fill(pictures, gen())
    assert shown.shape == made.shape == pictures.shape
    assert 0 <= float(made.min()) < float(made.max()) <= 1
    assert (made - pictures).abs().mean() < 0.8 * (shown - pictures).abs().mean()
    assert made.mean((1, 2, 3)).std() > 0.5 * pictures.mean((1, 2, 3)).std()  # each its own picture


# The SG block.


def block(side: int = 4, **params: object) -> SGBlock:
    torch.manual_seed(0)
    return SGBlock(Config(width=8, **params), side)


def test_max_relative_convolution_is_equation_6():
    nodes, edges = torch.randn(2, 5, 3, generator=gen()), torch.randint(0, 5, (2, 5, 4), generator=gen())
    found = max_relative(nodes, edges)
    for b in range(2):
        for i in range(5):
            torch.testing.assert_close(found[b, i], torch.stack([nodes[b, j] - nodes[b, i] for j in edges[b, i]]).amax(0))


def test_edges_go_to_what_is_alike_but_not_near():
    x = torch.randn(1, 16, 32, generator=gen())
    near = F.normalize(sincos_2d(4, 4, 64).flatten(1).T, dim=1)
    likeness = F.cosine_similarity(x[0][:, None], x[0][None], dim=2) - near @ near.T
    expected = likeness.topk(3, 1).indices
    graph = block(neighbours=3)
    assert torch.equal(graph.edges(x, x)[0], expected)
    with_places = block(neighbours=3, position_free=False)
    assert (with_places.edges(x, x)[0, :, 0] == torch.arange(16)).all()
    dilated = block(neighbours=3, dilation=2)
    assert torch.equal(dilated.edges(x, x)[0], likeness.topk(6, 1).indices[:, ::2])
    assert block(neighbours=20).edges(x, x).shape == (1, 16, 16)


def test_self_attention_is_equations_2_and_3():
    graph, x = block(graph=False), torch.randn(1, 64, 4, 4, generator=gen())
    f, g, h = (layer(x).flatten(2)[0].T for layer in (graph.f, graph.g, graph.h))
    z = torch.softmax(f @ g.T / math.sqrt(32), 1) @ h
    expected = graph.update(z.T.view(1, 64, 4, 4))
    torch.testing.assert_close(graph(x), expected)
    official = block(graph=False, attention="official")
    assert official.g is None
    f, h = (layer(x).flatten(2)[0].T for layer in (official.f, official.h))
    z = torch.softmax(f @ f.T, 1) @ h
    torch.testing.assert_close(official(x), official.update(z.T.view(1, 64, 4, 4)))


@pytest.mark.parametrize("switches", [(False, False), (True, False), (False, True), (True, True)])
def test_the_blocks_switches_leave_no_parameter_without_gradient(switches):
    graph = block(self_attention=switches[0], graph=switches[1])
    x = torch.randn(2, 64, 4, 4, generator=gen())
    found = graph(x)
    assert found.shape == x.shape
    if not any(switches):
        assert found is x
        return
    found.square().sum().backward()
    # f and g are without one where only the graph, which takes the largest, looks at them: then there are none.
    assert [name for name, p in graph.named_parameters() if p.grad is None] == []


def test_the_block_sees_the_whole_picture():
    """One place changes what is said of every place."""
    graph, x = block(), torch.randn(1, 64, 4, 4, generator=gen())
    other = x.clone()
    other[..., 0, 0] += 1
    assert ((graph(x) - graph(other)).abs().amax(1) > 0).all()


# Stage 2.


def test_focal_loss_and_l1_by_hand():
    logits = torch.tensor([[1.0, 3.0], [0.5, -2.0]]).view(2, 2, 1, 1)
    masks = torch.tensor([True, False]).view(2, 1, 1, 1)
    p = torch.softmax(logits, 1)
    right = torch.stack([p[0, 1], p[1, 0]]).view(2, 1, 1, 1)
    torch.testing.assert_close(focal(logits, masks, 4.0), -((1 - right) ** 4) * right.log())
    torch.testing.assert_close(focal(logits, masks, 0.0), -right.log())
    torch.testing.assert_close(absolute(logits, masks), 1 - right)
    far = torch.tensor([-500.0, 500.0]).view(1, 2, 1, 1)
    assert float(focal(far, ~masks[:1], 4.0)) == pytest.approx(1000)


def test_pixels_of_which_nothing_is_known_say_nothing():
    values, known = torch.tensor([[1.0, 2.0, 7.0]]), torch.tensor([[True, True, False]])
    assert float(mean_where(values, known, lambda x: x)) == 1.5
    assert float(mean_where(values, ~known, lambda x: x)) == 7.0
    assert float(mean_where(values, torch.zeros_like(known), lambda x: x)) == 0.0
    _, method = tiny("slsg", jitter=0)
    batch = random_batch()._replace(simulate=torch.zeros(4, dtype=torch.bool))
    method.train()
    one = method(batch)
    unknown = batch.unknown.clone()
    unknown[0] = True
    other = method(batch._replace(unknown=unknown))
    assert float(one.total.detach()) != float(other.total.detach())


def test_no_gradient_reaches_the_encoder_and_its_statistics_stand_still():
    _, method = tiny("slsg")
    _, official = tiny("slsg", encoder_bn_train=True)
    for net, moves in ((method, False), (official, True)):
        before = net.encoder.bn1.running_mean.clone()
        net.train()
        net(random_batch()).total.backward()
        assert all(p.grad is None for p in net.inpainter.parameters())
        assert torch.equal(net.encoder.bn1.running_mean, before) != moves


def test_segmentation_tells_simulated_pixels_from_good_ones(tmp_path):
    _, method = tiny("slsg", pretrain="none", logical=0.0, shuffled=0.0)
    method.stages()[0].prepare(drawn_data(draw_folder(tmp_path / "d", 8, 0), tmp_path / "cache")[1])
    images = torch.full((8, 3, 64, 64), 0.5) + 0.02 * torch.randn(8, 3, 64, 64, generator=gen())
    batch = random_batch(8)._replace(
        images=images, simulate=torch.arange(8) >= 4, masks=torch.zeros(8, 1, 64, 64, dtype=torch.bool)
    )
    logged = few_steps(method.stages()[0], 40, batch)
    assert logged[-1]["p_anomalous"] > 1.5 * logged[-1]["p_normal"]


def test_an_image_scores_the_mean_of_its_largest_pixels():
    _, method = tiny("slsg", top=32)
    method.eval()
    found = method.predict(random_batch().images)
    assert 0 <= float(found.anomaly_map.min()) <= float(found.anomaly_map.max()) <= 1
    torch.testing.assert_close(
        found.score, found.anomaly_map.flatten(1).sort(1).values[:, -2:].mean(1)
    )  # 32 of 256² are 2 of 64²


def test_the_bottleneck_skip_and_the_auxiliary_logits_are_switches():
    batch = random_batch()
    _, both = tiny("slsg", sum_logits=True)
    both.eval()
    _, plain = tiny("slsg")
    plain.eval()
    plain.load_state_dict(both.state_dict())
    logits, aux = plain._logits(batch.images)
    summed, _ = both._logits(batch.images)
    torch.testing.assert_close(summed, logits + aux)
    _, without = tiny("slsg", bottleneck_skip=False)
    assert without.decoder.bottleneck is None


def test_stages_follow_where_the_encoder_comes_from():
    def stages(**params: object) -> list[str]:
        return [stage.name for stage in tiny("slsg", **params)[1].stages()]

    assert stages() == ["inpaint", "segment"]
    assert stages(pretrain="none") == stages(pretrain_from="0" * 32) == ["segment"]
    assert [s.predicts for s in tiny("slsg")[1].stages()] == [False, True]


def test_the_encoders_statistics_are_those_of_whole_pictures(tmp_path):
    """Not of masked ones, which it learnt from, nor those that it was made with."""
    _, method = tiny("slsg", mask_ratio=0.9)
    _, data = drawn_data(draw_folder(tmp_path / "d", 16, 0), tmp_path / "cache")
    inpaint, segment = method.stages()
    few_steps(inpaint, 20, data.plan(inpaint.mix, 1).batch(0, seed=0, stage=0, rank=0, device=torch.device("cpu")))
    images = next(data.normal(16)).images
    convolved = method.encoder.conv1(method.encoder.normalised(images))
    wanted = convolved.mean((0, 2, 3))
    assert (method.encoder.bn1.running_mean - wanted).norm() > 0.2 * wanted.norm()
    segment.prepare(data)
    torch.testing.assert_close(method.encoder.bn1.running_mean, wanted)
    torch.testing.assert_close(method.encoder.bn1.running_var, convolved.var((0, 2, 3)))
    assert method.encoder.bn1.momentum == 0.1
    running = method.encoder.bn1.running_mean.clone()
    shown, made = method.eval().fill(images, gen())
    assert torch.equal(method.encoder.bn1.running_mean, running)
    assert shown.shape == made.shape == images.shape
    assert tiny("slsg", pretrain="none")[1].fill(images, gen()) == ()


def test_what_is_wrong_with_textures_is_said_before_the_first_stage(tmp_path):
    _, method = tiny("slsg", textures=str(tmp_path / "nothing"))
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 0), tmp_path / "cache")
    with pytest.raises(DataError, match="no pictures there"):
        method.stages()[0].prepare(data)


def test_edges_are_the_same_under_autocast():
    graph, x = block(neighbours=3), 1 + torch.rand(1, 16, 32, generator=gen())
    plain = graph.edges(x, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(graph.edges(x, x), plain)


def test_a_start_takes_what_inpainting_has_learnt_and_nothing_else():
    _, giver = tiny("slsg")
    _, taker = tiny("slsg")
    with torch.no_grad():
        for p in giver.parameters():
            p.add_(1)
    before = {key: value.clone() for key, value in taker.state_dict().items()}
    taker.load_pretrained(giver.state_dict())
    for key, value in taker.state_dict().items():
        assert torch.equal(value, giver.state_dict()[key] if key.startswith("inpainter.") else before[key]), key


def test_labelled_anomalies_can_be_learnt_from(tmp_path):
    _, method = tiny("slsg", pretrain="none", labelled=2)
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    batch = data.plan(method.stages()[0].mix, 1).batch(0, seed=0, stage=0, rank=0, device=torch.device("cpu"))
    assert batch.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert method.simulate(batch).masks[4:].flatten(1).any(1).all()
    _, none = drawn_data(draw_folder(tmp_path / "good", 8, 0), tmp_path / "cache")
    with pytest.raises(DataError, match="label some or change params"):
        none.plan(method.stages()[0].mix, 1)


def test_textures_of_a_folder_are_read_when_they_are_needed(tmp_path):
    _, method = tiny("slsg", textures=str(tmp_path / "nothing"))
    method.eval().predict(random_batch().images)
    with pytest.raises(DataError, match="no pictures there"):
        method.simulate(random_batch())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"large_min": 100, "large_max": 50}, "large_min: got 100, must not exceed large_max 50"),
        ({"pretrain": "none", "pretrain_from": "x"}, "pretrain_from: got one with pretrain none"),
        ({"mask_ratio": 1}, "mask_ratio"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(params, message):
    with pytest.raises(JobError, match=message):
        resolve({"method": "slsg", "data": {"uri": "x"}, "params": params})


def test_imagenet_weights_want_their_width():
    with pytest.raises(JobError, match=r"params.width: got 16, weights of ImageNet fit 64 only"):
        tiny("slsg", pretrain="imagenet")
