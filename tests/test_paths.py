from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.paths import expand_home


def test_expand_home_user_that_does_not_exist_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert expand_home("~/data") == Path("/home/ada/data")
    assert expand_home("~nobody-of-this-name/data") == Path("~nobody-of-this-name/data")
