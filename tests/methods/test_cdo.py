"""CDO's equations, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from adjobs.errors import JobError
from adjobs.evaluation.evaluate import evaluation_mode
from adjobs.inference import detector
from adjobs.methods.cdo.config import Config
from adjobs.methods.cdo.loss import MAX_WEIGHT, MIN_DISCREPANCY, cdo_loss, differences, discrepancies
from adjobs.methods.cdo.model import CDO, build
from adjobs.methods.cdo.spread import JointSpread, shared
from tests.helpers.tiny import RandomImages, random_batch, tiny


def loss(d: list[float], synthetic: list[bool], gamma: float) -> float:
    """The loss of one hierarchy of one image, one row of positions."""
    s = torch.tensor(synthetic).view(1, 1, -1)
    return float(cdo_loss(torch.tensor(d).view(1, 1, 1, -1), ~s, s, gamma)[0])


def test_two_pixels():
    """One normal pixel with d = 0.3, one synthetic with d = 0.5, any γ.

    Each is its own kind's mean, so w_n = (0.3 / 0.3)^γ = 1 and w_s = (0.5 / 0.5)^-γ = 1:
    L = (1 · 0.3 − 1 · 0.5) / (1 + 1) = −0.1.
    """
    assert loss([0.3, 0.5], [False, True], 2.0) == pytest.approx(-0.1)
    assert loss([0.3, 0.5], [False, True], 0.0) == pytest.approx(-0.1)


def test_overlap_weights():
    """Two normal pixels 0.1 and 0.3 (mean 0.2), two synthetic 0.4 and 0.8 (mean 0.6), γ = 2.

    w_n = (0.1/0.2)² = 0.25 and (0.3/0.2)² = 2.25; w_s = (0.6/0.4)² = 2.25 and (0.6/0.8)² = 0.5625.
    Numerator: 0.25·0.1 + 2.25·0.3 − 2.25·0.4 − 0.5625·0.8 = 0.7 − 1.35 = −0.65.
    Denominator: 0.25 + 2.25 + 2.25 + 0.5625 = 5.3125.
    """
    assert loss([0.1, 0.3, 0.4, 0.8], [False, False, True, True], 2.0) == pytest.approx(-0.65 / 5.3125)


def test_gamma_zero_is_margin_optimisation_alone():
    """γ = 0, eq. (5): (0.1 + 0.3 − 0.4 − 0.8) / 4 = −0.2."""
    assert loss([0.1, 0.3, 0.4, 0.8], [False, False, True, True], 0.0) == pytest.approx(-0.2)


def test_without_synthetic_pixels_it_is_the_mean_discrepancy():
    """Eq. (4): (0.1 + 0.3) / 2 = 0.2 with γ = 0; with γ = 2 (0.25·0.1 + 2.25·0.3) / 2.5 = 0.28."""
    assert loss([0.1, 0.3], [False, False], 0.0) == pytest.approx(0.2)
    assert loss([0.1, 0.3], [False, False], 2.0) == pytest.approx(0.28)


def test_pixels_of_which_nothing_is_known_count_for_nothing():
    d = torch.tensor([0.1, 0.3, 3.9]).view(1, 1, 1, -1)
    normal, synthetic = torch.tensor([True, True, False]).view(1, 1, -1), torch.zeros(1, 1, 3, dtype=torch.bool)
    assert float(cdo_loss(d, normal, synthetic, 0.0)[0]) == pytest.approx(0.2)


def test_a_synthetic_pixel_without_discrepancy_has_a_bounded_weight():
    value = loss([0.2, 0.0, 4.0], [False, True, True], 2.0)
    assert math.isfinite(value)
    # μ_s = 2; the first synthetic pixel's (2 / 1e-6)² is cut to MAX_WEIGHT, the second's is (2 / 4)² = 0.25.
    assert (2.0 / MIN_DISCREPANCY) ** 2 > MAX_WEIGHT
    assert value == pytest.approx((0.2 - 0.25 * 4.0) / (1 + MAX_WEIGHT + 0.25))


def test_weights_carry_no_gradient():
    """With weights constant, ∂L/∂d of a normal pixel is w_n / Σw: 2.25 / 2.5 for d = 0.3 beside 0.1, γ = 2."""
    d = torch.tensor([0.1, 0.3]).view(1, 1, 1, -1).requires_grad_()
    none = torch.zeros(1, 1, 2, dtype=torch.bool)
    cdo_loss(d, ~none, none, 2.0).sum().backward()
    torch.testing.assert_close(d.grad.flatten(), torch.tensor([0.25 / 2.5, 2.25 / 2.5]))


def test_gradient_pulls_normal_pixels_together_and_drives_synthetic_ones_apart():
    d = torch.tensor([0.2, 0.6]).view(1, 1, 1, -1).requires_grad_()
    s = torch.tensor([False, True]).view(1, 1, -1)
    cdo_loss(d, ~s, s, 2.0).sum().backward()
    assert d.grad.flatten()[0] > 0 > d.grad.flatten()[1]


def test_discrepancy_is_the_squared_distance_of_unit_vectors():
    """(3, 4)/5 against (1, 0): ‖(−0.4, 0.8)‖² = 0.8 = 2 − 2·0.6, whatever the lengths."""
    expert, apprentice = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([7.0, 0.0]).view(1, 2, 1, 1)
    assert float(discrepancies([expert], [apprentice])) == pytest.approx(0.8)
    assert float(discrepancies([expert], [apprentice], "l2")) == pytest.approx(math.sqrt(0.8))


def test_hierarchies_come_out_at_the_size_of_the_first():
    maps = [torch.rand(2, 4, 16, 16), torch.rand(2, 8, 8, 8), torch.rand(2, 16, 4, 4)]
    assert discrepancies(maps, [torch.rand_like(m) for m in maps]).shape == (3, 2, 16, 16)


def test_expert_stays_in_evaluation_mode():
    _, method = tiny("cdo")
    before = {key: value.clone() for key, value in method.expert.state_dict().items()}
    method.train()(random_batch()).total.backward()
    assert not method.expert.training
    assert all(torch.equal(value, before[key]) for key, value in method.expert.state_dict().items())


def test_ablations_change_the_loss_as_the_paper_says():
    batch = random_batch()

    def total(**params) -> float:
        _, method = tiny("cdo", **params)
        return float(method.train()(batch._replace(generator=torch.Generator().manual_seed(0))).total.detach())

    assert total(mom=False, rectangles=0) != total(rectangles=4)
    assert total(oom=False) == total(gamma=0.0)
    assert total(loss_times_batch=True) == pytest.approx(4 * total(), rel=1e-5)


def test_labelled_masks_are_driven_apart_only_when_asked():
    _, method = tiny("cdo")
    assert method.stages()[0].mix == (0, 0, 4, 0)
    _, method = tiny("cdo", use_labelled_masks=True)
    assert method.stages()[0].mix == (0, 0, 3, 1)


def test_what_a_label_leaves_open_teaches_nothing():
    _, method = tiny("cdo")
    batch = random_batch()
    plain = batch._replace(masks=torch.zeros_like(batch.masks), simulate=torch.zeros_like(batch.simulate))
    open_ = method(plain._replace(unknown=batch.masks))
    assert open_.total != method(plain).total
    assert open_.terms["d_synthetic"] == 0


def parted(**params) -> CDO:
    """A method that counts in units of spread, and whose networks, alike without pretrained weights, differ."""
    _, method = tiny("cdo", distance="mahalanobis", **params)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in method.apprentice.parameters():
            weight.mul_(1 + 0.3 * torch.randn(weight.shape, generator=draw))
    return method


def test_distances_in_units_of_spread_are_those_of_all_hierarchies_together():
    method = parted(shrinkage=1e-7, dims=48)
    data = RandomImages(64)
    method.stages()[0].fit_statistics(data)
    with evaluation_mode(method):
        distances = method.spread(*method._precise(next(data.normal(16)).images))
    # Eight vectors in more dimensions are each 7 · 7 / 8 from their centre, squared; a mean over the channels is taken.
    assert distances.shape == (8, 8, 8)
    torch.testing.assert_close(distances, torch.full_like(distances, (7 * 7 / 8 / 48) ** 0.5), rtol=1e-2, atol=0)


def test_squares_share_a_spread_where_the_grid_is_coarse_and_come_back_to_their_places():
    spread = JointSpread([2, 3], (4, 4), grid=2, dims=9, seed=0)
    assert spread.spread.centre.shape == (4, 5)
    draw = torch.Generator().manual_seed(0)
    expert, apprentice = ([torch.randn(1, 2, 8, 8, generator=draw), torch.randn(1, 3, 2, 2, generator=draw)] for _ in range(2))
    found = spread(expert, apprentice)[0]  # plain distances, since nothing was measured
    lengths = [maps.norm(dim=1, keepdim=True) for maps in expert]
    fine, coarse = (length * d for length, d in zip(lengths, differences(expert, apprentice), strict=True))
    joint = torch.cat([F.avg_pool2d(fine, 2), F.interpolate(coarse, (4, 4), mode="bilinear", align_corners=False)], 1)
    torch.testing.assert_close(found, joint[0].square().mean(0).sqrt())


@pytest.mark.parametrize(("length", "grid", "side"), [(16, 16, 1), (32, 16, 2), (20, 16, 2), (28, 16, 2), (44, 16, 4), (7, 3, 7)])
def test_as_few_places_share_a_spread_as_the_grid_allows(length, grid, side):
    assert shared((length, length), grid) == side


def test_how_strongly_the_expert_answers_counts():
    """Nine times as loud as ever, in the same direction: the discrepancy that is trained would not notice."""
    spread = JointSpread([4], (1, 1), grid=1, dims=4, seed=0)
    draw = torch.Generator().manual_seed(0)
    expert = [torch.rand(64, 4, 1, 1, generator=draw) + 1]
    apprentice = [torch.rand(64, 4, 1, 1, generator=draw) + 1]
    spread.measure([(expert, apprentice)], 1e-6)
    usual, loud = spread(expert, apprentice), spread([9 * expert[0]], apprentice)
    assert loud.median() > 4 * usual.median()


def test_of_more_channels_than_dims_some_are_drawn_and_the_same_for_a_seed():
    drawn = [JointSpread([64, 128], (2, 2), grid=2, dims=50, seed=seed).channels.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 50
    assert max(drawn[0]) < 192


def test_a_place_that_varies_anyway_alarms_less():
    """A square that is dark or light in good pictures is judged milder where it stands than elsewhere."""
    method = parted(first=2, levels=2)
    draw = torch.Generator().manual_seed(0)
    good = 0.5 + 0.02 * torch.randn(24, 3, 64, 64, generator=draw)
    good[:, :, 8:24, 8:24] += 0.8 * torch.rand(24, 1, 1, 1, generator=draw) - 0.4

    class Good(RandomImages):
        def normal(self, size):
            batch = next(super().normal(size))
            yield batch._replace(images=good)

    method.stages()[0].fit_statistics(Good(64))
    here, there = (0.5 + 0.02 * torch.randn(1, 3, 64, 64, generator=draw) for _ in range(2))
    here[:, :, 8:24, 8:24] += 0.3
    there[:, :, 40:56, 40:56] += 0.3
    with evaluation_mode(method):
        assert float(method.predict(there).score) > 2 * float(method.predict(here).score)


def test_a_spread_that_would_not_fit_is_refused_when_the_method_is_built():
    config = Config(weights="none", backbone="resnet18", grid=128, dims=500)
    said = r"takes 12\.2 GiB for 16384 places of 448 channels, allowed are 0\.5 GiB; lower params\.grid \(128\) or params\.dims"
    with pytest.raises(JobError, match=said):
        build(config, image_size=1024, seed=0)


def test_a_spread_is_kept_with_the_model(tmp_path):
    method = parted().eval()
    method.stages()[0].fit_statistics(RandomImages(64))
    detector.save(tmp_path, method, detector.Manifest("cdo", method.config.model_dump(mode="json"), 64, {"value": 0.5}, "0" * 64))
    images = random_batch().images
    found = detector.Detector.load(tmp_path, "cpu").method.predict(images)
    torch.testing.assert_close(found.score, method.predict(images).score, rtol=1e-4, atol=1e-5)


def test_a_defect_on_a_background_that_never_varies_is_found():
    """Pictures of a part before a uniform ground: a spot on the ground stands out, and a good picture does not."""
    method = parted()
    draw = torch.Generator().manual_seed(0)
    pictures = torch.full((25, 3, 64, 64), 0.5)
    pictures[:, :, 32:] += 0.1 * torch.randn(25, 3, 32, 64, generator=draw)

    class Good(RandomImages):
        def normal(self, size):
            yield from (next(super(Good, self).normal(size))._replace(images=part) for part in pictures[:24].split(10))

    method.stages()[0].fit_statistics(Good(64))
    good, bad = pictures[24:], pictures[24:].clone()
    bad[:, :, 4:20, 8:24] = 0.9
    with evaluation_mode(method):
        good_map, bad_map = (method.predict(images).anomaly_map for images in (good, bad))
    ground = bad_map[..., 4:20, 8:24]
    assert float(ground.max()) > 2 * float(good_map.max())
    assert float(ground.max()) < 1e4 * float(good_map.max())
