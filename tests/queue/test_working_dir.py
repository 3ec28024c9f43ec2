"""Jobs in a working directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adjobs.config.job import JobConfig
from adjobs.queue.working_dir import relative_to
from tests.helpers.jobs import resolved_job


def job(weights: str, uri: str = "s3://bucket/images", split: str | None = None) -> JobConfig:
    values = resolved_job(Path("unused"))
    data = values.data.model_copy(update={"uri": uri, "split": split})
    return values.model_copy(update={"params": {**values.params, "weights": weights}, "data": data})


def resolved(root: Path, *arguments: Any, **values: Any) -> tuple[str, str, list[str]]:
    result, named = relative_to(root, job(*arguments, **values))
    return result.params["weights"], result.data.uri, [path.relative_to(root).as_posix() for path in named]


def test_relative_to_paths_in_the_directory_are_named_and_relative(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.pth").touch()
    (tmp_path / "split.json").touch()
    for text in ("sub/w.pth", "./sub/../sub/w.pth", str(tmp_path / "sub" / "w.pth")):
        weights, _, named = resolved(tmp_path, text, split="split.json")
        assert (weights, named) == ("sub/w.pth", ["sub/w.pth", "split.json"])


def test_relative_to_keywords_addresses_and_ids_stay(tmp_path):
    (tmp_path / "none").touch()
    for text in ("none", "s3://b/w.pth", "4f2a"):
        assert resolved(tmp_path, text) == (text, "s3://bucket/images", [])


def test_relative_to_what_is_only_in_the_current_folder_is_absolute(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "w.pth").touch()
    monkeypatch.chdir(tmp_path)
    assert resolved(tmp_path / "project", "w.pth") == (str(tmp_path / "w.pth"), "s3://bucket/images", [])


def test_relative_to_data_are_absolute_and_not_named(tmp_path, monkeypatch):
    (tmp_path / "project" / "images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for uri, expected in (("images", "project/images"), ("nowhere", "nowhere"), ("project/images", "project/images")):
        assert resolved(tmp_path / "project", "none", uri) == ("none", str(tmp_path / expected), [])
    assert resolved(tmp_path / "project", "none", "elpv")[1] == "elpv"
