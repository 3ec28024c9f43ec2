"""Contact sheets as files: one HTML page that needs nothing from outside, or one PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from adjobs.errors import DataError, JobError
from adjobs.reporting.contact_sheet import BYTES, ContactSheet, Entry
from adjobs.reporting.figures.style import fit_text
from adjobs.reporting.templates import data_uri, environment
from adjobs.reporting.thumbnail import BOX, MASK, UNKNOWN_BLOCK
from adjobs.storage.base import atomic_write, disk_errors
from adjobs.version import __version__

GENERATOR = "adjobs-contact-sheet"
"""Names the generator in both kinds of files."""

TEMPLATE = "contact_sheet.html.j2"
COLUMNS, GAP, LINE, TYPE = 6, 16, 16, 12
"""Of the PNG: thumbnails beside each other, pixels between them, pixels of a line of text and of its type."""

MAX_HEIGHT = 30_000
"""Pixels of the PNG; taller ones cannot be viewed."""

_HEAD_BYTES = 4096  # of a page, in which its generator is named
_QUALITIES = (82, 65, 45, 30)  # of JPEG; the first is taken at which all thumbnails are small enough
_MIN_COLUMN = 140  # pixels of a page, so that captions stay readable
_PAGE, _INK, _SOFT, _ALERT = "#f4f6f8", "#1c2530", "#5a6673", "#a8324a"


class FileKind(NamedTuple):
    """A kind of file: how it is made, and how an existing one is recognised as a contact sheet."""

    make: Callable[[ContactSheet], bytes]
    is_sheet: Callable[[Path], bool]


def file_kind(path: Path) -> FileKind:
    """The kind of file that a name asks for.

    Raises:
        JobError: it ends neither in .html nor in .png.
    """
    kinds = {".html": FileKind(to_html, is_html_sheet), ".png": FileKind(to_png, is_png_sheet)}
    if path.suffix.lower() not in kinds:
        raise JobError(f"{path}: a contact sheet is a .html or a .png file; choose a name with one of these suffixes")
    return kinds[path.suffix.lower()]


def write_sheet(sheet: ContactSheet, path: Path) -> int:
    """Write the sheet completely or not at all; returns its size in bytes.

    Raises:
        DataError: a PNG would be too tall.
        StorageError: the disk refuses.
    """
    content = file_kind(path).make(sheet)
    with disk_errors("write", path), atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return len(content)


def is_html_sheet(path: Path) -> bool:
    """Whether a file is a page of :func:`to_html`."""
    with path.open("rb") as file:
        return f'<meta name="generator" content="{GENERATOR} '.encode() in file.read(_HEAD_BYTES)


def is_png_sheet(path: Path) -> bool:
    """Whether a file is an image of :func:`to_png`."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return str(image.info.get("Software", "")).startswith(f"{GENERATOR} ")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what is no PNG, or larger than any sheet
        return False


def to_html(sheet: ContactSheet) -> bytes:
    """The sheet as a page."""
    entries = sheet.entries.values()
    samples = [entry.sample for entry in entries]
    legend = [
        (MASK, "defect pixels: outlined and tinted", any(s.mask is not None or s.blocks is not None for s in samples)),
        (BOX, "boxes", any(s.boxes for s in samples)),
        (UNKNOWN_BLOCK, "stripes: blocks of unknown label", any(s.blocks is not None for s in samples)),
    ]
    page = (
        environment()
        .get_template(TEMPLATE)
        .render(
            sheet=sheet,
            uris=_data_uris(sheet),
            legend=[(colour, meaning) for colour, meaning, is_used in legend if is_used],
            side=sheet.side,
            column=max(sheet.side, _MIN_COLUMN),
            generator=GENERATOR,
            version=__version__,
        )
    )
    return page.encode()


def to_png(sheet: ContactSheet) -> bytes:
    """The sheet as an image, with less text than the page.

    Raises:
        DataError: it would be too tall.
    """
    columns = min(COLUMNS, max(len(group.entries) for group in sheet.groups))
    cell = max(sheet.side, _MIN_COLUMN)
    width = columns * (cell + GAP) - GAP
    title = f"{sheet.name}: {sheet.images} images, format {sheet.format}, seed {sheet.seed}"
    blocks = [_text_block([(title, _INK)], width, TYPE + 6)]
    blocks += [_text_block([(message, _ALERT)], width) for message in sheet.messages]
    for group in sheet.groups:
        title = f"{group.title} ({len(group.entries)} of {group.count})"
        blocks.append(_text_block([(title, _INK)], width, TYPE + 3))
        for start in range(0, len(group.entries), columns):
            blocks.append(_row([_cell(entry, cell) for entry in group.entries[start : start + columns]], cell))
    height = sum(block.height + GAP for block in blocks) + GAP
    if height > MAX_HEIGHT:
        raise DataError(
            f"the sheet would be {height:,} pixels tall, more than {MAX_HEIGHT:,}; write a .html file, or show fewer images of "
            f"each class than {sheet.per_class} (--per-class)"
        )
    canvas = Image.new("RGB", (width + 2 * GAP, height), _PAGE)
    top = GAP
    for block in blocks:
        canvas.paste(block, (GAP, top))
        top += block.height + GAP
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", f"{GENERATOR} {__version__}")
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def _data_uris(sheet: ContactSheet) -> dict[str, str]:
    """The thumbnails by sample id, as small as a page needs them."""
    images = {name: entry.thumbnail.image for name, entry in sheet.entries.items() if entry.thumbnail.image}
    files: dict[str, bytes] = {}
    for quality in _QUALITIES:
        files = {name: _jpeg(image, quality) for name, image in images.items()}
        if sum(map(len, files.values())) <= BYTES:
            break
    return {name: data_uri(content, "jpeg") for name, content in files.items()}


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)  # thin coloured lines need all of their colour
    return buffer.getvalue()


def _cell(entry: Entry, width: int) -> Image.Image:
    """A thumbnail and its text."""
    lines = [(entry.sample.id, _INK), (entry.facts, _SOFT), *((problem.kind, _ALERT) for problem in entry.problems)]
    text = _text_block([line for line in lines if line[0]], width)
    image = entry.thumbnail.image
    if image is None:
        image = Image.new("RGB", (width, width // 2), "#ffffff")
        ImageDraw.Draw(image).rectangle((0, 0, width - 1, width // 2 - 1), outline=_ALERT)
    cell = Image.new("RGB", (width, image.height + 4 + text.height), _PAGE)
    cell.paste(image, (0, 0))
    cell.paste(text, (0, image.height + 4))
    return cell


def _row(cells: Sequence[Image.Image], width: int) -> Image.Image:
    row = Image.new("RGB", (len(cells) * (width + GAP) - GAP, max(cell.height for cell in cells)), _PAGE)
    for i, cell in enumerate(cells):
        row.paste(cell, (i * (width + GAP), 0))
    return row


def _text_block(lines: Sequence[tuple[str, str]], width: int, size: int = TYPE) -> Image.Image:
    """Lines of text with their colours, each cut in its middle to the width."""
    font = ImageFont.truetype(findfont(FontProperties()), size)
    step = LINE + size - TYPE
    block = Image.new("RGB", (width, step * len(lines)), _PAGE)
    drawing = ImageDraw.Draw(block)
    for i, (text, colour) in enumerate(lines):
        drawing.text((0, i * step), fit_text(text, width, size), fill=colour, font=font)
    return block
