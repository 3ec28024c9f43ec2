"""The methods, one package each. A package's name is the method's name everywhere: command line, job file, MLflow.

Other installed packages can provide methods, too: see :mod:`adjobs.methods.discovery`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adjobs.errors import JobError, choices, one_line, shown
from adjobs.methods.contract import PRETRAINED_WEIGHTS, MethodConfig, PathParam, Spec
from adjobs.methods.discovery import MethodPackage, find_packages

if TYPE_CHECKING:
    from adjobs.methods.method import LoadedMethod


def names() -> list[str]:
    """Every method, sorted; imports none of them.

    Raises:
        JobError: two packages provide a method of the same name.
    """
    return list(find_packages())


def spec(name: str) -> Spec:
    """The specification of a method; does not import torch.

    Raises:
        JobError: no such method, or its package cannot be imported.
    """
    method_spec: Spec = _attribute(name, "", "SPEC")
    return method_spec


def config_class(name: str) -> type[MethodConfig]:
    """The configuration class of a method; does not import torch. Errors are those of `spec`."""
    config: type[MethodConfig] = _attribute(name, ".config", "Config")
    return config


def presets(name: str) -> dict[str, dict[str, object]]:
    """Named sets of parameters of a method. Errors are those of `spec`."""
    params_by_preset: dict[str, dict[str, object]] = _attribute(name, ".config", "PRESETS")
    return params_by_preset


def path_params(name: str) -> dict[str, PathParam]:
    """The parameters of a method that name a file or folder. Errors are those of `spec`.

    >>> path_params("cdo")
    {'weights': PathParam(keywords=('auto', 'packaged', 'timm', 'none'))}
    """
    fields = config_class(name).model_fields
    marked = {param: [mark for mark in field.metadata if isinstance(mark, PathParam)] for param, field in fields.items()}
    return {param: marks[0] for param, marks in marked.items() if marks}


def without_pretrained_weights(name: str) -> dict[str, str]:
    """The parameters of a method that name pretrained weights, set to none: for what is built only to be loaded or to simulate.

    >>> without_pretrained_weights("cdo")
    {'weights': 'none'}
    """
    return {param: "none" for param, mark in path_params(name).items() if mark == PRETRAINED_WEIGHTS}


def card(name: str) -> str | None:
    """The README of a method, in Markdown; None if its package has none. Errors are those of `spec`."""
    from importlib.resources import files

    spec(name)
    path = files(find_packages()[name].module) / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def gives_map(name: str, params: Mapping[str, object]) -> bool:
    """Whether a method with these parameters, all of them, gives anomaly maps."""
    method_spec = spec(name)
    return method_spec.gives_map and (method_spec.map_param is None or bool(params[method_spec.map_param]))


def map_param_hint(name: str) -> str:
    """How to get anomaly maps, to be appended to "gives no anomaly maps"; empty if no parameter turns them on.

    >>> map_param_hint("liac")
    ' without params.heat_map: true'
    """
    param = spec(name).map_param
    return f" without params.{param}: true" if param else ""


def load(name: str) -> LoadedMethod:
    """A method with everything that is needed to build it; imports torch. Errors are those of `spec`."""
    method_spec, config = spec(name), config_class(name)

    from adjobs.methods.method import LoadedMethod

    return LoadedMethod(name, method_spec, config, _attribute(name, ".model", "build"))


def _package(name: str) -> MethodPackage:
    packages = find_packages()
    if name not in packages:
        raise JobError(f"unknown method {shown(name)}; {choices(name, packages)}")
    return packages[name]


def _attribute(name: str, submodule: str, attribute: str) -> Any:
    """An attribute of a method's package, or of a submodule of it such as ``.config``."""
    package = _package(name)
    try:
        return getattr(importlib.import_module(package.module + submodule), attribute)
    except (ImportError, AttributeError) as error:
        if package.distribution is None:
            raise
        raise JobError(
            f"method '{name}' of {package}: cannot be imported ({one_line(error)}); repair or uninstall that package"
        ) from error
