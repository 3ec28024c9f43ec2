"""Open image files: regular files of the known formats, within limits, at the right page, and their orientation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from adjobs.data.problem import OUT_OF_MEMORY
from adjobs.data.regular_files import open_regular
from adjobs.errors import DataError, one_line, printable

MAX_PIXELS = 178_956_970
"""Pillow's own limit: a 24-bit image of half a GiB."""

MAX_SIDE = 100_000
"""Longest side in pixels: what is longer is no photograph, and resizing it takes more memory than the image itself."""

_TOO_MANY_PIXELS = f"has more than {MAX_PIXELS:,} pixels, the maximum; scale it down or crop it"

# Only these decoders run: bytes from clients must not reach Ghostscript and other rarely used decoders.
_DECODERS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_PNG_METADATA = {b"eXIf", b"iTXt", b"tEXt", b"zTXt"}  # chunks that may hold the orientation
_PNG_PIXELS = b"IDAT"
_BIG_ENDIAN = b"MM"  # TIFF's mark
_SAMPLE_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floating-point numbers"}
_IS_MASK = 4  # bit of TIFF's NewSubfileType: a transparency mask of another page


class ImageError(DataError):
    """An image cannot be used.

    Attributes:
        name: the file.
        kind: "unreadable", "truncated", "too large" or "value range", or for masks "mask size" or "mask value".
        reason: the message without the name.
    """

    def __init__(self, name: str, kind: str, reason: str) -> None:
        super().__init__(name, kind, reason)
        self.name, self.kind, self.reason = name, kind, reason

    def __str__(self) -> str:
        return printable(f"{self.name}: {self.reason}")


def source_name(source: Path | bytes) -> str:
    """How errors name an image."""
    return f"image of {len(source)} bytes" if isinstance(source, bytes) else str(source)


@contextmanager
def opened(source: Path | bytes) -> Iterator[Image.Image]:
    """Open an image by its header, at the page that is used: the largest, and the first of several.

    Every error while it is open becomes an ImageError.
    """
    name = source_name(source)
    # Never by name: Pillow 13 would memory-map uncompressed grey TIFFs and scramble those that must be rotated.
    with decoding_errors(name), _open_file(source) as file, _identify(file) as image:
        select_page(image)
        refuse_large(name, *image.size)
        yield image


@contextmanager
def decoding_errors(name: str) -> Iterator[None]:
    """Convert every error to an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except _UnsupportedError as error:
        raise ImageError(name, "unreadable", str(error)) from error
    except Image.DecompressionBombError as error:  # Pillow's own check of the header, which runs first unless it is disabled
        raise ImageError(name, "too large", _TOO_MANY_PIXELS) from error
    except MemoryError as error:
        reason = "cannot be decoded (not enough free memory); free some memory, scale the image down or crop it"
        raise ImageError(name, OUT_OF_MEMORY, reason) from error
    except Exception as error:  # decoders raise all kinds of errors for damaged files
        cause = one_line(error) if not isinstance(error, OSError) else error.strerror or one_line(error)
        kind = "truncated" if "truncated" in cause.lower() else "unreadable"
        raise ImageError(name, kind, f"cannot be decoded ({cause}); export it again or remove it") from error


def refuse_large(name: str, width: int, height: int) -> None:
    """Refuse an image with too many pixels or too long a side.

    Raises:
        ImageError: it is too large.
    """
    if max(width, height) > MAX_SIDE:
        reason = f"is {width:,} x {height:,} pixels; a side may have at most {MAX_SIDE:,}; crop it"
        raise ImageError(name, "too large", reason)
    if width * height > MAX_PIXELS:
        raise ImageError(name, "too large", _TOO_MANY_PIXELS)


def orientation(image: Image.Image) -> int:
    """EXIF orientation of an opened image, 1 to 8, from EXIF or XMP; 1 where it is missing or invalid."""
    if image.format == "PNG" and getattr(image, "png", None) is not None and _has_late_metadata(image):
        image.load()  # metadata behind the pixels is read with them
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)  # not PNG's own, which decodes the whole image
    return int(value) if value in range(1, 9) else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image once it is upright."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile:  # not loaded: its size may be the upright one or not
        width, height = image.tag_v2[256], image.tag_v2[257]
    return (height, width) if orientation(image) in _TRANSPOSED else (width, height)


def select_page(image: Image.Image) -> None:
    """Seek the page of a TIFF with most pixels, the first of several: thumbnails and masks may come before the image."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.is_animated:
        return
    areas: dict[int, int] = {}
    with suppress(Exception):  # a damaged page ends the list, and the pages before it are used
        for page in range(image.n_frames):
            image.seek(page)
            is_mask = int(image.tag_v2.get(254, 0)) & _IS_MASK
            areas[page] = 0 if is_mask else image.width * image.height
    image.seek(max(areas, key=lambda page: (areas[page], -page), default=0))


def equal_pages(image: Image.Image) -> int:
    """Number of an opened image's pages or frames that are as large as the one in use, with it."""
    if not getattr(image, "is_animated", False):
        return 1
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(getattr(image, "n_frames", 1))
    current, size, count = image.tell(), image.size, 0
    with suppress(Exception):
        for page in range(image.n_frames):
            image.seek(page)
            count += image.size == size and not int(image.tag_v2.get(254, 0)) & _IS_MASK
    image.seek(current)
    return max(count, 1)


class _UnsupportedError(Exception):
    """A file that no decoder reads; the message says what it is."""


def _open_file(source: Path | bytes) -> IO[bytes]:
    return BytesIO(source) if isinstance(source, bytes) else open_regular(source)


def _identify(file: IO[bytes]) -> Image.Image:
    try:
        return Image.open(file, formats=_DECODERS)
    except UnidentifiedImageError as error:
        reason = _describe_tiff(file) or (
            "is not a supported image; allowed are PNG, JPEG, BMP, TIFF and WebP; export it again or remove it"
        )
        raise _UnsupportedError(reason) from error


def _describe_tiff(file: IO[bytes]) -> str | None:
    """What kind of TIFF it is that Pillow does not read; None if it is no TIFF, or a damaged one."""
    with suppress(Exception):
        file.seek(0)
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
        bits, formats = _first(directory[258]), _first(directory.get(339, 1))
        white = ", white as zero" if directory.get(262) == 0 else ""
        order = "big-endian" if directory.prefix == _BIG_ENDIAN else "little-endian"
        return (
            f"is a TIFF of {bits}-bit {_SAMPLE_FORMATS.get(formats, 'pixels')} ({order}{white}), which cannot be read; "
            "save it with 8 or 16 bits and black as zero, or as 32-bit floating-point numbers"
        )
    return None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _has_late_metadata(image: Image.Image) -> bool:
    """Whether a PNG has metadata behind its pixels; only the heads of its chunks are read."""
    file: IO[bytes] | None = getattr(image, "fp", None)
    if file is None:
        return False
    before = file.tell()
    try:
        file.seek(8)
        has_pixels = False
        while len(head := file.read(8)) == 8:
            length, name = int.from_bytes(head[:4], "big"), head[4:]
            if name in _PNG_METADATA and has_pixels:
                return True
            has_pixels = has_pixels or name == _PNG_PIXELS
            file.seek(length + 4, 1)
        return False
    finally:
        file.seek(before)
