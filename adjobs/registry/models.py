"""Registered models and their versions, as MLflow has them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from adjobs.errors import RegistryError, choices, shorten, shown
from adjobs.tracking.client import DUPLICATE_TEXTS, connect, mlflow_errors
from adjobs.tracking.layout import TAG

CHAMPION, CHALLENGER = "champion", "challenger"
ALIASES = (CHAMPION, CHALLENGER)
"""The aliases whose changes are recorded: the version in force, and the one that may replace it."""
_PAGE = 1000  # versions or models in one answer


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model.

    Attributes:
        model: name of the registered model.
        version: from 1; numbers of deleted versions are not used again.
        created_at: in UTC.
        run_id: of the run that logged it; "" if it came from elsewhere.
        status: of MLflow: READY, PENDING_REGISTRATION or FAILED_REGISTRATION.
        aliases: all of them, sorted.
        description: in Markdown, or "".
        tags: all of them.
    """

    model: str
    version: int
    created_at: datetime
    run_id: str
    status: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """As MLflow and ``adjobs predict --model`` take it."""
        return f"models:/{self.model}/{self.version}"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "created_at": self.created_at.isoformat(), "aliases": list(self.aliases), "uri": self.uri}


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model.

    Attributes:
        name: of the model.
        created_at: in UTC; never changes.
        aliases: version of each alias, of all aliases.
        description: in Markdown, or "".
        tags: those of adjobs, without their prefix.
        latest_version: the highest that is not deleted; None without versions.
    """

    name: str
    created_at: datetime
    aliases: Mapping[str, int]
    description: str
    tags: Mapping[str, str]
    latest_version: int | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "created_at": self.created_at.isoformat()}


class ModelStore:
    """The model registry of an MLflow server or SQLite file.

    All methods raise TrackingError if MLflow does not answer or refuses, and RegistryError for an unknown model or version.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._client = connect(uri)

    def models(self) -> list[RegisteredModel]:
        """All registered models, by name."""
        with mlflow_errors(self.uri):
            items = list(self._pages(self._client.search_registered_models))
        return sorted((_model(item) for item in items), key=lambda model: model.name)

    def model(self, name: str) -> RegisteredModel:
        """One registered model."""
        try:
            with _unknown_errors(self.uri):
                return _model(self._client.get_registered_model(name))
        except _UnknownError:
            names = [model.name for model in self.models()]
            known = choices(name, names) if names else "there are none; set track.model in a job file, and train"
            raise RegistryError(f"unknown model {shown(name)}; {known}") from None

    def versions(self, model: RegisteredModel, limit: int | None = None) -> list[ModelVersion]:
        """The versions of a model that are not deleted, the newest first; at most ``limit``."""
        # MLflow's search knows no aliases of versions (3.17.2).
        aliases = _aliases_by_version(model.aliases)
        query = {"filter_string": _filter_by_name(model.name), "order_by": ["version_number DESC"]}
        with mlflow_errors(self.uri):
            items = (item for item in self._pages(self._client.search_model_versions, limit, **query) if item.name == model.name)
            return [_version(item, aliases.get(int(item.version), ())) for item in islice(items, limit)]

    def version(self, model: RegisteredModel, version: int) -> ModelVersion:
        """One version of a model."""
        try:
            with _unknown_errors(self.uri):
                item = self._client.get_model_version(model.name, str(version))
        except _UnknownError:
            is_past = model.latest_version is not None and version < model.latest_version
            known = [str(item.version) for item in self.versions(model)]
            listing = shorten(", ".join(known), 120) if known else "none"
            was = "is deleted" if is_past else "does not exist"
            raise RegistryError(f"version {version} of model {shown(model.name)} {was}; available: {listing}") from None
        return _version(item, _aliases_by_version(model.aliases).get(version, ()))

    def has_version(self, name: str, version: int) -> bool:
        """Whether a version exists and is not deleted."""
        try:
            with _unknown_errors(self.uri):
                self._client.get_model_version(name, str(version))
        except _UnknownError:
            return False
        return True

    def register(self, name: str, run_id: str, source: str, tags: Mapping[str, str]) -> ModelVersion:
        """The version of a run's model, which is registered unless it was before.

        Args:
            name: of the registered model, which need not exist.
            run_id: of the run.
            source: URI of its logged model, ``models:/m-…``.
            tags: of the version, without our prefix.
        """
        from mlflow.exceptions import MlflowException

        with mlflow_errors(self.uri):
            try:
                self._client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        known = next((version for version in self.versions(self.model(name)) if version.run_id == run_id), None)
        if known is not None:
            return known
        own, model_id = {f"{TAG}{key}": value for key, value in tags.items()}, source.removeprefix("models:/")
        with mlflow_errors(self.uri):
            item = self._client.create_model_version(name, source, run_id=run_id, tags=own, model_id=model_id)
            self._link(model_id, name, str(item.version))
        return self.version(self.model(name), int(item.version))

    def _link(self, model_id: str, name: str, version: str) -> None:
        """Let the page of a logged model name its version, as mlflow.register_model does, which also prints."""
        from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

        known = json.loads(self._client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
        versions = json.dumps([*known, {"name": name, "version": version}])
        self._client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: versions})

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Let an alias stand for a version, or for none."""
        if version is None:
            with mlflow_errors(self.uri):
                self._client.delete_registered_model_alias(name, alias)
        else:
            self._set(lambda: self._client.set_registered_model_alias(name, alias, str(version)))

    def set_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of a model under our prefix."""
        self._set(lambda: self._client.set_registered_model_tag(name, f"{TAG}{key}", value))

    def set_version_tag(self, version: ModelVersion, key: str, value: str) -> None:
        """Set a tag of a version under our prefix."""
        self._set(lambda: self._client.set_model_version_tag(version.model, str(version.version), f"{TAG}{key}", value))

    def change_description(self, version: ModelVersion, change: Callable[[str], str]) -> None:
        """Change the description of a version, Markdown, as it is in MLflow at this moment."""
        with mlflow_errors(self.uri):
            before = str(self._client.get_model_version(version.model, str(version.version)).description or "")
            if (after := change(before)) != before:
                self._client.update_model_version(version.model, str(version.version), after)

    def delete_tag(self, name: str, key: str) -> None:
        """Delete a tag of a model; a missing one is no error."""
        with mlflow_errors(self.uri):
            self._client.delete_registered_model_tag(name, f"{TAG}{key}")

    def _set(self, action: Callable[[], object]) -> None:
        """MLflow looks for an alias or a tag, then adds it: if another client adds it in between, a second call finds it."""
        with mlflow_errors(self.uri):
            try:
                action()
            except Exception as error:
                if not any(text in str(error) for text in DUPLICATE_TEXTS):
                    raise
                action()

    @staticmethod
    def _pages(search: Any, limit: int | None = None, **arguments: Any) -> Iterator[Any]:
        token = None
        while True:
            page = search(max_results=min(limit or _PAGE, _PAGE), page_token=token, **arguments)
            yield from page
            token = page.token
            if not token:
                return


def parse_reference(text: str) -> tuple[str, int | str | None]:
    """Name of a model, and a version or alias, of what MLflow writes after ``models:/``.

    Raises:
        RegistryError: the text is something else.

    >>> parse_reference("line-3/12"), parse_reference("models:/line-3@champion"), parse_reference("line-3")
    (('line-3', 12), ('line-3', 'champion'), ('line-3', None))
    """
    reference = text.removeprefix("models:/")
    name, slash, version = reference.partition("/")
    if slash and name and re.fullmatch(r"[1-9][0-9]{0,8}", version):
        return name, int(version)
    name, at, alias = reference.rpartition("@")
    if at and name and alias and not slash:
        return name, alias
    if reference and not slash and not at:
        return reference, None
    raise RegistryError(
        f"{shown(text)} names no model; write NAME/VERSION, such as line-3/12, or NAME@ALIAS, such as line-3@champion"
    )


class _UnknownError(Exception):
    """MLflow has no such model or version."""


@contextmanager
def _unknown_errors(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    with mlflow_errors(uri):
        try:
            yield
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise _UnknownError from error


def _filter_by_name(name: str) -> str:
    """MLflow's filter, whose quotes cannot be escaped: a name with both kinds takes a search of all versions."""
    quote = '"' if "'" in name else "'"
    return "" if quote in name else f"name={quote}{name}{quote}"


def _model(item: Any) -> RegisteredModel:
    versions = [int(version.version) for version in item.latest_versions or ()]
    return RegisteredModel(
        name=str(item.name),
        created_at=_time(item.creation_timestamp),
        aliases={str(alias): int(version) for alias, version in sorted(item.aliases.items())},
        description=str(item.description or ""),
        tags={key.removeprefix(TAG): str(value) for key, value in item.tags.items() if key.startswith(TAG)},
        latest_version=max(versions, default=None),
    )


def _version(item: Any, aliases: tuple[str, ...]) -> ModelVersion:
    return ModelVersion(
        model=str(item.name),
        version=int(item.version),
        created_at=_time(item.creation_timestamp),
        run_id=str(item.run_id or ""),
        status=str(item.status),
        aliases=aliases,
        description=str(item.description or ""),
        tags=dict(item.tags),
    )


def _aliases_by_version(aliases: Mapping[str, int]) -> dict[int, tuple[str, ...]]:
    return {version: tuple(sorted(name for name in aliases if aliases[name] == version)) for version in set(aliases.values())}


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
