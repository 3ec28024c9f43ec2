"""CDO's networks, batches and predictions."""

from __future__ import annotations

import pytest
import torch

from adjobs.errors import JobError
from adjobs.evaluation.evaluate import evaluation_mode
from adjobs.inference import detector_folder
from adjobs.inference.torch_detector import TorchDetector
from adjobs.methods.cdo import model as module
from adjobs.methods.cdo.config import Config
from adjobs.methods.cdo.model import build
from tests.helpers.detectors import make_manifest
from tests.helpers.tiny import RandomImages, random_batch, tiny_method


class TrainingSplit(RandomImages):
    """A training split of the given normal images, in batches of 10."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.images = images

    def normal(self, size):
        batch = next(super().normal(size))
        yield from (batch._replace(images=images) for images in self.images.split(10))


def test_train_expert_stays_in_evaluation_mode():
    method = tiny_method("cdo")
    before = {key: value.clone() for key, value in method.expert.state_dict().items()}
    method.train()(random_batch()).total.backward()
    assert not method.expert.training
    assert all(torch.equal(value, before[key]) for key, value in method.expert.state_dict().items())


@pytest.mark.slow
def test_forward_ablations_change_the_loss():
    batch = random_batch()

    def total(**params) -> float:
        method = tiny_method("cdo", **params)
        return float(method.train()(batch._replace(generator=torch.Generator().manual_seed(0))).total.detach())

    assert total(mom=False, rectangles=0) != total(rectangles=4)
    assert total(oom=False) == total(gamma=0.0)
    assert total(loss_times_batch=True) == pytest.approx(4 * total(), rel=1e-5)


def test_stages_labelled_masks_are_a_quarter_of_the_batch():
    assert tiny_method("cdo").stages()[0].mix == (0, 0, 4, 0)
    assert tiny_method("cdo", use_labelled_masks=True).stages()[0].mix == (0, 0, 3, 1)


def test_forward_unknown_pixels_are_ignored():
    method = tiny_method("cdo")
    batch = random_batch()
    normal = batch._replace(masks=torch.zeros_like(batch.masks), simulate=torch.zeros_like(batch.simulate))
    unknown = method(normal._replace(unknown=batch.masks))
    assert unknown.total != method(normal).total
    assert unknown.terms["d_synthetic"] == 0


def test_forward_one_labelled_pixel_makes_its_position_synthetic():
    """A scratch of one pixel lies between the pixels that the nearest of each position would be."""
    method = tiny_method("cdo", rectangles=0, use_labelled_masks=True)
    batch = random_batch()
    masks = torch.zeros_like(batch.masks)
    masks[2:, :, 5, :] = masks[2:, :, 7, 9] = True
    d = method.discrepancies(batch.images).sum(0)
    scratch = d[2:, 1].mean()  # the pixels 4 to 7 of each column
    torch.testing.assert_close(method(batch._replace(masks=masks)).terms["d_synthetic"], scratch)


@pytest.mark.parametrize("distance", ["euclidean", "mahalanobis"])
def test_build_without_pretrained_weights_gives_two_different_networks(distance):
    method = tiny_method("cdo", distance=distance).eval()
    scores = method.predict(random_batch().images).score
    assert (scores > 0).all()
    again = tiny_method("cdo", distance=distance).eval()
    assert torch.equal(again.predict(random_batch().images).score, scores)


def test_fit_statistics_covers_the_differences_of_all_levels():
    method = tiny_method("cdo", shrinkage=1e-7, max_channels=48)
    data = RandomImages(64)
    method.stages()[0].fit_statistics(data)
    with evaluation_mode(method):
        distances = method.differences(*method._precise_features(next(data.normal(16)).images))
    # Eight vectors in more than eight dimensions have a squared distance of 7 · 7 / 8 from their mean each.
    assert distances.shape == (8, 8, 8)
    torch.testing.assert_close(distances, torch.full_like(distances, (7 * 7 / 8 / 48) ** 0.5), rtol=1e-2, atol=0)


@pytest.mark.parametrize(("max_bytes", "expected"), [(1 << 30, 3), (0, 6), (100_000, 5)])
def test_fit_statistics_expert_sees_the_images_once_if_memory_allows(max_bytes, expected, monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", max_bytes)
    method = tiny_method("cdo")
    data = TrainingSplit(torch.rand(25, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    fit = method.stages()[0].fit_statistics
    passes = []
    method.expert.register_forward_hook(lambda *_: passes.append(1))
    fit(data)
    with torch.no_grad():
        for parameter in method.apprentice.parameters():
            parameter.mul_(1.1)
    fit(data)
    assert len(passes) == expected
    kept = {name: value.clone() for name, value in method.differences.state_dict().items()}
    method.stages()[0].fit_statistics(data)  # another stage keeps nothing of the first
    fresh = method.differences.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in kept.items())


def test_predict_defect_at_a_variable_position_scores_lower():
    """A square that is dark or bright on normal images scores lower where it usually is than elsewhere."""
    method = tiny_method("cdo", first_level=2, last_level=2)
    generator = torch.Generator().manual_seed(0)
    normal = 0.5 + 0.02 * torch.randn(24, 3, 64, 64, generator=generator)
    normal[:, :, 8:24, 8:24] += 0.8 * torch.rand(24, 1, 1, 1, generator=generator) - 0.4
    method.stages()[0].fit_statistics(TrainingSplit(normal))
    at_variable, at_constant = (0.5 + 0.02 * torch.randn(1, 3, 64, 64, generator=generator) for _ in range(2))
    at_variable[:, :, 8:24, 8:24] += 0.3
    at_constant[:, :, 40:56, 40:56] += 0.3
    with evaluation_mode(method):
        assert float(method.predict(at_constant).score) > 2 * float(method.predict(at_variable).score)


def test_predict_defect_on_a_constant_background_is_found():
    """Images with a uniform background: a spot on it has a high score, the background of a normal image does not."""
    method = tiny_method("cdo")
    generator = torch.Generator().manual_seed(0)
    images = torch.full((25, 3, 64, 64), 0.5)
    images[:, :, 32:] += 0.1 * torch.randn(25, 3, 32, 64, generator=generator)
    method.stages()[0].fit_statistics(TrainingSplit(images[:24]))
    normal, anomalous = images[24:], images[24:].clone()
    anomalous[:, :, 4:20, 8:24] = 0.9
    with evaluation_mode(method):
        normal_map, anomalous_map = (method.predict(image).anomaly_map for image in (normal, anomalous))
    spot = anomalous_map[..., 4:20, 8:24]
    assert float(spot.max()) > 2 * float(normal_map.max())
    assert float(spot.max()) < 1e4 * float(normal_map.max())


def test_build_covariances_too_large_is_refused():
    config = Config(weights="none", backbone="resnet18", grid=128, max_channels=500)
    message = (
        r"would take 12\.2 GiB for 16384 positions with 448 channels; allowed: 0\.5 GiB; lower params\.grid \(128\) or "
        r"params\.max_channels \(500\), or set params\.distance=nearest"
    )
    with pytest.raises(JobError, match=message):
        build(config, image_size=1024, seed=0)


def test_predict_nearest_a_part_that_lies_elsewhere_scores_lower_than_a_defect():
    """A bright square anywhere is normal; a dark one is not."""
    method = tiny_method("cdo", distance="nearest", first_level=2, last_level=2, sigma=0)
    draw = torch.Generator().manual_seed(0)

    def images(count: int, step: float) -> torch.Tensor:
        drawn = 0.5 + 0.02 * torch.randn(count, 3, 64, 64, generator=draw)
        drawn[:, :, 8:24, 8:24] += step
        places = torch.randint(0, 40, (count, 2), generator=draw).tolist()
        return torch.stack([image.roll(place, (1, 2)) for image, place in zip(drawn, places, strict=True)])

    method.stages()[0].fit_statistics(TrainingSplit(images(40, 0.3)))
    with evaluation_mode(method):
        assert float(method.predict(images(4, -0.3)).score.min()) > 1.3 * float(method.predict(images(4, 0.3)).score.max())


@pytest.mark.parametrize("distance", ["mahalanobis", "nearest"])
def test_saved_detector_keeps_what_was_fitted(distance, tmp_path):
    method = tiny_method("cdo", distance=distance).eval()
    method.stages()[0].fit_statistics(RandomImages(64))
    detector_folder.save(tmp_path, method, make_manifest("cdo", method.config.model_dump(mode="json")))
    images = random_batch().images
    prediction = TorchDetector.load(tmp_path, "cpu").method.predict(images)
    torch.testing.assert_close(prediction.score, method.predict(images).score, rtol=1e-4, atol=1e-5)
