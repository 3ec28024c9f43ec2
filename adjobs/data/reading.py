"""How the files of a data set are read: what the job says about it, and the problems that readers find on the way."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from adjobs.data.problem import LAYOUT, Problem
from adjobs.errors import shorten

NORMAL_CLASSES = (
    "good",
    "ok",
    "okay",
    "io",
    "in ordnung",
    "gut",
    "pass",
    "passed",
    "normal",
    "none",
    "no defect",
    "no defects",
    "no anomaly",
    "defect free",
    "non defective",
    "kein fehler",
    "keine fehler",
    "fehlerfrei",
    "kein defekt",
    "keine defekte",
    "defektfrei",
)
"""Names of classes and choices that mean normal; compared by :func:`simplify`, so that "i.O." is here as "io"."""

_IGNORED = str.maketrans("", "", ".-_\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{EN DASH}")

MAX_MESSAGE = 800
"""Characters of a problem's message, which quotes what is in the files."""


def simplify(name: str) -> str:
    """A class name as names are compared: without case, spaces, points, hyphens and underscores.

    >>> simplify(" No_Defect "), simplify("NoDefect"), simplify("i.O.")
    ('nodefect', 'nodefect', 'io')
    """
    return "".join(name.casefold().translate(_IGNORED).split())


class DatasetVersion(NamedTuple):
    """A version of a data set: its number, and the fingerprint that was recorded when it was made."""

    number: int
    fingerprint: str


@dataclass(frozen=True)
class ReadOptions:
    """What a job says about the reading of its data set.

    Attributes:
        normal_classes: names of classes and choices that mean normal.
        follow_links: whether symbolic links may lead out of the data set.
        version: which version of a data set with versions is read; None is the newest.
        require_normal: whether normal images are required. Without them, folders of any name are allowed, as defect types, images
            beside them are unlabelled, and no image at all is no error.
    """

    normal_classes: tuple[str, ...] = NORMAL_CLASSES
    follow_links: bool = False
    version: int | None = None
    require_normal: bool = True


DEFAULT_OPTIONS = ReadOptions()


@dataclass
class ReadContext:
    """What a reader of a format is given besides the folder.

    Attributes:
        options: what the job says.
        problems: those found so far. A sample with an error is listed all the same, as far as it can be read; a job either
            refuses the data set or skips the sample.
        boundary: folder out of which symbolic links are not followed; None follows all.
        outside_links: links out of the boundary that were found.
        other_images: images of formats that are not read that were found.
        normal_classes: how many annotations were of each class that means normal, by the class's name in the file.
        version: the version that was read, of a data set with versions.
        faults: what does not fit the layout, each an error with the name of its file. Readers go on after one, so that all are
            found; the data set is then refused, or checked all the same.
    """

    options: ReadOptions = DEFAULT_OPTIONS
    problems: list[Problem] = field(default_factory=list)
    boundary: Path | None = None
    outside_links: set[Path] = field(default_factory=set)
    other_images: set[Path] = field(default_factory=set)
    normal_classes: Counter[str] = field(default_factory=Counter)
    version: DatasetVersion | None = None
    faults: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._normal = frozenset(map(simplify, self.options.normal_classes))
        self._boundary = self.boundary and os.path.realpath(self.boundary)
        self._warned: set[tuple[str, str]] = set()

    def is_normal(self, name: str) -> bool:
        """Whether a class or choice of this name means that the image is normal."""
        return simplify(name) in self._normal

    def fault(self, file: str, message: str) -> None:
        """Record a fault of the layout: a file, as a path in the data set, or the data set as a whole ("")."""
        self.faults.append(Problem(file, LAYOUT, shorten(message, MAX_MESSAGE)))

    def error(self, sample: str, kind: str, message: str) -> None:
        """Record an error of a sample (its id), or of the data set as a whole ("")."""
        self.problems.append(Problem(sample, kind, shorten(message, MAX_MESSAGE)))

    def warning(self, sample: str, kind: str, message: str) -> None:
        """Record a warning of a sample (its id), or of the data set as a whole ("")."""
        self.problems.append(Problem(sample, kind, shorten(message, MAX_MESSAGE), "warning"))

    def warn_once(self, kind: str, message: str) -> None:
        """Record a warning of the data set as a whole, unless the same was recorded already."""
        if (kind, message) not in self._warned:
            self._warned.add((kind, message))
            self.warning("", kind, message)

    def leads_outside(self, path: Path) -> bool:
        """Whether a file or folder that exists lies outside the boundary because of a link; if so, it is recorded."""
        if self._boundary is None:
            return False
        target = os.path.realpath(path)  # Path.resolve raises RuntimeError for links in a circle
        is_outside = os.path.commonpath([target, self._boundary]) != self._boundary and Path(target).exists()
        if is_outside:
            self.outside_links.add(path)
        return is_outside
