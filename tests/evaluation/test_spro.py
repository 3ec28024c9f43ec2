"""sPRO of a split at the images' own sizes."""

from __future__ import annotations

import dataclasses

import pytest
from mlflow.utils.validation import _validate_metric_name

from adjobs.data.formats.loco import read_defects
from adjobs.evaluation.spro import compute_spro_metrics
from adjobs.metrics.spro import au_spro


def test_compute_spro_metrics_is_mean_over_both_kinds_of_anomalies(loco, loco_scores):
    values = {name: estimate.value for name, estimate in compute_spro_metrics(loco_scores, loco).items()}
    samples = {sample.id: sample for sample in loco.samples}
    for kind in ("logical_anomalies", "structural_anomalies"):
        indices = [i for i, defect in enumerate(loco_scores.defects) if defect in ("", kind)]
        defects = [read_defects(samples[loco_scores.ids[i]].mask) if loco_scores.labels[i] else [] for i in indices]
        expected = au_spro([loco_scores.anomaly_maps[i] for i in indices], defects)
        assert values[f"au_spro_{kind}"] == pytest.approx(expected, abs=5e-4)
    assert values["au_spro"] == (values["au_spro_logical_anomalies"] + values["au_spro_structural_anomalies"]) / 2
    # The logical anomalies have a corner that the maps do not show.
    assert values["au_spro_logical_anomalies"] < values["au_spro_structural_anomalies"]
    assert 0 < values["au_spro_pooled"] < 1
    assert 0 <= values["image_auroc_mean"] <= 1


@pytest.mark.parametrize(
    ("kind", "suffix"), [("bent, broken", "bent_ broken"), ("../é", ".._é"), ("", "untyped"), ("x" * 300, "x" * 200)]
)
def test_compute_spro_metrics_any_kind_has_name_that_mlflow_accepts(loco, loco_scores, kind, suffix):
    """A manifest may name its kinds freely; a metric that MLflow refuses would end the run after its training."""
    renamed = loco_scores._replace(defects=tuple(kind if label else "" for label in loco_scores.labels))
    metrics = compute_spro_metrics(renamed, loco)
    assert set(metrics) == {"au_spro", f"au_spro_{suffix}", "au_spro_pooled", "image_auroc_mean"}
    for name in metrics:
        _validate_metric_name(f"test/{name}_high")
        assert len(f"test/{name}_high") <= 250
    assert metrics[f"au_spro_{suffix}"].value == metrics["au_spro_pooled"].value


def test_compute_spro_metrics_masks_without_kinds_is_empty(loco, loco_scores):
    samples = tuple(dataclasses.replace(s, mask=s.mask and dataclasses.replace(s.mask, kinds=None)) for s in loco.samples)
    assert compute_spro_metrics(loco_scores, dataclasses.replace(loco, samples=samples)) == {}
