"""The methods, one folder each. A folder's name is the method's name everywhere: command line, job file, MLflow."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from adjobs.errors import JobError, choices
from adjobs.methods.contract import LoadedMethod, MethodConfig, Spec


def names() -> list[str]:
    """Every method, by looking at the folders; imports none of them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def spec(name: str) -> Spec:
    """What a method states of itself; does not import torch.

    Raises:
        JobError: no such method.
    """
    if name not in names():
        raise JobError(f"unknown method '{name}'; {choices(name, names())}")
    found: Spec = importlib.import_module(f"{__name__}.{name}").SPEC
    return found


def config_class(name: str) -> type[MethodConfig]:
    """A method's configuration class; does not import torch."""
    spec(name)
    found: type[MethodConfig] = importlib.import_module(f"{__name__}.{name}.config").Config
    return found


def presets(name: str) -> dict[str, dict[str, object]]:
    """A method's named sets of parameters."""
    config_class(name)
    found: dict[str, dict[str, object]] = importlib.import_module(f"{__name__}.{name}.config").PRESETS
    return found


def gives_map(name: str, params: Mapping[str, object]) -> bool:
    """Whether a method with these (resolved) parameters gives heat maps."""
    found = spec(name)
    return found.gives_map and (found.map_param is None or bool(params[found.map_param]))


def map_param_hint(name: str) -> str:
    """End of the sentence that a method gives no maps, where a parameter would change that."""
    switch = spec(name).map_param
    return f" without params.{switch}: true" if switch else ""


def load(name: str) -> LoadedMethod:
    """A method with all that is needed to build it; imports torch.

    Raises:
        JobError: no such method.
    """
    build = importlib.import_module(f"{__name__}.{name}.model").build if name in names() else None
    return LoadedMethod(name, spec(name), config_class(name), build)  # type: ignore[arg-type]
