"""Options of ``adjobs data``, and what they open."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from adjobs.errors import JobError

if TYPE_CHECKING:
    from adjobs.data.dataset import Dataset
    from adjobs.data.image_reading import PixelScale
    from adjobs.data.splits.assignment import SplitAssignment


class ListedOption(click.Option):
    """An option whose help lists the available names, which are looked up only when the help is shown."""

    def __init__(self, *args: Any, names: Callable[[], Iterable[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._names = names

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The help text, with the names in place of ``{}``."""
        self.help = (self.help or "").replace("{}", ", ".join(self._names()))
        return super().get_help_record(ctx)


def _protocol_names() -> Iterable[str]:
    from adjobs.data.splits.protocols import PROTOCOLS

    return PROTOCOLS


def _format_names() -> Iterable[str]:
    from adjobs.data.formats import load_formats

    return load_formats()


def _method_names() -> Iterable[str]:
    from adjobs import methods

    return methods.names()


FORMAT = click.option(
    "--format", "format_name", cls=ListedOption, names=_format_names, default="auto", show_default=True, help="Layout: auto, {}."
)
FOLLOW_LINKS = click.option("--follow-links", is_flag=True, help="Follow symbolic links that lead out of the data set.")
NORMAL_CLASS = click.option(
    "--normal-class",
    "normal_classes",
    multiple=True,
    metavar="NAME",
    help="Class or choice that means normal, in place of good, ok, i.O., pass, no defect and the like. Repeatable.",
)
VERSION = click.option(
    "--version", type=click.IntRange(min=1), help="Version of a data set with versions.  [default: the newest]"
)
METHOD = click.option("--method", cls=ListedOption, names=_method_names, help="Also check the labels that this method needs: {}.")
PROTOCOL = click.option(
    "--protocol",
    cls=ListedOption,
    names=_protocol_names,
    help="Protocol for the split: {}. [default: official if the data set has a published test split, else holdout]",
)
MAX_TRAIN_ANOMALIES = click.option(
    "--max-train-anomalies",
    type=click.IntRange(min=0),
    help="Maximum number of labelled anomalies in the training split. [default: all]",
)
SEED = click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of the split. [default: 0]")
SPLIT_FILE = click.option(
    "--split",
    "split_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with a split, in place of --protocol, --max-train-anomalies and --seed.",
)


def dataset_options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument URI, ``--format``, ``--follow-links``, ``--normal-class``, ``--version`` and others, in this order.

    The function gets the first five as one DatasetAddress, its first argument.
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            address = DatasetAddress(**{name: kwargs.pop(name) for name in DatasetAddress._fields})
            return function(*args, address, **kwargs)

        for option in (*reversed(options), VERSION, NORMAL_CLASS, FOLLOW_LINKS, FORMAT, click.argument("uri")):
            call = option(call)
        return call

    return add


def scale_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--bit-depth`` and ``--value-range``, which the function gets as one ScaleOptions, ``scale``."""

    @click.option(
        "--bit-depth",
        type=click.Choice(["auto", "8", "10", "12", "14", "16"]),
        default="auto",
        show_default=True,
        help="Bits of the camera, for images with more than 8 bits; as data.bit_depth of a job.",
    )
    @click.option(
        "--value-range",
        type=float,
        nargs=2,
        metavar="BLACK WHITE",
        help="Pixel values of black and white, for images with more than 8 bits; as data.value_range of a job.",
    )
    @functools.wraps(function)
    def call(*args: Any, bit_depth: str, value_range: tuple[float, float] | None, **kwargs: Any) -> Any:
        return function(*args, scale=ScaleOptions(bit_depth, value_range), **kwargs)

    return call


class ScaleOptions(NamedTuple):
    """How images of more than 8 bits are read, as a user gave it."""

    bit_depth: str
    value_range: tuple[float, float] | None

    def to_scale(self) -> PixelScale:
        """What a job would say.

        Raises:
            JobError: both are given, or the range is empty.
        """
        from adjobs.data.image_reading import PixelScale

        depth = None if self.bit_depth == "auto" else int(self.bit_depth)
        if self.value_range is not None and (depth is not None or not 0 < self.value_range[1] - self.value_range[0] < math.inf):
            black, white = self.value_range
            other = "" if depth is None else f" and --bit-depth {depth}"
            raise JobError(f"--value-range: got {black:g} {white:g}{other}; give black, then a larger white, and no --bit-depth")
        return PixelScale(depth, self.value_range)


class DatasetAddress(NamedTuple):
    """Where a data set is and how it is read, as a user gave it."""

    uri: str
    format_name: str
    follow_links: bool
    normal_classes: tuple[str, ...]
    version: int | None = None


class SplitOptions(NamedTuple):
    """The options of a split, as a user gave them."""

    protocol: str | None
    max_train_anomalies: int | None
    seed: int | None
    split_file: Path | None = None


def open_address(address: DatasetAddress, *, list_faults: bool = False) -> Dataset:
    """Open the data set of the command line; see :func:`adjobs.data.open.open_dataset` for ``list_faults``."""
    from adjobs.config.environment import load_settings
    from adjobs.data.open import open_dataset
    from adjobs.data.reading import NORMAL_CLASSES, ReadOptions

    options = ReadOptions(address.normal_classes or NORMAL_CLASSES, address.follow_links, address.version)
    cache = load_settings().cache
    return open_dataset(address.uri, address.format_name, cache=cache, options=options, list_faults=list_faults)


def splitter(dataset: Dataset, options: SplitOptions) -> Callable[[Dataset], SplitAssignment]:
    """A function that splits the data set without its invalid samples.

    Raises:
        JobError: options are invalid; they are checked here, before images are read.
        DataError: the file's split does not fit the data set.
    """
    from adjobs.data.splits.assignment import check_split, make_split, read_split
    from adjobs.data.splits.protocols import default_protocol, find_protocol

    if options.split_file:
        if options.protocol or options.max_train_anomalies is not None or options.seed is not None:
            raise JobError(
                "--split: the file defines the whole split; remove --protocol, --max-train-anomalies and --seed, or --split"
            )
        stored = read_split(options.split_file)
        check_split(dataset, stored)
        ids = {sample.id for sample in dataset.samples}
        return lambda valid: check_split(valid, stored, ids - {sample.id for sample in valid.samples})
    protocol = options.protocol or default_protocol(dataset)
    find_protocol(protocol)
    return lambda valid: make_split(valid, protocol, max_train_anomalies=options.max_train_anomalies, seed=options.seed or 0)
