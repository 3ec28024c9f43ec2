"""The folder of a prediction: lines, overlays, and which detector made them, so that an interrupted prediction can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from adjobs.errors import StorageError
from adjobs.inference.inputs import is_remote
from adjobs.inference.lines import COLUMNS
from adjobs.storage.arrow import write_parquet
from adjobs.storage.base import disk_errors
from adjobs.storage.outputs import LinesFile, OutputFolder, written_names

LINES_FILE = "predictions.jsonl"
TABLE_FILE = "predictions.parquet"
MODEL_FILE = "predictions-model.json"
PAGE_FILE = "index.html"
MAX_NAME_BYTES = 200  # of an overlay, without suffix and number; file systems allow 255 in all


@dataclass(frozen=True)
class DetectorIdentity:
    """What must be the same for lines of an earlier call to hold.

    Attributes:
        digest: SHA-256 of the detector's files, thresholds included.
        threshold: of its scores.
        model: as the user named it, for messages.
    """

    digest: str
    threshold: float
    model: str


class ResultFolder:
    """Results of one call, and with ``resume`` of earlier ones: lines in the order in which they are added, and overlays.

    Args:
        names: of the images to predict.
        out: the folder; it is created when the first file is written.
        draw: whether there will be overlays.

    Raises:
        StorageError: it has images to predict, or a file with the name of a result that is no result of an earlier prediction.
    """

    def __init__(self, names: Sequence[str], out: Path, *, draw: bool = True) -> None:
        self._folder = OutputFolder(out, "predict")
        self._names, self._draw = names, draw
        self._overlays: list[str] = []
        self._lines: LinesFile | None = None
        _refuse_inputs(names, self._folder.path, out)
        self._folder.check([LINES_FILE, PAGE_FILE, *(overlay_names(names, self._folder.path) if draw else [])])

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def lines_file(self) -> Path:
        """The file of lines."""
        return self._folder.path / LINES_FILE

    def start(self, identity: DetectorIdentity | None = None, *, resume: bool = False) -> list[str]:
        """Open the file of lines; the overlays of earlier calls that are not replaced stay.

        Args:
            identity: of the detector; without it a later call cannot resume.
            resume: keep the lines of earlier calls, except those with an error and one that was cut off.

        Returns:
            The images that have no line yet, in order.

        Raises:
            StorageError: the lines are those of another detector, or of an unknown one, or the disk refuses.
        """
        self._folder.lock()
        self._folder.remove(PAGE_FILE)  # until there is one of what is predicted now
        kept = self._keep(identity) if resume and identity is not None and self._has_lines() else None
        if identity is not None:
            with self._folder.write(MODEL_FILE) as temporary:
                temporary.write_text(json.dumps(asdict(identity)), encoding="utf-8")
        self._lines = self._folder.open_lines(LINES_FILE) if kept is None else self._folder.append_lines(LINES_FILE)
        done, drawn = kept or (set(), set())
        remaining = [name for name in self._names if name not in done]
        self._overlays = overlay_names(remaining, self.path, drawn) if self._draw else []
        return remaining

    def overlay(self, index: int) -> str:
        """The file name for the overlay of a remaining image."""
        return self._overlays[index]

    def write_overlay(self, name: str, content: bytes) -> str:
        """Write an overlay; returns its path. Threads may do so at the same time.

        Raises:
            StorageError: the file exists and was not written by an earlier call, or the disk refuses.
        """
        with self._folder.write(name) as temporary:
            temporary.write_bytes(content)
        return str(self.path / name)

    def append(self, line: dict[str, Any]) -> None:
        """Write a line; what reads the file finds it at once.

        Raises:
            StorageError: the disk refuses.
        """
        assert self._lines is not None
        self._lines.append(json.dumps(line, allow_nan=False))

    def write_table(self) -> Path:
        """Write all lines, those of earlier calls included, as a Parquet file; returns its path.

        Raises:
            StorageError: the file exists and was not written by an earlier call, or the disk refuses.
        """
        with self._folder.write(TABLE_FILE) as temporary:
            write_parquet(temporary, self.lines(), COLUMNS)
        return self.path / TABLE_FILE

    def write_page(self, content: str) -> Path:
        """Write the page that shows the results; returns its path.

        Raises:
            StorageError: the disk refuses.
        """
        with self._folder.write(PAGE_FILE) as temporary:
            temporary.write_bytes(content.encode("utf-8", "replace"))  # a file's name may be no text
        return self.path / PAGE_FILE

    def lines(self) -> Iterator[dict[str, Any]]:
        """The whole lines, one by one; others, as of a process that was killed, are left out."""
        with disk_errors("read", self.lines_file), (self.lines_file).open("rb") as file:
            for raw in file:
                line = _parse(raw)
                if line is not None:
                    yield line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lines is not None:
            self._lines.__exit__(kind, error, trace)
        self._folder.unlock()

    def _has_lines(self) -> bool:
        return os.path.lexists(self.lines_file)

    def _keep(self, identity: DetectorIdentity) -> tuple[set[str], set[str]]:
        """Drop lines with errors, and what is no line; returns the images of the others, and the stems of their overlays."""
        self._refuse_other(identity)
        done, drawn = set(), set()
        with self._folder.write(LINES_FILE) as temporary, temporary.open("w", encoding="utf-8") as file:
            for line in self.lines():
                if "error" not in line:
                    file.write(json.dumps(line, allow_nan=False) + "\n")
                    done.add(line["path"])
                    drawn.add(PurePosixPath(line.get("overlay", "")).stem.casefold())
        return done, drawn

    def _refuse_other(self, identity: DetectorIdentity) -> None:
        file = self.path / MODEL_FILE
        try:
            stored = DetectorIdentity(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise StorageError(
                f"{self.path}: no {MODEL_FILE} says which detector made {LINES_FILE}; predict without --resume, or choose "
                "another --out"
            ) from error
        if (stored.digest, stored.threshold) != (identity.digest, identity.threshold):
            raise StorageError(
                f"{self.path}: its lines are of model {stored.model}, threshold {stored.threshold:.6g}, not of {identity.model}, "
                f"threshold {identity.threshold:.6g}; resume with that model, or predict without --resume or into another --out"
            )


def overlay_names(names: Iterable[str], out: Path, taken: Iterable[str] = ()) -> list[str]:
    """A file name in ``out`` for the overlay of each image, other than those of the images there, and than stems in ``taken``."""
    names = list(names)
    used = {*taken, *(path.stem.casefold() for path in _files_in(out, names))}
    return [_free_name(PurePosixPath(name).stem, used) for name in names]


def _refuse_inputs(names: Iterable[str], folder: Path, out: Path) -> None:
    """The next training would take the overlays for images."""
    results = written_names(folder)
    for path in _files_in(folder, names):
        if path.name not in results:
            raise StorageError(f"{out}: holds images to predict, such as {path.name}; choose another folder with --out")


def _files_in(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """The files among images that are in a folder, by whatever path; each of their folders is resolved once."""
    resolved, is_inside = folder.resolve(), dict[Path, bool]()
    for path in (Path(name) for name in names if not is_remote(name)):
        if path.parent not in is_inside:
            is_inside[path.parent] = path.parent.resolve() == resolved
        if is_inside[path.parent]:
            yield path


def _free_name(stem: str, used: set[str]) -> str:
    """A file name for the overlay; images of the same name in different folders get a number."""
    while len(os.fsencode(stem)) > MAX_NAME_BYTES:
        stem = stem[:-1]
    name, number = stem, 1
    while name.casefold() in used:
        number += 1
        name = f"{stem}-{number}"
    used.add(name.casefold())
    return f"{name}.png"


def _parse(raw: bytes) -> dict[str, Any] | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("path"), str) and {"score", "error"} & line.keys() else None
