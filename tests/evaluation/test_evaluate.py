"""From predictions to measures: what is known of a part decides what can be measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.utils.validation import _validate_metric_name
from torch import nn

from adjobs.data.cache.images import open_cache
from adjobs.data.dataset import Dataset
from adjobs.data.formats.loco import read_defects
from adjobs.data.open import open_dataset
from adjobs.evaluation.evaluate import DeviceConfig, evaluate, measure, saturated
from adjobs.metrics.spro import au_spro
from adjobs.types import ImageScores, Prediction
from tests.helpers.drawing import draw_folder, draw_loco


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Dataset:
    return open_dataset(str(draw_loco(tmp_path_factory.mktemp("loco") / "parts")), cache=Path("unused"))


def predicted(index: Dataset, size: int = 32) -> ImageScores:
    """Random maps for the test part, brighter on the first layer of each mask."""
    rng = np.random.default_rng(0)
    samples = [sample for sample in index.samples if sample.published_split == "test"]
    maps = rng.random((len(samples), size, size), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    for i, sample in enumerate(samples):
        if sample.mask:
            defects = read_defects(sample.mask)
            masks[i] = np.any([defect.pixels for defect in defects], axis=0)
            maps[i][defects[0].pixels] += 0.9
    return ImageScores(
        ids=tuple(sample.id for sample in samples),
        labels=np.array([int(sample.label == "anomalous") for sample in samples]),
        scores=maps.max((1, 2)).astype(np.float64),
        defects=tuple(sample.defect for sample in samples),
        maps=maps,
        masks=masks,
    )


def test_saturated_overlap_is_the_mean_over_the_two_kinds_of_anomalies(index):
    scores = predicted(index)
    found = {name: estimate.value for name, estimate in saturated(scores, index).items()}
    of = {sample.id: sample for sample in index.samples}
    for kind in ("logical_anomalies", "structural_anomalies"):
        rows = [i for i, defect in enumerate(scores.defects) if defect in ("", kind)]
        defects = [read_defects(of[scores.ids[i]].mask) if scores.labels[i] else [] for i in rows]
        assert found[f"au_spro_{kind}"] == pytest.approx(au_spro([scores.anomaly_maps[i] for i in rows], defects), abs=5e-4)
    assert found["au_spro"] == (found["au_spro_logical_anomalies"] + found["au_spro_structural_anomalies"]) / 2
    # The logical anomalies have a corner that the maps know nothing of.
    assert found["au_spro_logical_anomalies"] < found["au_spro_structural_anomalies"]
    assert 0 < found["au_spro_pooled"] < 1
    assert 0 <= found["image_auroc_mean"] <= 1


@pytest.mark.parametrize(
    ("kind", "name"), [("bent, broken", "bent_ broken"), ("../é", ".._é"), ("", "untyped"), ("x" * 300, "x" * 200)]
)
def test_kinds_have_names_that_mlflow_takes(index, kind, name):
    """A manifest may call its kinds as it likes; a metric that MLflow refuses would end the run after its training."""
    scores = predicted(index)
    renamed = scores._replace(defects=tuple(kind if label else "" for label in scores.labels))
    found = saturated(renamed, index)
    assert set(found) == {"au_spro", f"au_spro_{name}", "au_spro_pooled", "image_auroc_mean"}
    for measure_ in found:
        _validate_metric_name(f"test/{measure_}_high")
        assert len(f"test/{measure_}_high") <= 250
    assert found[f"au_spro_{name}"].value == found["au_spro_pooled"].value


class Brightness(nn.Module):
    """The map is the picture's brightness."""

    def predict(self, images: torch.Tensor) -> Prediction:
        grey = images.mean(1, keepdim=True)
        return Prediction(grey.amax((1, 2, 3)), grey)


def test_every_image_is_predicted_in_its_place_and_good_ones_have_no_type_of_defect(tmp_path):
    drawn = open_dataset(str(draw_folder(tmp_path / "data", 18, 3, size=32)), cache=tmp_path)
    index = dataclasses.replace(drawn, samples=tuple(dataclasses.replace(s, defect=s.defect or "none") for s in drawn.samples))
    cache = open_cache(index, "f" * 64, 32, tmp_path, progress=False)
    part = tuple(sample.id for sample in index.samples)[::-1]
    scores, _ = evaluate(Brightness(), cache, index, part, DeviceConfig(torch.device("cpu")))
    images = np.stack([cache.images[cache.index_of[name]] for name in part])
    np.testing.assert_allclose(scores.anomaly_maps, images.mean(3) / 255, atol=1e-6)
    np.testing.assert_array_equal(scores.score, scores.anomaly_maps.max((1, 2)))
    assert {(label, defect) for label, defect in zip(scores.labels, scores.defects, strict=True)} == {(0, ""), (1, "scratch")}
    assert set(measure(scores, 0.9, 0.9).by_defect) == {"scratch"}


def test_measures_of_a_part_hold_everything_once(index):
    measures = measure(predicted(index), 1.5, 1.2, index)
    assert {"image_auroc", "image_precision", "pixel_ap", "pixel_f1", "au_pro", "au_pro_small", "au_spro"} <= set(
        measures.overall
    )
    assert set(measures.by_defect) == {"logical_anomalies", "structural_anomalies"}
    assert measures.to_dict()["by_defect"]["logical_anomalies"]["count"] == 3
    assert {"image_recall", "au_pro"} <= set(measures.by_defect["logical_anomalies"])


def test_masks_without_kinds_are_not_saturated(index):
    samples = tuple(dataclasses.replace(s, mask=s.mask and dataclasses.replace(s.mask, kinds=None)) for s in index.samples)
    assert saturated(predicted(index), dataclasses.replace(index, samples=samples)) == {}


def test_without_maps_pixels_are_undefined_and_say_why(index):
    measures = measure(predicted(index)._replace(maps=None), 1.5, None, index)
    assert measures.overall["pixel_ap"].value is None
    assert measures.overall["pixel_ap"].reason == "the method gives no map"
    without = measure(predicted(index)._replace(masks=None), 1.5, 1.2)
    assert without.overall["au_pro"].reason == "no anomalous image, or one without a mask"
