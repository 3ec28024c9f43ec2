"""LIAC's equations, its couple of networks, and that both do what the paper says they do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from adjobs.errors import DataError
from adjobs.methods.contract import Progress
from adjobs.methods.liac.loss import (
    abnormality_capturing,
    asymmetric,
    distance,
    encouraging,
    focal,
    logit_adjustment,
    logit_inducing,
    weighted_ce,
)
from tests.helpers.tiny import random_batch, tiny_method

DELTA = torch.tensor([-3.0, -0.5, 0.0, 2.0, 4.0], dtype=torch.float64)
MARGIN = torch.tensor(math.log(571 / 40), dtype=torch.float64)
YES = torch.ones(5, dtype=torch.bool)


class Counts:
    """A training part that knows only its size."""

    def __init__(self, normal: int, anomalous: int) -> None:
        self.n_normal, self.n_anomalous = normal, anomalous


def printed_eq_4(delta: torch.Tensor, anomalous: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Eq. (4) letter by letter."""
    y = anomalous.to(delta.dtype)
    wrong_minus_right = torch.where(anomalous, -delta, delta)
    ratio = torch.where(anomalous, margin, -margin).exp()
    return torch.log(1 - y + ratio * wrong_minus_right.exp())


def test_logit_inducing_loss_is_equation_4():
    for anomalous in (YES, ~YES):
        torch.testing.assert_close(logit_inducing(DELTA, anomalous, MARGIN), printed_eq_4(DELTA, anomalous, MARGIN))


def test_logit_inducing_loss_stays_finite_where_the_printed_form_does_not():
    far = torch.tensor([1000.0], dtype=torch.float64)
    assert torch.isinf(printed_eq_4(far, torch.tensor([True]), MARGIN)).all()
    assert float(logit_inducing(far, torch.tensor([True]), MARGIN)) == pytest.approx(float(MARGIN) - 1000)
    assert float(logit_inducing(far, torch.tensor([False]), MARGIN)) == pytest.approx(1000 - float(MARGIN))


def test_the_pull_on_anomalies_never_fades_and_normals_are_pushed_less_by_the_margin():
    delta = DELTA.clone().requires_grad_()
    logit_inducing(delta, YES, MARGIN).sum().backward()
    assert delta.grad.tolist() == [-1.0] * 5
    delta.grad = None
    logit_inducing(delta, ~YES, MARGIN).sum().backward()
    torch.testing.assert_close(delta.grad, torch.sigmoid(DELTA - MARGIN))


def test_a_floor_lets_go_of_anomalies_that_are_far_enough():
    delta = torch.tensor([3.0, 8.0], dtype=torch.float64, requires_grad=True)
    loss = logit_inducing(delta, YES[:2], torch.tensor(2.0, dtype=torch.float64), floor=5.0)
    loss.sum().backward()
    assert loss.tolist() == [-1.0, -5.0]
    assert delta.grad.tolist() == [-1.0, 0.0]


@pytest.mark.parametrize(("settings", "axes"), [({}, []), ({"flip": True}, [3]), ({"flip": True, "flip_vertical": True}, [2, 3])])
def test_both_networks_see_pictures_mirrored_as_was_asked(settings, axes):
    method = tiny_method("liac", **{"flip": False, "flip_vertical": False} | settings)
    seen = []
    for network in (method.teacher, method.student):
        network.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    batch = random_batch(64)
    method(batch)
    torch.testing.assert_close(seen[0], seen[1])
    for axis in (2, 3):
        # Mirrored along the other axis or not, a picture's mean over that axis is the same.
        profile, before = (images.mean((1, 5 - axis)) for images in (seen[0], batch.images))
        turned = [torch.allclose(one, other.flip(0)) for one, other in zip(profile, before, strict=True)]
        assert 16 < sum(turned) < 48 if axis in axes else not any(turned)


def test_by_default_logits_do_not_run_away():
    method = tiny_method("liac", couple=False, lr=0.1, optimizer="sgd")
    endless = tiny_method("liac", couple=False, lr=0.1, optimizer="sgd", floor=None)
    assert largest_logit(method) < 1000 < largest_logit(endless)


def largest_logit(method: torch.nn.Module) -> float:
    """After some steps on one batch."""
    method.train()
    optimizer = method.stages()[0].optimizer()
    for _ in range(25):
        optimizer.zero_grad()
        method(random_batch(side=32)).total.backward()
        optimizer.step()
    with torch.no_grad():
        return float(method._answer(random_batch(side=32).images).delta.abs().max())


def test_logit_adjustment_is_the_cross_entropy_of_logits_plus_log_frequencies():
    logits = torch.stack([torch.zeros(5, dtype=torch.float64), DELTA], 1)
    priors = torch.tensor([571 / 611, 40 / 611], dtype=torch.float64).log()
    for label in (0, 1):
        expected = F.cross_entropy(logits + priors, torch.full((5,), label), reduction="none")
        torch.testing.assert_close(logit_adjustment(DELTA, YES if label else ~YES, MARGIN), expected)


def test_weights_of_the_weighted_cross_entropy_average_to_one_over_the_training_part():
    zero = torch.zeros(1, dtype=torch.float64)
    plain = math.log(2)
    anomalous, normal = (float(weighted_ce(zero, torch.tensor([y]), MARGIN)) / plain for y in (True, False))
    assert anomalous == pytest.approx(611 / 80)
    assert (571 * normal + 40 * anomalous) / 611 == pytest.approx(1)


def test_focal_and_asymmetric_loss_by_hand():
    p = torch.sigmoid(DELTA)
    torch.testing.assert_close(focal(DELTA, YES, 2.0, 0.25), -0.25 * (1 - p) ** 2 * p.log())
    torch.testing.assert_close(focal(DELTA, ~YES, 2.0, 0.25), -0.75 * p**2 * (1 - p).log())
    torch.testing.assert_close(asymmetric(DELTA, YES, 2.0), -p.log())
    torch.testing.assert_close(asymmetric(DELTA, ~YES, 2.0), -(p**2) * (1 - p).log())


def test_encouraging_loss_adds_a_bonus_that_is_linear_beyond_its_limit():
    p = torch.sigmoid(DELTA)
    bonus = torch.where(p < 0.75, (1 - p).log(), math.log(0.25) - (p - 0.75) / 0.25)
    torch.testing.assert_close(encouraging(DELTA, YES), -p.log() + bonus)
    torch.testing.assert_close(encouraging(DELTA, YES), encouraging(-DELTA, ~YES))


def test_distance_is_one_minus_the_cosine_and_its_literal_form_has_no_bound():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(4, 16, generator=generator) for _ in range(2))
    torch.testing.assert_close(distance(a, b), 1 - F.cosine_similarity(a, b))
    assert float(distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))) == pytest.approx(1)
    expected = (a / a.square().sum(1, keepdim=True) - b / b.square().sum(1, keepdim=True)).square().sum(1) / 2
    torch.testing.assert_close(distance(a, b, "l2sq"), expected)
    assert float(distance(a * 0.01, b * 0.01, "l2sq").min()) > 1


def test_abnormality_capturing_drives_anomalies_apart_and_normals_together():
    d = torch.tensor([0.2, 0.7])
    labels = torch.tensor([False, True])
    assert abnormality_capturing(d, labels).tolist() == pytest.approx([0.2, 0.3])
    assert abnormality_capturing(d, labels, "as_printed").tolist() == pytest.approx([0.8, 0.7])


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("sign", ["corrected", "as_printed"])
def test_a_step_changes_the_distance_in_the_right_direction(label, sign):
    method = tiny_method("liac", student_init="random", loss="focal", focal_gamma=8, w_acl=100, acl_sign=sign, lr=1e-4)
    batch = random_batch()._replace(labels=torch.full((4,), label))
    method.train()
    before = copy_distance(method, batch)
    optimizer = method.stages()[0].optimizer()
    method(batch).total.backward()
    optimizer.step()
    grew = copy_distance(method, batch) > before
    assert grew == ((label == 1) == (sign == "corrected"))


def copy_distance(method: torch.nn.Module, batch) -> float:
    with torch.no_grad():
        d = method._answer(batch.images).d
    return float(d.mean())


def test_label_frequencies_are_those_of_the_training_part():
    method = tiny_method("liac")
    method.stages()[0].prepare(Counts(571, 40))
    assert float(method.margin) == pytest.approx(2.6585, abs=1e-4)
    with pytest.raises(DataError, match="571 normal and 0 anomalous images; LIAC learns from both kinds"):
        method.stages()[0].prepare(Counts(571, 0))


def test_identical_networks_part_because_the_head_treats_them_differently():
    method = tiny_method("liac", lr=0.01)
    batch = random_batch()
    method.student.load_state_dict(method.teacher.state_dict())
    assert float(method(batch).terms["d_normal"]) == pytest.approx(0, abs=1e-6)
    optimizer = method.stages()[0].optimizer()
    for _ in range(3):
        optimizer.zero_grad()
        loss = method(batch)
        loss.total.backward()
        optimizer.step()
    assert float(method(batch).terms["d_normal"]) > 1e-6


def test_one_network_has_no_distance_and_half_the_weights():
    single = tiny_method("liac", couple=False)
    couple = tiny_method("liac")
    loss = single.train()(random_batch())
    assert set(loss.terms) == {"classification"}
    assert float(loss.total.detach()) == float(loss.terms["classification"])
    assert single.eval().predict(random_batch().images).extra_scores is None
    sizes = [sum(p.numel() for p in method.parameters()) for method in (single, couple)]
    assert sizes[1] == 2 * sizes[0]  # twice the network and the head's columns; D's two weights make up for the second bias


def test_without_acl_the_distance_is_measured_but_not_trained():
    with_acl = tiny_method("liac", student_init="random", w_acl=2)
    without = tiny_method("liac", student_init="random", w_acl=0)
    full, bare = with_acl(random_batch()), without(random_batch())
    gap = full.total.detach() - bare.total.detach()
    torch.testing.assert_close(gap, 2 * full.terms["acl"])
    torch.testing.assert_close(bare.terms["acl"], full.terms["acl"])


def test_the_heat_map_averages_to_the_logit_difference():
    method = tiny_method("liac", heat_map=True, student_init="random", views=1)
    method.eval()
    images = random_batch(side=128).images
    with torch.no_grad():
        answer = method._answer(images)
    torch.testing.assert_close(method._activation(answer).mean((1, 2, 3)), answer.delta, rtol=1e-4, atol=1e-5)
    found = method.predict(images)
    torch.testing.assert_close(found.score, torch.sigmoid(answer.delta.double()))
    assert float(found.anomaly_map.min()) < float(found.anomaly_map.max())


@pytest.mark.parametrize(("views", "axes"), [(2, (3,)), (4, (2,)), (4, (3,)), (4, (2, 3))])
def test_a_picture_and_its_mirrored_self_score_alike_and_their_maps_are_mirrored(views, axes):
    method = tiny_method("liac", heat_map=True, student_init="random", views=views)
    method.eval()
    images = random_batch(side=64).images
    straight, mirrored = method.predict(images), method.predict(images.flip(axes))
    torch.testing.assert_close(straight.score, mirrored.score)
    torch.testing.assert_close(straight.anomaly_map, mirrored.anomaly_map.flip(axes), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(straight.extra_scores["distance"], mirrored.extra_scores["distance"])
    single = tiny_method("liac", student_init="random", views=1)
    alone = [single.eval().predict(each).score for each in (images, images.flip(axes))]
    assert not torch.allclose(*alone)
    if views == 2:
        torch.testing.assert_close(straight.score.logit(), torch.stack(alone).logit().mean(0))


@pytest.mark.parametrize(("name", "factors"), [("halved", [1.0, 1.0, 0.5, 0.5]), ("cosine", [1.0, 0.75, 0.5, 0.0])])
def test_learning_rate_falls_as_asked(name, factors):
    """cos(π / 3) = 1/2, hence (1 + 1/2) / 2 after a third."""
    method = tiny_method("liac", schedule=name)
    schedule = method.stages()[0].schedule
    assert [schedule(Progress(0, done)) for done in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx(factors)


def test_the_logged_distances_average_to_the_means_of_the_classes():
    """Batches without anomalies included."""
    method = tiny_method("liac")
    method.stages()[0].prepare(Counts(9, 3))
    d = torch.arange(12.0)
    anomalous = torch.arange(12) < 3
    batches = [method._by_class(d[i : i + 4], anomalous[i : i + 4]) for i in (0, 4, 8)]
    mean = {name: float(torch.stack([batch[name] for batch in batches]).mean()) for name in batches[0]}
    assert mean == {"d_normal": pytest.approx(7), "d_anomalous": pytest.approx(1)}


def test_bfloat16_of_the_training_does_not_reach_the_head():
    method = tiny_method("liac", student_init="random")
    with torch.autocast("cpu", torch.bfloat16):
        answer = method._answer(random_batch().images)
    assert {answer.delta.dtype, answer.d.dtype} == {torch.float32}
