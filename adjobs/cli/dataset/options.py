"""Options of ``adjobs dataset``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from adjobs.cli.data.options import FOLLOW_LINKS, FORMAT, NORMAL_CLASS, ListedOption

if TYPE_CHECKING:
    from adjobs.data.versions.record import SplitRule


class SourceOptions(NamedTuple):
    """How a source is read, as a user gave it."""

    format_name: str
    follow_links: bool
    normal_classes: tuple[str, ...]


class RuleOptions(NamedTuple):
    """How images are assigned to splits, as a user gave it."""

    seed: int
    normal_shares: tuple[float, float, float]
    anomalous_shares: tuple[float, float, float]

    def to_rule(self) -> SplitRule:
        """The rule."""
        from adjobs.data.versions.record import Shares, SplitRule

        return SplitRule(self.seed, Shares(*self.normal_shares), Shares(*self.anomalous_shares))


def _protocol_names() -> Iterable[str]:
    from adjobs.data.splits.protocols import PROTOCOLS

    return PROTOCOLS


def _shares(name: str, default: tuple[float, float, float], images: str) -> Callable[..., Any]:
    return click.option(
        name,
        type=float,
        nargs=3,
        default=default,
        show_default=True,
        metavar="TRAIN VAL TEST",
        help=f"Shares of the splits in {images} that are added later.",
    )


PROTOCOL = click.option(
    "--protocol",
    cls=ListedOption,
    names=_protocol_names,
    help="Protocol that splits version 1: {}. [default: official if the data set has a published test split, else holdout]",
)
_SEED = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of all splits, also of later versions."
)
_NORMAL_SHARES = _shares("--normal-shares", (0.6, 0.2, 0.2), "normal images")
_ANOMALOUS_SHARES = _shares("--anomalous-shares", (0.5, 0.0, 0.5), "anomalous images of each defect type")


def source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format``, ``--follow-links`` and ``--normal-class``, which the function gets as one SourceOptions, ``reading``."""
    return _grouped(function, "reading", SourceOptions, (FORMAT, FOLLOW_LINKS, NORMAL_CLASS))


def rule_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--seed``, ``--normal-shares`` and ``--anomalous-shares``, which the function gets as one RuleOptions, ``rule``."""
    return _grouped(function, "rule", RuleOptions, (_SEED, _NORMAL_SHARES, _ANOMALOUS_SHARES))


def _grouped(
    function: Callable[..., Any],
    name: str,
    group: type[SourceOptions] | type[RuleOptions],
    options: tuple[Callable[..., Any], ...],
) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        values = {field: kwargs.pop(field) for field in group._fields}
        return function(*args, **kwargs, **{name: group(**values)})

    for option in reversed(options):
        call = option(call)
    return call
