"""Registered models as MLflow's SQLite file has them, and how they are named."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException

from adjobs.errors import RegistryError, TrackingError
from adjobs.registry.models import parse_reference
from tests.helpers.registry import add_model, add_version, click, delete_version, store

__all__ = ["store"]


@pytest.mark.parametrize("name", ["line 3", "it's", 'the "new" line', "both ' and \"", "ü%_"])
def test_models_and_versions_of_any_name_are_listed(store, name):
    add_model(store, name, 2)
    model = store.model(name)
    assert [version.version for version in store.versions(model)] == [2, 1]
    assert {item.name for item in store.models()} == {"line-3", name}
    assert store.version(model, 2).uri == f"models:/{name}/2"


def test_aliases_are_of_the_model_and_of_its_versions(store):
    click(store, "line-3", "champion", 2)
    click(store, "line-3", "best", 2)
    click(store, "line-3", "Champion", 3)
    model = store.model("line-3")
    assert model.aliases == {"Champion": 3, "best": 2, "champion": 2}
    assert [version.aliases for version in store.versions(model)] == [(), ("Champion",), ("best", "champion"), ()]
    store.set_alias("line-3", "best", None)
    assert store.version(store.model("line-3"), 2).aliases == ("champion",)


def test_deleted_versions_are_gone_and_their_numbers_are_not_used_again(store):
    click(store, "line-3", "champion", 4)
    delete_version(store, "line-3", 4)
    model = store.model("line-3")
    assert (model.aliases, model.latest_version, store.has_version("line-3", 4)) == ({}, 3, False)
    assert add_version(store, "line-3") == 5
    with pytest.raises(RegistryError, match=r"version 4 of model 'line-3' is deleted; available: 5, 3, 2, 1"):
        store.version(store.model("line-3"), 4)


def test_tags_are_set_and_deleted(store):
    store.set_tag("line-3", "history", "s3://adjobs/registry/x")
    assert store.model("line-3").tags == {"history": "s3://adjobs/registry/x"}
    for _ in range(2):
        store.delete_tag("line-3", "history")
    assert store.model("line-3").tags == {}


def test_set_tag_that_another_client_adds_at_the_same_time_is_repeated(store, monkeypatch):
    calls = []

    def add(*arguments: str) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: registered_model_tags.key")

    monkeypatch.setattr(store._client, "set_registered_model_tag", add)
    store.set_tag("line-3", "history", "x")
    assert len(calls) == 2


def test_set_alias_error_is_one_line(store):
    with pytest.raises(TrackingError, match=r"MLflow at sqlite://.*: Model Version .*version=9\) not found"):
        store.set_alias("line-3", "champion", 9)


def test_unknown_model_without_any_says_how_to_get_one(store):
    store._client.delete_registered_model("line-3")
    with pytest.raises(RegistryError, match=r"unknown model 'x'; there are none; set track.model in a job file, and train"):
        store.model("x")


@pytest.mark.parametrize("text", ["", "a/", "a/0", "a/x", "a/1/2", "/3", "@champion", "a@", "models:/", "a/b@c", "a/99999999999"])
def test_parse_reference_of_something_else_is_one_line(text):
    with pytest.raises(RegistryError, match="names no model; write NAME/VERSION, such as line-3/12, or NAME@ALIAS"):
        parse_reference(text)
