"""ELPV solar cells (Buerhop-Lutz et al. 2018): a list of images with the probability that the cell is defective."""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.reading import ReadContext
from adjobs.data.regular_files import open_regular
from adjobs.data.walk import read_text

NAME = "elpv"
DESCRIPTION = "labels.csv with lines 'images/cell0001.png 1.0 mono' (file, defect probability, cell type), images/"

_LIST = "labels.csv"
_START_BYTES = 1000  # of a line, which may never end in a file of another kind


def recognises(root: Path) -> bool:
    """Whether there is a list whose first line names an image in ``images``."""
    try:
        with open_regular(root / _LIST) as file:
            return (root / "images").is_dir() and file.readline(_START_BYTES).startswith(b"images/")
    except OSError:
        return False


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples. Every probability above 0 is anomalous, which gives the class sizes reported in papers."""
    lines = read_text(root / _LIST).splitlines()
    samples = [_sample(root, number, line, context) for number, line in enumerate(lines, 1) if line.strip()]
    return [sample for sample in samples if sample is not None]


def _sample(root: Path, number: int, line: str, context: ReadContext) -> Sample | None:
    """The sample of a line; None if the line is malformed, which is a fault."""
    try:
        name, text, _cell_type = line.split()
        probability = float(text)
    except ValueError:
        name, probability = "", -1.0
    if not 0 <= probability <= 1 or ".." in Path(name).parts or Path(name).is_absolute():
        message = f"line {number} is {line.strip()[:80]!r}; expected 'images/x.png <0 to 1> <cell type>'; fix it"
        context.fault(_LIST, message)
        return None
    anomalous = probability > 0
    return Sample(
        id=Path(name).as_posix(),
        image=root / name,
        label="anomalous" if anomalous else "normal",
        defect=f"p={probability:.2f}" if anomalous else "",
    )
