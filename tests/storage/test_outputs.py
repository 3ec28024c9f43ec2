"""Results of verbs replace nothing that an earlier call has not written."""

from __future__ import annotations

import json
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adjobs.errors import StorageError
from adjobs.storage.outputs import OUTPUTS_FILE, OutputFolder, output_file, refuse_images_in, written_names


def write(folder, name="a.txt", text="result", verb="predict"):
    with OutputFolder(folder, verb).write(name) as temporary:
        temporary.write_text(text)


def write_half(folder, error):
    with OutputFolder(folder, "predict").write("a.txt") as temporary:
        temporary.write_text("half a res")
        raise error


def contents(folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != OUTPUTS_FILE}


def test_write_replaces_what_an_earlier_call_has_written(tmp_path):
    write(tmp_path / "new" / "out")
    write(tmp_path / "new" / "out", text="later result")
    write(tmp_path / "new" / "out", text="result")
    assert contents(tmp_path / "new" / "out") == {"a.txt": "result"}
    assert written_names(tmp_path / "new" / "out") == {"a.txt"}
    assert len((tmp_path / "new" / "out" / OUTPUTS_FILE).read_text().splitlines()) == 2  # one for each content


@pytest.mark.parametrize("existing", ["foreign", "changed", "other verb", "link", "broken link", "folder"])
def test_write_other_file_is_refused_and_kept(tmp_path, existing):
    folder, target = tmp_path / "out", tmp_path / "out" / "a.txt"
    if existing in ("changed", "other verb"):
        write(folder, verb="synth" if existing == "other verb" else "predict")
    folder.mkdir(exist_ok=True)
    if existing in ("changed", "foreign"):
        target.write_text("the user's")
    elif existing == "folder":
        target.mkdir()
    elif "link" in existing:
        target.symlink_to(tmp_path / "elsewhere.txt")
        if existing == "link":
            (tmp_path / "elsewhere.txt").write_text("the user's")
    before = sorted(folder.glob("[!.]*"))
    with pytest.raises(
        StorageError, match=r"a\.txt: exists and was not written by 'adjobs predict', or has been changed since; choose"
    ):
        write(folder, text="new")
    assert sorted(folder.glob("[!.]*")) == before
    assert target.is_symlink() or target.is_dir() or target.read_text() != "new"
    if existing != "changed":  # found when it is replaced, since comparing contents takes time
        with pytest.raises(StorageError, match=r"exists and was not written by .*\(and 1 more\); choose"):
            OutputFolder(folder, "predict").check(["new.txt", "a.txt", "a.txt"])


def test_write_error_or_interruption_leaves_the_earlier_result(tmp_path):
    write(tmp_path)
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        with pytest.raises((StorageError, KeyboardInterrupt)):
            write_half(tmp_path, error)
    assert contents(tmp_path) == {"a.txt": "result"}


def test_write_after_a_kill_between_list_and_file_can_be_run_again(tmp_path, monkeypatch):
    write(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, text="later result")
    with (tmp_path / OUTPUTS_FILE).open("a") as file:
        file.write('{"verb": "pre')  # cut off
    write(tmp_path, text="last result")
    assert contents(tmp_path) == {"a.txt": "last result"}


def test_write_two_at_once_into_one_folder_are_refused(tmp_path):
    first, second = OutputFolder(tmp_path, "predict"), OutputFolder(tmp_path, "predict")
    with first.write("a.txt") as temporary:
        temporary.write_text("result")
    with pytest.raises(StorageError, match="another 'adjobs predict' is writing into it; wait for it, or choose another --out"):
        second.open_lines("lines")
    assert contents(tmp_path) == {"a.txt": "result"}
    del first
    with second.write("a.txt") as temporary:  # which the first had written meanwhile
        temporary.write_text("later result")
    assert contents(tmp_path) == {"a.txt": "later result"}


def test_open_lines_replaces_its_own_file_whatever_it_holds(tmp_path):
    for text in ("one", "two"):
        with OutputFolder(tmp_path, "predict").open_lines("lines") as file:
            file.append(text)
    assert contents(tmp_path) == {"lines": "two\n"}
    (tmp_path / "theirs").write_text("the user's")
    with pytest.raises(StorageError, match="theirs: exists and was not written by"):
        OutputFolder(tmp_path, "predict").open_lines("theirs")


def test_written_names_unreadable_list_is_empty(tmp_path):
    assert written_names(tmp_path / "missing") == set()
    (tmp_path / OUTPUTS_FILE).write_bytes(b"\xff\n[1]\n3\n" + json.dumps({"verb": "x", "file": "a", "sha256": None}).encode())
    assert written_names(tmp_path) == {"a"}


def is_note(path) -> bool:
    return path.read_text().startswith("note")


def test_output_file_replaces_only_what_is_recognised(tmp_path):
    path, link = tmp_path / "a.txt", tmp_path / "link.txt"
    link.symlink_to(path)
    assert output_file(path, "a note", is_note) == output_file(link, "a note", is_note) == path
    path.write_text("note 1")
    assert output_file(link, "a note", is_note) == path
    path.write_text("list 1")
    for target in (path, link, tmp_path):
        with pytest.raises(StorageError, match=rf"{target.name}: exists and is not a note; choose another path, or remove it"):
            output_file(target, "a note", is_note)


def test_output_file_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert output_file(Path("~/a.txt"), "a note", is_note) == tmp_path / "a.txt"
    assert OutputFolder(Path("~/out"), "predict").path == tmp_path / "out"


def test_append_line_that_does_not_fit_on_the_disk_is_left_out(tmp_path):
    with OutputFolder(tmp_path, "predict").open_lines("lines") as lines:
        lines.append("first")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            with pytest.raises(StorageError, match=r"cannot write .*lines: File too large; check the path, .* the free space"):
                lines.append("a second line")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, previous)
        lines.append("third")
    assert contents(tmp_path) == {"lines": "first\nthird\n"}


def test_refuse_images_in_follows_links_and_allows_what_is_beside(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "set")
    refuse_images_in(tmp_path / "set", tmp_path / "set-sheets" / "a.png")
    for path in (tmp_path / "set", tmp_path / "link" / "new" / "a.png"):
        with pytest.raises(StorageError, match=r"is in the data set, which would take it for an image; choose a path outside"):
            refuse_images_in(tmp_path / "set", path)


@pytest.mark.parametrize(
    "line", ['{"verb": "predict", "file": "a.txt", "sha256": ["x"]}', '{"verb": "predict"}', "[1]", "null", "{"]
)
def test_output_folder_lines_that_are_not_of_the_list_are_skipped(line, tmp_path):
    (tmp_path / OUTPUTS_FILE).write_text(f"{line}\n")
    write(tmp_path)
    write(tmp_path, text="second")
    assert contents(tmp_path) == {"a.txt": "second"}


def test_output_folder_threads_write_different_files(tmp_path):
    folder = OutputFolder(tmp_path / "out", "predict")

    def write(index: int) -> None:
        with folder.write(f"{index}.txt") as temporary:
            temporary.write_text(str(index))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(50)))
    entries = [json.loads(line) for line in (tmp_path / "out" / OUTPUTS_FILE).read_text().splitlines()]
    assert sorted(entry["file"] for entry in entries) == sorted(f"{index}.txt" for index in range(50))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {OUTPUTS_FILE, *(f"{index}.txt" for index in range(50))}
