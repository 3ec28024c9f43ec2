"""LIAC's two networks, training steps and predictions."""

from __future__ import annotations

import pytest
import torch

from adjobs.errors import DataError
from adjobs.methods.contract import Progress
from adjobs.methods.liac.model import LIAC
from tests.helpers.tiny import random_batch, tiny_method


class LabelCounts:
    """A training split that knows only its size."""

    def __init__(self, normal: int, anomalous: int) -> None:
        self.n_normal, self.n_anomalous = normal, anomalous


def largest_logit(method: LIAC) -> float:
    """After some steps on one batch."""
    method.train()
    optimizer = method.stages()[0].optimizer()
    for _ in range(25):
        optimizer.zero_grad()
        method(random_batch(side=32)).total.backward()
        optimizer.step()
    with torch.no_grad():
        return float(method._forward(random_batch(side=32).images).delta.abs().max())


def mean_distance(method: LIAC, batch) -> float:
    with torch.no_grad():
        return float(method._forward(batch.images).d.mean())


@pytest.mark.parametrize(("params", "dims"), [({}, []), ({"flip": True}, [3]), ({"flip": True, "flip_vertical": True}, [2, 3])])
def test_forward_both_networks_get_the_same_flipped_images(params, dims):
    method = tiny_method("liac", **{"flip": False, "flip_vertical": False} | params)
    inputs = []
    for network in (method.teacher, method.student):
        network.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    batch = random_batch(64)
    method(batch)
    torch.testing.assert_close(inputs[0], inputs[1])
    for dim in (2, 3):
        # The mean over the other dimension does not depend on flips along it.
        profiles, originals = (images.mean((1, 5 - dim)) for images in (inputs[0], batch.images))
        flipped = [torch.allclose(one, other.flip(0)) for one, other in zip(profiles, originals, strict=True)]
        assert 16 < sum(flipped) < 48 if dim in dims else not any(flipped)


@pytest.mark.slow
def test_floor_keeps_logits_bounded():
    bounded = tiny_method("liac", couple=False, lr=0.1, optimizer="sgd")
    unbounded = tiny_method("liac", couple=False, lr=0.1, optimizer="sgd", floor=None)
    assert largest_logit(bounded) < 1000 < largest_logit(unbounded)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("sign", ["corrected", "as_printed"])
def test_step_changes_distance_in_the_direction_of_the_sign(label, sign):
    method = tiny_method("liac", student_init="random", loss="focal", focal_gamma=8, w_acl=100, acl_sign=sign, lr=1e-4)
    batch = random_batch()._replace(labels=torch.full((4,), label))
    method.train()
    before = mean_distance(method, batch)
    optimizer = method.stages()[0].optimizer()
    method(batch).total.backward()
    optimizer.step()
    has_grown = mean_distance(method, batch) > before
    assert has_grown == ((label == 1) == (sign == "corrected"))


def test_prepare_sets_the_margin_from_the_label_counts():
    method = tiny_method("liac")
    method.stages()[0].prepare(LabelCounts(571, 40))
    assert float(method.margin) == pytest.approx(2.6585, abs=1e-4)
    with pytest.raises(DataError, match="571 normal and 0 anomalous images; LIAC needs both"):
        method.stages()[0].prepare(LabelCounts(571, 0))


@pytest.mark.slow
def test_identical_networks_diverge_because_the_head_weighs_them_differently():
    method = tiny_method("liac", lr=0.01)
    batch = random_batch()
    method.student.load_state_dict(method.teacher.state_dict())
    assert float(method(batch).terms["d_normal"]) == pytest.approx(0, abs=1e-6)
    optimizer = method.stages()[0].optimizer()
    for _ in range(3):
        optimizer.zero_grad()
        method(batch).total.backward()
        optimizer.step()
    assert float(method(batch).terms["d_normal"]) > 1e-6


def test_couple_false_has_no_distance_and_half_the_weights():
    single, couple = tiny_method("liac", couple=False), tiny_method("liac")
    loss = single.train()(random_batch())
    assert set(loss.terms) == {"classification"}
    assert float(loss.total.detach()) == float(loss.terms["classification"])
    assert single.eval().predict(random_batch().images).extra_scores is None
    sizes = [sum(p.numel() for p in method.parameters()) for method in (single, couple)]
    assert sizes[1] == 2 * sizes[0]  # twice the network and the head's columns; D's two weights make up for the second bias


def test_w_acl_0_computes_the_distance_without_training_it():
    with_acl = tiny_method("liac", student_init="random", w_acl=2)(random_batch())
    without = tiny_method("liac", student_init="random", w_acl=0)(random_batch())
    torch.testing.assert_close(with_acl.total.detach() - without.total.detach(), 2 * with_acl.terms["acl"])
    torch.testing.assert_close(without.terms["acl"], with_acl.terms["acl"])


def test_class_activation_averages_to_the_logit_difference():
    method = tiny_method("liac", heat_map=True, student_init="random", views=1).eval()
    images = random_batch(side=128).images
    with torch.no_grad():
        output = method._forward(images)
    torch.testing.assert_close(method._class_activation(output).mean((1, 2, 3)), output.delta, rtol=1e-4, atol=1e-5)
    prediction = method.predict(images)
    torch.testing.assert_close(prediction.score, torch.sigmoid(output.delta.double()))
    assert float(prediction.anomaly_map.min()) < float(prediction.anomaly_map.max())


@pytest.mark.slow
@pytest.mark.parametrize(("views", "dims"), [(2, (3,)), (4, (2,)), (4, (3,)), (4, (2, 3))])
def test_predict_flipped_image_has_the_same_score_and_a_flipped_map(views, dims):
    method = tiny_method("liac", heat_map=True, student_init="random", views=views).eval()
    images = random_batch(side=64).images
    upright, flipped = method.predict(images), method.predict(images.flip(dims))
    torch.testing.assert_close(upright.score, flipped.score)
    torch.testing.assert_close(upright.anomaly_map, flipped.anomaly_map.flip(dims), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(upright.extra_scores["distance"], flipped.extra_scores["distance"])
    one_view = tiny_method("liac", student_init="random", views=1).eval()
    scores = [one_view.predict(each).score for each in (images, images.flip(dims))]
    assert not torch.allclose(*scores)
    if views == 2:
        torch.testing.assert_close(upright.score.logit(), torch.stack(scores).logit().mean(0))


@pytest.mark.parametrize(("name", "factors"), [("halved", [1.0, 1.0, 0.5, 0.5]), ("cosine", [1.0, 0.75, 0.5, 0.0])])
def test_schedule_lowers_the_learning_rate(name, factors):
    """cos(π / 3) = 1/2, hence (1 + 1/2) / 2 after a third."""
    schedule = tiny_method("liac", schedule=name).stages()[0].schedule
    assert [schedule(Progress(0, done)) for done in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx(factors)


def test_logged_distances_average_to_the_class_means():
    """Also over batches without anomalies."""
    method = tiny_method("liac")
    method.stages()[0].prepare(LabelCounts(9, 3))
    d = torch.arange(12.0)
    anomalous = torch.arange(12) < 3
    batches = [method._mean_distances(d[i : i + 4], anomalous[i : i + 4]) for i in (0, 4, 8)]
    means = {name: float(torch.stack([batch[name] for batch in batches]).mean()) for name in batches[0]}
    assert means == {"d_normal": pytest.approx(7), "d_anomalous": pytest.approx(1)}


def test_forward_under_autocast_computes_the_head_in_float32():
    method = tiny_method("liac", student_init="random")
    with torch.autocast("cpu", torch.bfloat16):
        output = method._forward(random_batch().images)
    assert {output.delta.dtype, output.d.dtype} == {torch.float32}
