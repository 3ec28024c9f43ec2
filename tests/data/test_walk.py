from __future__ import annotations

import os

import numpy as np
import pytest

from adjobs.errors import DataError
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import save, texture


def test_files_under_links_are_followed_once(folder_root, tmp_path):
    (folder_root / "good" / "again").symlink_to(folder_root / "good")
    save(tmp_path / "elsewhere" / "x.png", texture(16, np.random.default_rng(0)))
    (folder_root / "good" / "linked").symlink_to(tmp_path / "elsewhere")
    samples = open_folder(folder_root).samples
    assert len(samples) == 31
    assert "good/linked/x.png" in {sample.id for sample in samples}


def test_files_under_unlistable_folder_is_refused(folder_root, monkeypatch):
    def walk(top, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", str(top)))
        return []

    monkeypatch.setattr("adjobs.data.walk.os.walk", walk)
    with pytest.raises(DataError, match=r"folder cannot be listed \(Permission denied\); make it readable"):
        open_folder(folder_root)


def test_files_under_two_links_to_one_folder_do_not_depend_on_listing_order(folder_root, tmp_path, monkeypatch):
    save(tmp_path / "elsewhere" / "x.png", texture(16, np.random.default_rng(0)))
    for name in ("left", "right"):
        (folder_root / "good" / name).symlink_to(tmp_path / "elsewhere")
    walk = os.walk

    def listed(backwards: bool) -> set[str]:
        def ordered(*args, **options):
            for parent, folders, names in walk(*args, **options):
                folders.sort(reverse=backwards)
                yield parent, folders, names

        monkeypatch.setattr("adjobs.data.walk.os.walk", ordered)
        return {sample.id for sample in open_folder(folder_root).samples}

    assert listed(backwards=True) == listed(backwards=False)
