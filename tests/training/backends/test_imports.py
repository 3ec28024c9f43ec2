"""What Ray's workers would import in place of the package, and what is said of an error in one of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from adjobs.errors import ClusterError
from adjobs.training.backends.imports import check_package, root_cause

ROOT = Path(__file__).parents[3]


def test_check_package_folder_without_another_one_passes(tmp_path):
    check_package(tmp_path)
    check_package(ROOT)


def test_check_package_folder_of_that_name_is_refused_where_it_hides_an_editable_installation(tmp_path, monkeypatch):
    (tmp_path / "adjobs").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "elsewhere"), str(ROOT)])  # installed as a path, which precedes it
    check_package(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "elsewhere")])  # installed with a finder, which comes last
    with pytest.raises(ClusterError) as caught:
        check_package(tmp_path)
    problem = f"{tmp_path}/adjobs: Ray's workers would import this in place of the package in {ROOT}/adjobs"
    assert str(caught.value).startswith(f"{problem}; run the command in another folder, or install adjobs again")


def test_check_package_folder_with_another_copy_is_refused(tmp_path):
    (tmp_path / "adjobs").mkdir()
    (tmp_path / "adjobs" / "__init__.py").touch()
    message = r"/adjobs: Ray's workers would import this in place of the package in .* or install adjobs from this folder"
    with pytest.raises(ClusterError, match=message):
        check_package(tmp_path)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "The actor died because of an error raised in its creation task, \x1b[36mray::Worker.__init__()\x1b[39m (pid=1)\n"
            + '  File "worker.py", line 1, in execute\n' * 40
            + "ModuleNotFoundError: No module named 'adjobs.training'\n",
            "ModuleNotFoundError: No module named 'adjobs.training'",
        ),
        ("The node was lost.\nIts id is 1.", "The node was lost. Its id is 1."),
        ("Error of one line", "Error of one line"),
    ],
)
def test_root_cause_is_the_last_error_of_a_traceback(message, expected):
    assert root_cause(RuntimeError(message)) == expected
