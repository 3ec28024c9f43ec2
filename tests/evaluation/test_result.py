"""Metrics of a split: what is known of it decides which are defined; and the JSON of an evaluation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adjobs.evaluation.result import (
    EvaluationResult,
    SplitMetrics,
    compute_image_metrics,
    compute_pixel_metrics,
    compute_split_metrics,
)
from adjobs.evaluation.thresholds import Thresholds
from adjobs.metrics import ranking
from adjobs.metrics.intervals import Estimate
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.metrics.threshold import choose_threshold


def test_compute_split_metrics_has_image_pixel_and_spro_metrics(loco, loco_scores):
    metrics = compute_split_metrics(loco_scores, 1.5, 1.2, loco)
    assert {"image_auroc", "image_precision", "pixel_ap", "pixel_f1", "au_pro", "au_pro_small", "au_spro"} <= set(metrics.overall)
    assert set(metrics.by_defect) == {"logical_anomalies", "structural_anomalies"}
    assert metrics.to_dict()["by_defect"]["logical_anomalies"]["count"] == 3
    assert {"image_recall", "au_pro"} <= set(metrics.by_defect["logical_anomalies"])


def test_compute_split_metrics_without_maps_or_masks_gives_reason(loco, loco_scores):
    without_maps = compute_split_metrics(loco_scores._replace(anomaly_maps=None), 1.5, None, loco)
    assert without_maps.overall["pixel_ap"].value is None
    assert without_maps.overall["pixel_ap"].reason == "the method gives no map"
    without_masks = compute_split_metrics(loco_scores._replace(masks=None), 1.5, 1.2)
    assert without_masks.overall["au_pro"].reason == "no anomalous image has a mask"


def test_compute_split_metrics_type_without_masks_leaves_those_of_other_types(loco_scores):
    unmasked = np.array([defect == "logical_anomalies" for defect in loco_scores.defects])
    masks = loco_scores.masks & ~unmasked[:, None, None]
    metrics = compute_split_metrics(loco_scores._replace(masks=masks, mask_known=~unmasked), 1.5, None)
    reason = "3 of 6 anomalous images have no mask (logical_anomalies 3); the other defect types have pixel metrics of their own"
    assert metrics.overall["pixel_ap"] == Estimate(None, reason=reason)
    assert metrics.by_defect["logical_anomalies"]["pixel_ap"] == Estimate(None, reason="3 of 3 images have no mask")
    assert metrics.by_defect["logical_anomalies"]["au_pro"].reason == "3 of 3 images have no mask"
    complete = compute_split_metrics(loco_scores, 1.5, None).by_defect["structural_anomalies"]
    for name in ("pixel_ap", "au_pro"):
        assert metrics.by_defect["structural_anomalies"][name].value == complete[name].value is not None
    assert metrics.by_defect["logical_anomalies"]["image_auroc"].value is not None


def test_compute_split_metrics_type_with_some_masks_has_none_of_its_own(loco_scores):
    known = np.ones(len(loco_scores.labels), dtype=bool)
    known[loco_scores.defects.index("logical_anomalies")] = False
    metrics = compute_split_metrics(loco_scores._replace(mask_known=known), 1.5, None)
    assert metrics.by_defect["logical_anomalies"]["pixel_ap"].reason == "1 of 3 images have no mask"
    assert metrics.by_defect["structural_anomalies"]["pixel_ap"].value is not None


def test_compute_pixel_metrics_over_all_pixels_need_all_masks(loco_scores):
    known = np.ones(len(loco_scores.labels), dtype=bool)
    assert compute_pixel_metrics(loco_scores._replace(mask_known=known)) == compute_pixel_metrics(loco_scores)
    known[-1] = False
    assert compute_pixel_metrics(loco_scores._replace(mask_known=known)) == {}


def test_compute_split_metrics_normal_images_alone_give_false_alarms_and_reasons(loco_scores):
    labels, n_images = np.zeros_like(loco_scores.labels), len(loco_scores.labels)
    scores = loco_scores._replace(labels=labels, masks=None, defects=("",) * n_images)
    metrics = compute_split_metrics(scores, 1.5, 1.2)
    defined = {name for name, estimate in metrics.overall.items() if estimate.value is not None}
    assert defined == {"image_accuracy", "image_specificity"}
    assert {metrics.overall[name].reason for name in metrics.overall.keys() - defined} == {"no anomalous images"}
    assert (metrics.by_defect, metrics.counts) == ({}, {})


def test_compute_split_metrics_extra_scores_have_suffix(loco_scores):
    scores = loco_scores._replace(extra_scores={"distance": -loco_scores.score})
    metrics = compute_split_metrics(scores, 1.5, None).values()
    assert metrics["image_auroc_distance"] == pytest.approx(1 - metrics["image_auroc"])
    assert "image_ap_distance" in metrics


def test_compute_image_metrics_match_plain_functions(loco_scores):
    scores = loco_scores._replace(extra_scores={"distance": -loco_scores.score})
    metrics = compute_image_metrics(scores, native_threshold=1.5)
    assert metrics["image_auroc"] == ranking.auroc(scores.labels, scores.score)
    assert metrics["image_macro_f1_at_1.5"] == ranking.macro_f1(scores.labels, scores.score >= 1.5)
    assert list(metrics) == ["image_auroc", "image_ap", "image_f1max", "image_macro_f1_at_1.5", "image_auroc_distance"]
    one_class = scores._replace(labels=np.zeros_like(scores.labels))
    assert set(compute_image_metrics(one_class).values()) == {None}


def test_compute_pixel_metrics_without_masks_are_empty(loco_scores):
    assert set(compute_pixel_metrics(loco_scores)) == {"pixel_auroc", "pixel_ap", "au_pro"}
    assert compute_pixel_metrics(loco_scores._replace(masks=None)) == {}


def test_evaluation_result_to_dict_is_json_with_reasons_and_meaning():
    splits = {
        "val": SplitMetrics({"image_auroc": Estimate(0.9, 0.8, 0.95)}, {}, {}),
        "test": SplitMetrics({"image_auroc": Estimate(0.8, reason="few"), "pixel_ap": Estimate(None, reason="no map")}, {}, {}),
    }
    threshold = choose_threshold(ThresholdPolicy("max_f1"), [0, 1], [1, 2])
    result = EvaluationResult(splits, Thresholds(threshold), 12.5)
    assert result.undefined == ["test/pixel_ap"]
    assert json.loads(json.dumps(result.to_dict())) == {
        "metrics": {"val/image_auroc": 0.9, "test/image_auroc": 0.8, "test/pixel_ap": None},
        "intervals": {"val/image_auroc": [0.8, 0.95], "test/image_auroc": [None, None], "test/pixel_ap": [None, None]},
        "reasons": {"test/image_auroc": "few", "test/pixel_ap": "no map"},
        "threshold": {**threshold.to_dict(), "meaning": threshold.describe()},
        "pixel_threshold": None,
        "ms_per_image": 12.5,
    }
