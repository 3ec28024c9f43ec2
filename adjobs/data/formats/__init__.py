"""Layouts of data sets on disk, one module each.

Every module of this package with the four names of :class:`Format` is a format; to add one, add a module and nothing else.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from adjobs.data.dataset import Sample
    from adjobs.data.reading import ReadContext


class Format(Protocol):
    """What a module of this package provides.

    Attributes:
        NAME: the name that a job file uses.
        DESCRIPTION: the layout, on one line.
    """

    NAME: str
    DESCRIPTION: str

    def recognises(self, root: Path) -> bool:
        """Whether the folder has this layout; opens no images."""

    def read(self, root: Path, context: ReadContext) -> list[Sample]:
        """List the samples, in any order.

        What is wrong with single samples is recorded in ``context``, so that a user sees all problems at once.

        Raises:
            DataError: the folder as a whole contradicts the layout.
        """


def load_formats() -> dict[str, Format]:
    """All formats by name, sorted."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    formats = [cast("Format", module) for module in modules]
    return {reader.NAME: reader for reader in sorted(formats, key=lambda reader: reader.NAME)}
