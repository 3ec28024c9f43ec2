"""The file of a retraining: what it may hold, and what is said of what it may not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adjobs.errors import JobError
from adjobs.retraining.config import TriggerSection, parse_retraining, read_retraining

MINIMAL: dict[str, Any] = {"model": "line-3", "dataset": "s3://line/data", "job": {"method": "cdo", "data": {"image_size": 64}}}


def test_training_job_trains_on_the_frozen_splits_of_a_version_and_registers_nothing():
    job = parse_retraining({**MINIMAL, "job": {**MINIMAL["job"], "track": {"experiment": "tiles"}}}).training_job(4, 7)
    assert (job.data.uri, job.data.version, job.data.protocol, job.data.image_size) == ("s3://line/data", 4, "official", 64)
    assert job.track is not None
    assert (job.track.experiment, job.track.model) == ("tiles", None)
    assert job.train.start_from is None


def test_training_job_starts_from_the_champion_unless_none_is_in_force():
    config = parse_retraining({**MINIMAL, "start_from": "champion"})
    assert config.training_job(4, 7).train.start_from == "models:/line-3/7"
    assert config.training_job(4, None).train.start_from is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "a/b"}, r"model: got 'a/b'; must not be blank"),
        ({"job": {"method": "cd"}}, r"job: unknown method 'cd'.*did you mean 'cdo'"),
        ({"job": {"method": "cdo", "data": {"uri": "x", "protocol": "holdout"}}}, r"job\.data\.uri: the data set decides it"),
        ({"job": {"method": "cdo", "track": {"model": "m"}}}, r"job\.track\.model: got 'm'; the key model says it"),
        ({"job": {"method": "cdo", "track": "none"}}, r"job\.track: got none, a retraining is recorded in MLflow"),
        ({"job": {"method": "cdo", "params": {"lr": "fast"}}}, r"job: params\.lr"),
        ({"job": {"method": "cdo", "data": []}}, r"job\.data: got \[\]; must be a mapping"),
        ({"when": {"hours": "20:00"}}, r"when\.hours: got '20:00'; must be two different times"),
        ({"when": {"hours": "06:00-06:00"}}, r"when\.hours: got"),
        ({"when": {"hours": "24:00-06:00"}}, r"when\.hours: got"),
        ({"when": {"time_zone": "Europe/Berln"}}, r"when\.time_zone: .*did you mean 'Europe/Berlin'"),
        ({"when": {"max_age": "month"}}, r"when\.max_age: got 'month'; give a positive number with a unit"),
        ({"when": {"new_label": 3}}, r"when\.new_label: unknown key.*did you mean 'new_labels'"),
        ({"gate": {"alpha": 0.5}}, r"gate\.alpha: got 0\.5"),
        ({"webhook": {"url": "ftp://host"}}, r"webhook\.url: got 'ftp://host'; must be an http"),
        ({"webhook": {"url": "https://ann:secret@host"}}, r"must not hold a password"),
        ({"search": {"space": "space.yaml"}}, r"search\.space: got 'space\.yaml'"),
        ({"start_from": "last"}, r"start_from"),
    ],
)
def test_parse_retraining_says_what_is_wrong_in_one_line(change, message):
    with pytest.raises(JobError, match=message) as caught:
        parse_retraining({**MINIMAL, **change}, "retrain.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("retrain.yaml: ")


def test_parse_retraining_of_nothing_names_every_key():
    with pytest.raises(JobError, match=r"model: missing.*dataset: missing.*job: missing"):
        parse_retraining({})


def test_read_retraining_takes_the_files_in_that_it_names(tmp_path: Path):
    (tmp_path / "job.yaml").write_text("method: cdo\ndata: {image_size: 64}\n")
    (tmp_path / "space.yaml").write_text("method: cdo\nparameters: {params.gamma: {uniform: [0, 3]}}\n")
    (tmp_path / "retrain.yaml").write_text(
        "model: line-3\ndataset: data\ninbox: ~/inbox\njob: job.yaml\nsearch: {space: space.yaml, trials: 2}\n"
        "webhook: {url: 'http://127.0.0.1', secret_file: key}\nwhen: {drift: {images: s3://line/recent}}\n"
    )
    config = read_retraining(tmp_path / "retrain.yaml")
    assert (config.dataset, config.inbox) == (str(tmp_path / "data"), str(Path.home() / "inbox"))
    assert config.job["method"] == "cdo"
    assert config.search is not None
    assert isinstance(config.search.space, dict)
    assert config.webhook is not None
    assert config.webhook.secret_file == str(tmp_path / "key")
    assert config.when.drift is not None
    assert config.when.drift.images == "s3://line/recent"
    assert parse_retraining(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("text", ["- a", "job: missing.yaml\nmodel: m\ndataset: d\n", "model: [\n"])
def test_read_retraining_refuses_what_it_cannot_read(tmp_path: Path, text: str):
    (tmp_path / "retrain.yaml").write_text(text)
    with pytest.raises(JobError, match=r"(retraining|job) '"):
        read_retraining(tmp_path / "retrain.yaml")


def test_hours_pass_midnight_in_their_own_zone():
    when = TriggerSection(hours="20:00-06:00", time_zone="Europe/Berlin")
    allowed = [when.allow(datetime(2026, 7, 1, hour, tzinfo=UTC)) for hour in (17, 18, 23, 3, 4)]
    assert allowed == [False, True, True, True, False]
