"""What the gate is shown of champion and challenger, with detectors whose scores are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.data.dataset import Dataset, Sample
from adjobs.errors import RegistryError
from adjobs.evaluation.gate_policy import GatePolicy
from adjobs.inference.detector import Detector
from adjobs.retraining.evidence import GateImages, choose_test_images, compare_detectors
from tests.helpers.detectors import brightness_detector, draw_image

POLICY = GatePolicy(
    auroc_margin=None, recall_margin=0.4, max_false_alarm_rate=0.3, behaviours=("flip",), max_changed_decisions=0.5
)
BOX = (40, 30, 80, 60)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """12 normal images, 8 with a bright defect, 10 with a grey one."""
    samples = [Sample(f"ok/{i}", draw_image(tmp_path / "ok", f"{i}.png"), "normal") for i in range(12)]
    for defect, count, brightness in (("bright", 8, 255), ("grey", 10, 180)):
        paths = [draw_image(tmp_path / defect, f"{i}.png", BOX, brightness=brightness) for i in range(count)]
        samples += [Sample(f"{defect}/{i}", path, "anomalous", defect=defect) for i, path in enumerate(paths)]
    return Dataset(tmp_path, "folder", tuple(sorted(samples, key=lambda sample: sample.id)))


def ids(dataset: Dataset, *starts: str) -> list[str]:
    return [sample.id for sample in dataset.samples if sample.id.startswith(starts)]


def detector(threshold: float) -> Detector:
    return brightness_detector(image=threshold)


def test_choose_test_images_takes_anomalies_that_the_champion_has_not_seen_as_new(dataset):
    seen = ids(dataset, "bright", "ok/1")
    images = choose_test_images(dataset, ids(dataset, ""), seen, [])
    assert images.new == set(ids(dataset, "grey"))  # not the normal images that were added since
    assert len(images.samples) == 30


def test_choose_test_images_refuses_images_that_the_champion_was_trained_on(dataset):
    with pytest.raises(RegistryError, match=r"the champion was trained on images of the test split, such as ok/0 \(and 1 more\)"):
        choose_test_images(dataset, ids(dataset, ""), ids(dataset, "ok"), ["ok/0", "ok/1"])


def test_compare_detectors_promotes_who_detects_the_new_anomalies(dataset, tmp_path):
    images = GateImages(dataset.samples, frozenset(ids(dataset, "grey")))
    evidence = compare_detectors(detector(0.9), detector(0.5), dataset, images, POLICY, tmp_path / "cache")
    checks = {check.name: check for check in evidence.verdict.checks}
    assert evidence.verdict.decision == "promote", evidence.verdict.sentence
    assert checks["new_recall"].value == 1.0
    assert checks["recall"].value == 0.0
    assert checks["false_alarm_rate"].value == 0.0
    assert checks["behaviour/flip"].value == 0.0
    by_id = {item.id: item for item in evidence.decisions}
    assert (by_id["grey/0"].champion, by_id["grey/0"].challenger, by_id["grey/0"].is_new) == (False, True, True)
    assert (by_id["bright/0"].champion, by_id["bright/0"].challenger, by_id["bright/0"].is_new) == (True, True, False)


def test_compare_detectors_refuses_who_alarms_at_everything(dataset, tmp_path):
    images = GateImages(dataset.samples, frozenset(ids(dataset, "grey")))
    evidence = compare_detectors(detector(0.9), detector(0.01), dataset, images, POLICY, tmp_path / "cache")
    assert evidence.verdict.decision == "refuse"
    assert "12 of 12" in evidence.verdict.sentence


def test_compare_detectors_counts_images_of_one_part_once(dataset, tmp_path):
    grouped = [
        Sample(**{**vars(sample), "group": sample.id.rstrip("0123456789") + str(int(sample.id.split("/")[1]) // 4)})
        for sample in dataset.samples
    ]
    images = GateImages(tuple(grouped), frozenset(ids(dataset, "grey")))
    evidence = compare_detectors(detector(0.9), detector(0.5), dataset, images, POLICY, tmp_path / "cache")
    assert evidence.verdict.power.new_anomalies == 3
    assert evidence.verdict.decision == "undecided"


def test_compare_detectors_without_new_anomalies_is_undecided(dataset, tmp_path):
    images = GateImages(dataset.samples, frozenset())
    evidence = compare_detectors(detector(0.9), detector(0.5), dataset, images, POLICY, tmp_path / "cache")
    assert evidence.verdict.decision == "undecided"
    assert "no new anomalies" in evidence.verdict.sentence
