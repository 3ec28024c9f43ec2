"""Finding a data set and listing its samples."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

from adjobs.data import formats
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.walk import IMAGE_SUFFIXES, subfolders
from adjobs.errors import DataError, choices

INSTALLED = "elpv"  # the word that stands for the installed package
_PLACES = "allowed are a local folder, file://<folder>, s3://<bucket>/<prefix>, or elpv (the installed package elpv-dataset)"


def open_dataset(uri: str, format: str = "auto", *, cache: Path) -> Dataset:
    """Find a data set and list its samples; of images at most the header is read, unless masks alone say which are good.

    Args:
        uri: local folder, ``file://`` or ``s3://`` address, or ``elpv`` for the installed package.
        format: name of a format, or ``auto`` to recognise it.
        cache: folder into which ``s3://`` data is fetched.

    Raises:
        DataError: there is no such data set, it has no recognised layout, or it has no normal images.
        StorageError: S3 refuses or is down.
    """
    root = _locate(uri, cache)
    reader = _reader(root, format)
    samples = tuple(sorted(reader.read(root), key=lambda sample: sample.id))
    _refuse_unusable(root, reader, samples)
    return Dataset(root, reader.NAME, samples)


def _locate(uri: str, cache: Path) -> Path:
    """The local folder that ``uri`` stands for, as an absolute path, because workers run elsewhere."""
    if uri == INSTALLED:
        return _installed_elpv()
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if scheme == "s3":
        from adjobs.storage import fetch

        folder: Path = fetch(uri, cache)
        return folder
    if scheme not in ("", "file"):
        raise DataError(f"{uri}: data cannot be read from {scheme}://; {_PLACES}; copy the images to one of these")
    parts = urlsplit(uri) if scheme else None
    if parts and parts.netloc not in ("", "localhost"):
        raise DataError(
            f"{uri}: {parts.netloc} is another machine; {_PLACES}; a local file address has three slashes, as file:///data"
        )
    path = unquote(parts.path) if parts else uri
    if not path.strip() or not Path(path).expanduser().is_dir():
        got = "is a file" if path.strip() and Path(path).expanduser().is_file() else "no such folder"
        raise DataError(f"{uri or '(empty)'}: {got}; {_PLACES}; correct the address, unpack an archive first")
    return Path(path).expanduser().absolute()


def _installed_elpv() -> Path:
    spec = importlib.util.find_spec("elpv_dataset")  # not imported: only its files are wanted
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "elpv: the package elpv-dataset is not installed; run 'pip install elpv-dataset'; write ./elpv for a folder"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _reader(root: Path, name: str) -> formats.Format:
    known = formats.formats()
    if name != "auto":
        if name not in known:
            raise DataError(f"{name}: no such data format; {choices(name, ['auto', *known])}")
        if not known[name].recognises(root):
            raise DataError(
                f"{root}: has not the layout of {name}: {known[name].DESCRIPTION}; rearrange it or name another format"
            )
        return known[name]
    matches = [reader for reader in known.values() if reader.recognises(root)]
    # A manifest names every image, so it goes before what the folders look like.
    matches = [reader for reader in matches if reader.NAME == "manifest"] or matches
    if len(matches) > 1:
        raise DataError(f"{root}: has the layout of {' and of '.join(m.NAME for m in matches)}; name one of them as the format")
    if not matches:
        need = f"have {', '.join(known)}; rearrange it, simplest as folder ({known['folder'].DESCRIPTION}), or give one inside"
        raise DataError(f"{root}: layout not recognised{_nearby(root, known)}; {need}")
    return matches[0]


def _nearby(root: Path, known: dict[str, formats.Format]) -> str:
    """Name a folder one level down that would do: data sets of several products have one folder for each."""
    for folder in subfolders(root):
        for reader in known.values():
            if reader.recognises(folder):
                return f" (but its folder {folder.name} is {reader.NAME})"
    return ""


def _refuse_unusable(root: Path, reader: formats.Format, samples: tuple[Sample, ...]) -> None:
    layout = f"{reader.NAME}: {reader.DESCRIPTION}"
    if not samples:
        suffixes = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise DataError(f"{root}: no images; allowed are {suffixes}, laid out as {layout}; put images there")
    if not any(sample.label == "normal" for sample in samples):
        raise DataError(f"{root}: {len(samples)} images and none of them normal; normal images are needed; add some ({layout})")
    name, count = Counter(sample.id for sample in samples).most_common(1)[0]
    if count > 1:
        raise DataError(f"{root}: {name} is listed {count} times; an image is one sample; remove the repetitions")
    for sample in samples:
        for what, name in (("file name", sample.id), ("defect type", sample.defect), ("group", sample.group or "")):
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise DataError(f"{root}: {what} {name!r} is not UTF-8; only UTF-8 names are allowed; rename it") from error
