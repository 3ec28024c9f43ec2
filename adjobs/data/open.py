"""Find a data set and list its samples."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from adjobs.data import formats
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.reading import DEFAULT_OPTIONS, ReadContext, ReadOptions
from adjobs.data.versions.fetching import fetch_version
from adjobs.data.versions.reading import is_versioned
from adjobs.data.walk import IMAGE_SUFFIXES, subfolders
from adjobs.errors import DataError, choices, join_problems, shown
from adjobs.paths import expand_home
from adjobs.storage import fetch, open_store
from adjobs.waits import waiting_for

FOLDER, VERSIONED = "folder", "versioned"  # names of formats
INSTALLED = "elpv"  # stands for the installed package elpv-dataset
_ALLOWED_URIS = (
    "allowed are a local folder, file://<folder>, s3://<bucket>/<prefix>, or elpv (the installed package elpv-dataset)"
)


def open_dataset(
    uri: str, format: str = "auto", *, cache: Path, options: ReadOptions = DEFAULT_OPTIONS, list_faults: bool = False
) -> Dataset:
    """Find a data set and list its samples.

    Of images at most the header is read, except in formats where only the masks say which images are normal.

    Args:
        uri: local folder, ``file://`` or ``s3://`` address, or ``elpv`` for the installed package.
        format: name of a format, or ``auto`` to detect it.
        cache: folder into which ``s3://`` data is downloaded.
        options: what the job says about the reading.
        list_faults: whether files that do not fit the layout are problems of the data set, which is then no more than the files
            that do fit; else the data set is refused.

    Raises:
        DataError: the data set does not exist, its layout is not recognised, it has no such version, or no normal images.
        StorageError: S3 is unreachable or refuses access.
    """
    with waiting_for(f"fetching {uri}"):
        root, options = _resolve(uri, cache, options)
    reader = _select_format(root, format, options)
    # An installer may have linked the files of a package.
    context = ReadContext(options, boundary=None if options.follow_links or uri == INSTALLED else root)
    try:
        with waiting_for(f"listing the images in {root}"):
            samples = _sorted_once(reader.read(root, context), context)
        if not list_faults:
            _refuse_faults(root, context)
        _refuse_unusable(root, reader, samples, options)
    except DataError as error:
        # What was left out may be the cause.
        causes = [*_first_error(context), *(message for _, message in _skipped_files(root, context))]
        raise DataError(join_problems([str(error), *causes])) from error
    for kind, message in _skipped_files(root, context):
        context.warning("", kind, message)
    _report_outside_files(root, samples, context)
    normal_classes = tuple(sorted(context.normal_classes.items()))
    return Dataset(root, reader.NAME, samples, (*context.faults, *context.problems), normal_classes, context.version)


def _sorted_once(samples: Iterable[Sample], context: ReadContext) -> tuple[Sample, ...]:
    """The samples by id; of those that are listed several times, which is a fault, the first."""
    by_id: dict[str, Sample] = {}
    counts: Counter[str] = Counter()
    for sample in samples:
        by_id.setdefault(sample.id, sample)
        counts[sample.id] += 1
    for name in sorted(name for name, count in counts.items() if count > 1):
        context.fault(name, f"is listed {counts[name]} times; each image must be listed once; remove the duplicates")
    return tuple(by_id[name] for name in sorted(by_id))


def _refuse_faults(root: Path, context: ReadContext) -> None:
    """Refuse faults of the layout: names the first, and the numbers of files that have the same, and of the others."""
    if not context.faults:
        return
    first = context.faults[0]
    alike = sum(fault.message == first.message for fault in context.faults)
    more = f" (and {alike - 1} more)" if alike > 1 else ""
    text = f"{root}: {f'{first.sample}{more}: ' if first.sample else ''}{first.message}"
    others = len(context.faults) - alike
    if others:
        text += f"; {others} other {'fault' if others == 1 else 'faults'} of the layout"
    raise DataError(f"{text}; 'adjobs data check' lists all" if len(context.faults) > 1 else text)


def _resolve(uri: str, cache: Path, options: ReadOptions) -> tuple[Path, ReadOptions]:
    """The local folder of an address, as an absolute path, because workers have another working directory; and how it is read."""
    if uri.startswith("s3://"):
        store = open_store(uri)
        if not is_versioned(store):
            return fetch(uri, cache), options
        fetched = fetch_version(store, cache, options.version)
        return fetched.folder, replace(options, version=fetched.number)
    return _local_folder(uri), options


def _local_folder(uri: str) -> Path:
    if uri == INSTALLED:
        return _installed_elpv()
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if scheme not in ("", "file"):
        raise DataError(f"{uri}: cannot read data from {scheme}://; {_ALLOWED_URIS}; copy the images to one of these")
    url = urlsplit(uri) if scheme else None
    if url and url.netloc not in ("", "localhost"):
        raise DataError(
            f"{uri}: {url.netloc} is another machine; {_ALLOWED_URIS}; a local file address has three slashes, as in file:///data"
        )
    path = unquote(url.path) if url else uri
    folder = expand_home(path)
    if not path.strip() or not folder.is_dir():
        problem = "is a file" if path.strip() and folder.is_file() else "no such folder"
        raise DataError(f"{uri or '(empty)'}: {problem}; {_ALLOWED_URIS}; correct the address, unpack archives first")
    return folder.absolute()


def _installed_elpv() -> Path:
    spec = importlib.util.find_spec("elpv_dataset")  # not imported: only its files are needed
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "elpv: the package elpv-dataset is not installed; run 'pip install elpv-dataset', or write ./elpv for a folder"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _select_format(root: Path, name: str, options: ReadOptions) -> formats.Format:
    reader = _find_format(root, name, options)
    if options.version is not None and reader.NAME != VERSIONED:
        raise DataError(
            f"{root}: has no versions, got version {options.version}; remove data.version (--version), or make a data set with "
            "versions with 'adjobs dataset create'"
        )
    return reader


def _find_format(root: Path, name: str, options: ReadOptions) -> formats.Format:
    available = formats.load_formats()
    if name != "auto":
        if name not in available:
            raise DataError(f"unknown data format {shown(name)}; {choices(name, ['auto', *available])}")
        if not available[name].recognises(root) and (name != FOLDER or options.require_normal):
            raise DataError(
                f"{root}: layout is not {name} ({available[name].DESCRIPTION}); rearrange it or choose another format"
            )
        return available[name]
    matches = [reader for reader in available.values() if reader.recognises(root)]
    # What names every image takes precedence over the layout of the folders.
    for precedence in (VERSIONED, "manifest"):
        matches = [reader for reader in matches if precedence == reader.NAME] or matches
    if len(matches) > 1:
        names = " and ".join(reader.NAME for reader in matches)
        raise DataError(f"{root}: matches several formats: {names}; choose one of them with the format setting")
    if not matches and not options.require_normal:
        return available[FOLDER]
    if not matches:
        simplest = f"rearrange it, most simply as folder ({available['folder'].DESCRIPTION}), or choose a subfolder"
        hint = _describe_subfolder(root, available) or _describe_images(root, available[FOLDER])
        raise DataError(f"{root}: layout not recognised{hint}; available: {', '.join(available)}; {simplest}")
    return matches[0]


def _describe_subfolder(root: Path, available: dict[str, formats.Format]) -> str:
    """Name a subfolder with a known layout: data sets of several products have one folder for each."""
    for folder in subfolders(root):
        for reader in available.values():
            if reader.recognises(folder):
                return f" (but its subfolder {folder.name} is {reader.NAME})"
    return ""


def _describe_images(root: Path, folder: formats.Format) -> str:
    """Say what is missing where images lie in the folder itself, as they do inside good/."""
    if not any(path.suffix.lower() in IMAGE_SUFFIXES for path in root.iterdir()):
        return ""
    if folder.recognises(root.parent):
        return f" (but {root.parent}, which it is in, is {folder.NAME})"
    return f" (it has images, but nothing says which are normal; move these into {root.name}/good)"


def _skipped_files(root: Path, context: ReadContext) -> Iterator[tuple[str, str]]:
    """Kind and message of warnings about links that were not followed, and about images that are not read."""
    if links := sorted(context.outside_links):
        first = f"{_relative(links[0], root)} -> {os.path.realpath(links[0])}{', …' if links[1:] else ''}"
        yield (
            "links not followed",
            f"{len(links)} links lead out of {root} and are not followed ({first}); to follow them, set data.follow_links=true "
            "(--follow-links of 'adjobs data'), or copy what they lead to into the data set",
        )
    if context.other_images:
        counts = Counter(path.suffix.lower() for path in context.other_images)
        listed = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
        yield (
            "other formats",
            f"{len(context.other_images)} images are not read because of their suffix ({listed}), such as "
            f"{_relative(min(context.other_images), root)}; allowed are {' '.join(sorted(IMAGE_SUFFIXES))}; convert them if they "
            "belong to the data set",
        )


def _report_outside_files(root: Path, samples: tuple[Sample, ...], context: ReadContext) -> None:
    """Errors of samples whose files a list names, but a link leads out of the data set."""
    is_outside: dict[Path, bool] = {}  # by folder
    for sample in samples if context.boundary else ():
        for path in sample.files:
            if path.parent not in is_outside:
                is_outside[path.parent] = context.leads_outside(path.parent)
            if is_outside[path.parent] or (path.is_symlink() and context.leads_outside(path)):
                context.error(
                    sample.id,
                    "link",
                    f"{_relative(path, root)} is outside the data set, at {os.path.realpath(path)}; set data.follow_links=true "
                    "(--follow-links of 'adjobs data') to allow links that lead out, or copy the file into the data set",
                )
                break


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _first_error(context: ReadContext) -> list[str]:
    errors = [problem for problem in context.problems if problem.severity == "error"]
    count = "1 problem was" if len(errors) == 1 else f"{len(errors)} problems were"
    return [f"{count} found, first: {errors[0].sample or 'the data set'}: {errors[0].message}"] if errors else []


def _refuse_unusable(root: Path, reader: formats.Format, samples: tuple[Sample, ...], options: ReadOptions) -> None:
    if options.require_normal:
        _refuse_without_normals(root, f"{reader.NAME}: {reader.DESCRIPTION}", samples)
    for sample in samples:
        for field, text in (("file name", sample.id), ("defect type", sample.defect), ("group", sample.group or "")):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise DataError(f"{root}: {field} {text!r} is not valid UTF-8; rename it") from error


def _refuse_without_normals(root: Path, layout: str, samples: tuple[Sample, ...]) -> None:
    if not samples:
        suffixes = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise DataError(f"{root}: contains no images; allowed are {suffixes}, laid out as {layout}; add images")
    if not any(sample.label == "normal" for sample in samples):
        raise DataError(
            f"{root}: none of its {len(samples)} images is normal; normal images are required to train; add some ({layout})"
        )
