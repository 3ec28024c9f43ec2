"""Industrial visual anomaly detection, trained as jobs on a Ray cluster.

>>> import adjobs
>>> adjobs.list_methods()
['cdo', 'dpae', 'liac', 'semirest', 'slsg']

Importing this package is light; what a function needs is imported when it is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adjobs.version import __version__

if TYPE_CHECKING:
    from adjobs.api import compare, evaluate, export, list_methods, load_detector, predict, submit, train, tune
    from adjobs.config.job import JobConfig

__all__ = [
    "JobConfig",
    "__version__",
    "compare",
    "evaluate",
    "export",
    "list_methods",
    "load_detector",
    "predict",
    "submit",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Import the library's functions when they are asked for."""
    if name in __all__:
        return getattr(import_module("adjobs.api"), name)
    raise AttributeError(f"module 'adjobs' has no attribute '{name}'")


def __dir__() -> list[str]:
    """The library's names."""
    return sorted(__all__)
