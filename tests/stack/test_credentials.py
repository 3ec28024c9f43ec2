"""The secrets of the embedded stack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adjobs.errors import StackError
from adjobs.stack.credentials import S3_ACTIONS, load


def test_load_makes_keys_of_their_own_for_each_client_of_s3_and_keeps_them(tmp_path: Path) -> None:
    first = load(tmp_path).s3_keys
    assert list(first) == list(S3_ACTIONS) == ["jobs", "dispatcher", "mlflow"]
    assert len({key for keys in first.values() for key in keys}) == 6
    assert load(tmp_path).s3_keys == first
    written = json.loads((tmp_path / "s3.json").read_text())["identities"]
    assert {identity["name"]: identity["actions"] for identity in written} == S3_ACTIONS


def test_load_of_identities_with_other_rights_makes_them_again(tmp_path: Path) -> None:
    keys = {"accessKey": "ADJOBSOLD", "secretKey": "0"}
    identity = {"name": "adjobs", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (tmp_path / "s3.json").write_text(json.dumps({"identities": [identity]}))
    load(tmp_path)
    assert "ADJOBSOLD" not in (tmp_path / "s3.json").read_text()
    assert "Admin" not in (tmp_path / "s3.json").read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"identities": [{}]}'])
def test_load_of_damaged_identities_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "s3.json").write_text(text)
    with pytest.raises(StackError, match=r"s3\.json: damaged .*; delete it and run 'adjobs up', which makes a new one"):
        load(tmp_path)
