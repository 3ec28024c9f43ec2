"""Methods of a working directory."""

from __future__ import annotations

import sys

import pytest

from adjobs import methods
from adjobs.errors import QueueError
from adjobs.queue.plugins import importable, plugin_metadata
from tests.helpers.plugins import write_package, write_project


def test_plugin_metadata_lets_python_find_the_methods_of_a_directory(tmp_path):
    write_project(tmp_path, method="glossiness", package="glossy")
    metadata = plugin_metadata(tmp_path)
    assert list(metadata) == ["shiny_methods-1.2.dist-info/METADATA", "shiny_methods-1.2.dist-info/entry_points.txt"]
    before = list(sys.path)
    with importable(tmp_path, metadata):
        assert "glossiness" in methods.names()
        assert methods.spec("glossiness").title == "Brightness"
    assert "glossiness" not in methods.names()
    assert sys.path == before


def test_plugin_metadata_of_a_directory_without_methods_is_empty(tmp_path):
    assert plugin_metadata(tmp_path) == {}
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'a'\n")
    assert plugin_metadata(tmp_path) == {}


@pytest.mark.parametrize("text", ["[project", "project = 3", "[project]\nentry-points = 4"])
def test_plugin_metadata_of_a_damaged_project_file_is_refused(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(QueueError, match="cannot be read"):
        plugin_metadata(tmp_path)


def test_plugin_metadata_of_packages_in_src_says_where_they_must_be(tmp_path):
    write_project(tmp_path)
    (tmp_path / "shiny").rename(tmp_path / "elsewhere")
    write_package(tmp_path / "src")
    with pytest.raises(QueueError, match=r"method 'brightness' is in shiny.brightness, which is not at .*; lay its packages out"):
        plugin_metadata(tmp_path)
