"""SemiREST's stages and training steps."""

from __future__ import annotations

import pytest
import torch

from adjobs.data.labels.masks import ANOMALOUS, UNKNOWN
from adjobs.errors import DataError
from adjobs.methods.semirest.resmixmatch import align_distribution, sharpen
from tests.helpers.drawing import draw_folder
from tests.helpers.randomness import generator
from tests.helpers.tiny import drawn_data, random_batch, tiny_method
from tests.methods.semirest.stages import start_stages

CPU = torch.device("cpu")


@pytest.fixture
def boxed_data(tmp_path):
    return drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache", label_detail="boxes")[1]


def refining(data, **params: object):
    """A method at the start of the refinement stage, and a batch of that stage."""
    method = tiny_method("semirest", supervision="boxes", refine_window_fraction=1.0, **params)
    start_stages(method, data)
    return method, data.plan(method.stages()[-1].mix, 1).batch(0, seed=0, stage=2, rank=0, device=CPU)


def test_calibrate_gain_gives_normal_tokens_the_target_mean(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    method = tiny_method("semirest", target_mean_residual=0.01)
    start_stages(method, data)
    batch = next(data.normal(8))
    unchanged = batch._replace(simulate=torch.zeros(8, dtype=torch.bool))
    tokens, neighbours = method._tokens_and_neighbours(batch.images, unchanged)
    network_input = method._network_input(method.memory.residuals(tokens, neighbours[..., 0]))
    assert float(network_input.mean()) == pytest.approx(0.01, rel=1e-3)


def test_calibrate_gain_identical_normal_images_are_refused(tmp_path):
    root = draw_folder(tmp_path / "d", 4, 4)
    first, *others = sorted((root / "good").iterdir())
    for path in others:
        path.write_bytes(first.read_bytes())
    _, data = drawn_data(root, tmp_path / "cache")
    with pytest.raises(DataError, match="all normal training images are identical"):
        tiny_method("semirest", coreset_ratio=1.0).stages()[0].prepare(data)


@pytest.mark.parametrize(
    ("label_detail", "params"),
    [("boxes", {"supervision": "boxes"}), ("masks", {"supervision": "masks", "unsupervised_from": "another"})],
)
def test_prepare_phase_continued_training_starts_from_the_averaged_weights(label_detail, params, tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache", label_detail=label_detail)
    trained = tiny_method("semirest")
    start_stages(trained, data, 1)
    method = tiny_method("semirest", **params)
    method.load_pretrained(trained.state_dict())
    with torch.no_grad():
        for parameter in method.network.parameters():
            parameter.add_(1)
    method.steps.fill_(5)
    average = {key: value.clone() for key, value in method.average.state_dict().items()}
    method.stages()[-1].prepare(data)
    method.stages()[-1].on_stage_start(data)
    assert method.steps == 0
    assert all(torch.equal(p, average[key.replace(".", "-")]) for key, p in method.network.named_parameters())


def test_refine_step_weight_of_unknown_tokens_ramps_up(boxed_data):
    method, batch = refining(boxed_data, ramp_up_steps=10, separate_unknown_mean=True, unknown_weight=5)
    for step, weight in ((0, 0.0), (5, 2.5), (10, 5.0), (20, 5.0)):
        method.steps.fill_(step)
        loss = method(batch._replace(generator=generator()))
        assert float(loss.terms["unknown"]) > 0
        torch.testing.assert_close(loss.total.detach(), loss.terms["known"] + weight * loss.terms["unknown"])


def test_refine_step_unknown_loss_is_normalised_by_the_known_or_the_unknown_tokens(boxed_data):
    method, batch = refining(boxed_data, token_dropout=0)
    seeded_batch = batch._replace(generator=generator())
    labels = method._draw_windows(method.simulate(seeded_batch), seeded_batch).labels
    known, unknown = int((labels <= ANOMALOUS).sum()), int((labels == UNKNOWN).sum())
    assert 0 < unknown < known

    def unknown_loss(**params: bool) -> torch.Tensor:
        method.config = method.config.model_copy(update=params)
        method.running_prior.fill_(0.5)
        return method(batch._replace(generator=generator())).terms["unknown"]

    by_known, by_unknown = (unknown_loss(separate_unknown_mean=separate) for separate in (False, True))
    torch.testing.assert_close(by_known * known, by_unknown * unknown)
    assert not torch.isclose(unknown_loss(mixup=True), unknown_loss(mixup=False))


def test_pseudo_labels_are_the_sharpened_mean_of_augmented_views(boxed_data):
    method, batch = refining(boxed_data, pseudo_label_views=2, sharpening_temperature=0.5, box_anomalous_prior=None)
    windows = method._draw_windows(method.simulate(batch), batch)
    seeded_batch = batch._replace(generator=generator(7))
    views = [
        method.network(method._network_input(method._augmented_residuals(windows, seeded_batch))).softmax(-1) for _ in range(2)
    ]
    assert not torch.equal(*views)
    mean = (views[0] + views[1]) / 2
    pseudo_labels = method._pseudo_labels(windows, batch._replace(generator=generator(7)))
    torch.testing.assert_close(pseudo_labels, sharpen(mean, 0.5))
    assert not pseudo_labels.requires_grad

    # With a prior they are aligned by the running mean over unknown tokens.
    method.config = method.config.model_copy(update={"box_anomalous_prior": 0.7})
    unknown = windows.labels == UNKNOWN
    assert unknown.any()
    running_prior = torch.lerp(torch.full((2,), 0.5), mean[unknown].mean(0), 1 / 32)
    aligned = method._pseudo_labels(windows, batch._replace(generator=generator(7)))
    torch.testing.assert_close(method.running_prior, running_prior)
    torch.testing.assert_close(aligned, sharpen(align_distribution(mean, running_prior, 0.7), 0.5))


def test_fit_score_gives_normal_tokens_no_mean_and_unit_deviation(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    method = tiny_method("semirest")
    start_stages(method, data, 1)
    method.stages()[-1].fit_statistics(data)
    batch = next(data.normal(8))
    terms = method.scales(*method._token_scores(batch.images, batch.indices, as_logits=True))
    scaled = torch.stack(terms, -1).flatten(0, 2)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2), rtol=0, atol=1e-4)
    torch.testing.assert_close(scaled.std(0), torch.ones(2), rtol=1e-4, atol=0)


def test_predict_combined_adds_distance_and_logit_in_deviations(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    method = tiny_method("semirest", sigma=0)
    start_stages(method, data, 1)
    images = next(data.normal(2)).images
    distances, logits = method._token_scores(images, as_logits=True)
    method.scales.mean.copy_(torch.tensor([1.0, -2.0]))
    method.scales.deviation.copy_(torch.tensor([2.0, 0.5]))
    expected = method._upsample(((distances - 1) / 2 + (logits + 2) / 0.5)[:, None], images)
    prediction = method.predict(images)
    torch.testing.assert_close(prediction.anomaly_map, expected)
    torch.testing.assert_close(prediction.score, expected.flatten(1).amax(1))


def test_predict_network_is_a_probability_and_its_state_is_the_same():
    """A stage that trials share must not depend on what scores."""
    network, combined = (tiny_method("semirest", score=score).eval() for score in ("network", "combined"))
    maps = network.predict(random_batch().images).anomaly_map
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert torch.equal(network.scales.mean, combined.scales.mean)
    assert torch.equal(network.scales.deviation, combined.scales.deviation)
    assert combined.scales.deviation.tolist() != [1, 1]
