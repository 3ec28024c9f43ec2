"""Experiments as MLflow's UI opens them."""

from __future__ import annotations

import json

import pytest
from mlflow.exceptions import MlflowException

from adjobs.errors import TrackingError
from adjobs.tracking.client import connect
from adjobs.tracking.experiments import KIND_TAG, NOTE_TAG, VIEW_TAG, experiment_id


@pytest.fixture
def uri(tmp_path, empty_mlflow) -> str:
    return empty_mlflow(tmp_path)


def test_experiment_id_of_a_new_one_opens_as_model_training_with_a_view(uri):
    client = connect(uri)
    number = experiment_id(client, uri, "line")
    tags = client.get_experiment(number).tags
    assert tags[KIND_TAG] == "custom_model_development"
    assert f"(#/experiments/{number}/runs?workflowType=machine_learning&viewStateShareKey=adjobs)" in tags[NOTE_TAG]
    view = json.loads(tags[VIEW_TAG])
    assert {"metrics.`test/image_auroc`", "metrics.`test/ms_per_image`", "params.`method`"} <= set(view["selectedColumns"])
    assert experiment_id(client, uri, "line") == number


def test_experiment_id_sets_up_one_that_others_made_once_and_keeps_their_description(uri):
    client = connect(uri)
    number = client.create_experiment("line", tags={NOTE_TAG: "Of Ann."})
    assert experiment_id(client, uri, "line") == number
    assert client.get_experiment(number).tags[NOTE_TAG] == "Of Ann."
    client.set_experiment_tag(number, KIND_TAG, "regression")
    client.delete_experiment_tag(number, VIEW_TAG)
    experiment_id(client, uri, "line")
    assert client.get_experiment(number).tags == {NOTE_TAG: "Of Ann.", KIND_TAG: "regression"}


def test_experiment_id_of_one_that_may_not_be_changed_is_given(uri, monkeypatch):
    client = connect(uri)
    number = client.create_experiment("line")

    def refuse(*_):
        raise MlflowException("Permission denied")

    monkeypatch.setattr(client, "set_experiment_tag", refuse)
    assert experiment_id(client, uri, "line") == number


def test_experiment_id_when_another_process_was_first(uri, monkeypatch):
    client = connect(uri)
    create = client.create_experiment

    def create_twice(name, **options):
        create(name, **options)
        return create(name, **options)

    monkeypatch.setattr(client, "create_experiment", create_twice)
    assert experiment_id(client, uri, "line") == client.get_experiment_by_name("line").experiment_id


def test_experiment_id_of_a_deleted_one_is_one_line(uri):
    client = connect(uri)
    client.delete_experiment(client.create_experiment("line"))
    with pytest.raises(TrackingError, match="experiment 'line' is deleted; restore it"):
        experiment_id(client, uri, "line")
