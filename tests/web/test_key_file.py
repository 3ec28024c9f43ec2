from __future__ import annotations

import pytest

from adjobs.errors import ServerError
from adjobs.web.key_file import digest, matches, read_digests


def write(path, text: str, mode: int = 0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


def test_read_digests_one_key_a_line(tmp_path):
    path = write(tmp_path / "keys", f"{'a' * 32}\n\n  {'b' * 40}  \n")
    digests = read_digests(path, "--api-key-file")
    assert digests == (digest("a" * 32), digest("b" * 40))
    assert [matches(key, digests) for key in ("a" * 32, "b" * 40, "a" * 31, "")] == [True, True, False, False]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_read_digests_file_of_others_is_refused(tmp_path, mode):
    with pytest.raises(ServerError, match=rf"others may read it \(mode {mode:04o}\); run: chmod 600"):
        read_digests(write(tmp_path / "keys", "a" * 32, mode), "--api-key-file")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no key"),
        ("guess", "a key of 5 characters"),
        (f"{'a' * 20} {'b' * 20}", "a key of 41 characters"),
        ("ä" * 40, "cannot be read"),
    ],
)
def test_read_digests_without_a_usable_key_is_one_line(tmp_path, text, problem):
    with pytest.raises(ServerError, match=problem) as error:
        read_digests(write(tmp_path / "keys", text), "--api-key-file")
    assert "\n" not in str(error.value)


def test_read_digests_no_file_is_one_line(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ServerError, match=r"cannot be read|is no file"):
            read_digests(path, "--api-key-file")
