"""What is said of a job before it trains, and while it does something that takes long."""

from __future__ import annotations

import logging
import shlex
from dataclasses import replace

import pytest

from adjobs import waits
from adjobs.cli.main import main
from adjobs.config.resolve import resolve
from adjobs.data.labels.masks import Box
from adjobs.data.problem import Problem
from adjobs.jobs import run
from adjobs.jobs.announce import announce_job, check_command, describe_labels
from adjobs.jobs.data import prepare_data
from adjobs.jobs.prepare import PreparedJob
from tests.helpers.drawing import draw_mvtec
from tests.helpers.jobs import local_settings, resolved_job
from tests.helpers.tiny import small_params


@pytest.fixture
def data(folder_root, tmp_path):
    """Two of its anomalous images train, with masks."""
    return prepare_data(resolved_job(folder_root), local_settings(tmp_path))


def job_of(root, method, *, label_detail="full", **params):
    return resolve({"method": method, "data": {"uri": str(root), "label_detail": label_detail}, "params": params})


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("cdo", {}, "to learn from masks, set params.use_labelled_masks=true"),
        ("slsg", {}, "to learn from masks, set params.labelled_per_batch=2"),
        ("semirest", {}, "to learn from masks, set params.supervision=masks"),
        ("semirest", {"supervision": "boxes"}, "to learn from masks, set params.supervision=masks"),
        ("dpae", {}, "dpae cannot learn from them; 'adjobs methods' lists the labels that each method can learn from"),
        ("liac", {}, "liac cannot learn from them; 'adjobs methods' lists the labels that each method can learn from"),
    ],
)
def test_describe_labels_names_what_lies_idle_and_the_key_that_uses_it(method, params, expected, folder_root, data):
    sentence = describe_labels(job_of(folder_root, method, **params), data)
    assert sentence.endswith(f"; labels that lie idle in the training split: masks of 2 images; {expected}")


def test_describe_labels_says_what_is_learnt_from(folder_root, data):
    assert describe_labels(job_of(folder_root, "cdo"), data).startswith("learns from normal images alone; labels that lie idle")
    used = describe_labels(job_of(folder_root, "cdo", use_labelled_masks=True), data)
    assert used == "learns from the masks of 2 of 2 anomalous training images"
    images = describe_labels(job_of(folder_root, "liac"), data)
    assert images.startswith("learns from the image labels of 2 of 2 anomalous training images; labels that lie idle")


def test_describe_labels_coarsened_by_the_job_names_that_key(folder_root, data):
    job = job_of(folder_root, "cdo", label_detail="image", use_labelled_masks=True)
    assert describe_labels(job, data).endswith("masks of 2 images; to use them, set data.label_detail=full")
    hidden = describe_labels(job_of(folder_root, "cdo", label_detail="image"), data)
    assert hidden.endswith("set params.use_labelled_masks=true and data.label_detail=full")


def test_describe_labels_boxes_name_the_method_s_key_for_boxes(folder_root, data):
    samples = tuple(replace(s, mask=None, boxes=(Box(1, 1, 5, 5),)) if s.mask else s for s in data.dataset.samples)
    boxed = data._replace(dataset=replace(data.dataset, samples=samples))
    assert describe_labels(job_of(folder_root, "semirest"), boxed).endswith("to learn from boxes, set params.supervision=boxes")
    assert "cdo cannot learn from them" in describe_labels(job_of(folder_root, "cdo"), boxed)


def test_describe_labels_without_anomalies_in_training_says_so(tmp_path):
    root = draw_mvtec(tmp_path / "set", 20, 8)
    data = prepare_data(resolved_job(root, protocol="official"), local_settings(tmp_path))
    assert describe_labels(job_of(root, "cdo"), data) == (
        "learns from normal images alone; the training split has no labelled anomalies"
    )


def test_announce_job_sums_up_the_warnings_and_names_the_command(folder_root, data, caplog):
    warnings = [Problem(f"good/{i}.png", "near duplicate", "is in the val split", "warning") for i in range(3)]
    warned = data._replace(problems=[Problem("x.png", "truncated", "is cut"), *warnings, Problem("", "clipped", "x", "warning")])
    with caplog.at_level(logging.INFO, "adjobs"):
        announce_job(PreparedJob(resolved_job(folder_root), warned))
    labels, excluded, summary = caplog.messages
    assert labels.startswith("labels: learns from ")
    assert excluded.startswith("data: 1 image with errors is left out; list all with 'adjobs data check ")
    kinds = "near duplicate 3, clipped 1"
    assert summary.startswith(
        f"data: 4 warnings ({kinds}), first: good/0.png: is in the val split; list all with 'adjobs data ch"
    )


def test_announce_job_without_warnings_is_one_line(folder_root, data, caplog):
    with caplog.at_level(logging.INFO, "adjobs"):
        announce_job(PreparedJob(resolved_job(folder_root), data))
    assert len(caplog.messages) == 1


def test_check_command_can_be_run_and_checks_the_job_s_own_split(folder_root):
    options = {"normal_classes": ["fine one"], "follow_links": True, "protocol": "holdout", "seed": 3, "value_range": [0, 255]}
    job = resolved_job(folder_root, **options)
    program, *words = shlex.split(check_command(job))
    assert program == "adjobs"
    context = main.make_context("adjobs", words)
    verb, rest = words[0], words[1:]
    group = main.get_command(context, verb)
    subcommand = group.get_command(context, rest[0])
    parsed = subcommand.make_context("check", rest[1:]).params
    assert (parsed["uri"], parsed["protocol"], parsed["seed"]) == (str(folder_root), "holdout", 3)
    assert (parsed["normal_classes"], parsed["follow_links"], parsed["value_range"]) == (("fine one",), True, (0, 255))
    assert parsed["method"] == "cdo"


@pytest.mark.slow
def test_train_announces_each_of_its_waits(folder_root, tmp_path, monkeypatch):
    monkeypatch.setattr(waits, "SECONDS", 0)
    document = {"method": "cdo", "data": {"uri": str(folder_root), "image_size": 64}, "params": small_params("cdo")}
    texts = []
    with waits.announcing(texts.append):
        run.train(
            resolve({**document, "track": "none"}), local_settings(tmp_path), backend="local", on_progress=lambda update: None
        )
    expected = [
        "listing the images in ",
        "hashing: ",
        "checking: ",
        "recording the job in a folder",
        "decoding images: ",
        "building cdo with its pretrained weights",
        "validating",
        "storing the checkpoint",
        "evaluating 8 validation and 8 test images",
        "choosing thresholds and computing metrics with their intervals",
        "drawing and storing figures",
        "storing the model",
        "writing the report",
    ]
    order = [next(i for i, text in enumerate(texts) if text.startswith(start)) for start in expected]
    assert order == sorted(order)
    assert texts.count("validating") == 1
