"""A folder with the result: a page that needs nothing from outside, and the result as JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from adjobs.data.image_reading import ImageReading
from adjobs.data.images import decode
from adjobs.drift.describe import DescribedImages
from adjobs.drift.images import ImageFile
from adjobs.drift.result import DriftResult, number
from adjobs.errors import DataError
from adjobs.metrics.intervals import Estimate
from adjobs.reporting.figures.drift import score_distributions
from adjobs.reporting.templates import data_uri, environment, figure_png
from adjobs.storage.outputs import OutputFolder
from adjobs.version import __version__

PAGE, RESULT = "drift.html", "drift.json"
TEMPLATE = "drift.html.j2"
EXAMPLES = 6
"""Reference images that are shown."""

_SIDE = 220  # longer side of a thumbnail in pixels
_QUALITY = 82  # of JPEG


def open_output(out: Path) -> OutputFolder:
    """The folder for a result.

    Raises:
        StorageError: it holds files of these names that are no earlier result.
    """
    folder = OutputFolder(out, "drift")
    folder.check([PAGE, RESULT])
    return folder


class DriftPage(NamedTuple):
    """What the page shows.

    Attributes:
        result: the result.
        reference: reference images; without files where only their scores are known.
        recent: recent images.
        reading: how images are read.
    """

    result: DriftResult
    reference: DescribedImages
    recent: DescribedImages
    reading: ImageReading

    def write(self, folder: OutputFolder) -> None:
        """Write both files, each completely or not at all.

        Raises:
            StorageError: the disk refuses, or a file is no earlier result.
        """
        document = json.dumps(self.result.to_dict(), indent=1, allow_nan=False)
        for name, text in ((PAGE, self.render()), (RESULT, document)):
            with folder.write(name) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def render(self) -> str:
        """The page as HTML."""
        templates = environment()
        templates.filters |= {"number": number, "share": share, "p_value": p_value}
        return templates.get_template(TEMPLATE).render(
            result=self.result,
            figure=_figure_uri(self),
            different=self._different(),
            examples=[(file.name, self._thumbnail(file)) for file in self.reference.files[:EXAMPLES]],
            version=__version__,
        )

    def _different(self) -> list[tuple[Any, str]]:
        files = {file.name: file for file in self.recent.files}
        return [(image, self._thumbnail(files[image.name])) for image in self.result.different]

    def _thumbnail(self, file: ImageFile) -> str:
        """A data URI; "" for an image that has gone since it was scored."""
        try:
            image = decode(file.path, self.reading).convert("RGB")
        except DataError:
            return ""
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_QUALITY)
        return data_uri(buffer.getvalue(), "jpeg")


def share(estimate: Estimate) -> str:
    """A share with its interval, such as ``3.1 % (1.0 to 7.2 %)``."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "–"
    return f"{_percent(estimate.value)} % ({_percent(estimate.low)} to {_percent(estimate.high)} %)"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0")


def p_value(value: float) -> str:
    """Two significant digits."""
    return f"{value:.2g}"


def _figure_uri(page: DriftPage) -> str:
    return data_uri(figure_png(score_distributions(page.reference.table.scores, page.recent.table.scores, page.result.threshold)))
