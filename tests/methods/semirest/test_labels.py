"""Labels of tokens."""

from __future__ import annotations

import pytest
import torch

from adjobs.data.labels.masks import ANOMALOUS, NORMAL, UNKNOWN
from adjobs.errors import DataError
from adjobs.methods.semirest.config import Config
from adjobs.methods.semirest.labels import UNDECIDED, token_labels
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import drawn_data, tiny_method


def row_of_tokens(count: int) -> torch.Tensor:
    return torch.zeros(1, 1, 8, 8 * count, dtype=torch.bool)


def labels_of(masks: torch.Tensor, unknown: torch.Tensor, **params: object) -> list[list[int]]:
    config = Config(**params)
    return token_labels(masks, unknown, config.phases[-1], config)[0].tolist()


def test_token_labels_follow_the_fraction_of_defect():
    masks, unknown = row_of_tokens(5), row_of_tokens(5)
    for i, pixels in enumerate((0, 5, 6, 31, 32)):  # of 64: 8 % is 5.1, a half is 32
        block = torch.zeros(64, dtype=torch.bool)
        block[:pixels] = True
        masks[0, 0, :, 8 * i : 8 * i + 8] = block.view(8, 8)
    assert labels_of(masks, unknown) == [[NORMAL, NORMAL, UNDECIDED, UNDECIDED, ANOMALOUS]]
    assert labels_of(masks, unknown, supervision="masks") == [[NORMAL, NORMAL, UNDECIDED, ANOMALOUS, ANOMALOUS]]


def test_token_labels_tokens_in_boxes_are_unknown():
    masks, boxes = row_of_tokens(3), row_of_tokens(3)
    boxes[0, 0, :, 14:] = True  # a quarter of the second token, all of the third
    assert labels_of(masks, boxes, supervision="boxes") == [[NORMAL, UNKNOWN, UNKNOWN]]
    assert labels_of(masks, boxes, supervision="boxes", min_outside_boxes=0.7) == [[NORMAL, NORMAL, UNKNOWN]]


def test_token_labels_anomaly_without_box_is_undecided():
    masks, boxes = row_of_tokens(2), row_of_tokens(2)
    boxes[0, 0, :, 8:] = True
    assert labels_of(masks, boxes, supervision="boxes") == [[NORMAL, UNKNOWN]]
    assert labels_of(masks, torch.ones_like(boxes), supervision="boxes") == [[UNDECIDED, UNDECIDED]]


def test_token_labels_boxes_never_give_anomalous_tokens(tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache", label_detail="boxes")
    config = Config(supervision="boxes")
    for batch in data.anomalous(4):
        labels = token_labels(batch.masks, batch.unknown, config.phases[-1], config)
        assert (labels == UNKNOWN).any()
        assert not (labels == ANOMALOUS).any()


@pytest.mark.parametrize(("supervision", "label_detail"), [("masks", "image"), ("blocks", "boxes"), ("boxes", "image")])
def test_check_labels_too_coarse_labels_are_refused_before_any_work(supervision, label_detail, tmp_path):
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache", label_detail=label_detail)
    method = tiny_method("semirest", supervision=supervision)
    with pytest.raises(DataError, match=f"params.supervision {supervision}: none of 4 labelled anomalies"):
        method.stages()[0].prepare(data)
    assert not list((tmp_path / "cache").glob("derived/*/*"))
