"""Which packages hold methods: the subpackages of :mod:`adjobs.methods`, and entry points of other installed packages.

A package provides a method by an entry point of the group ``adjobs.methods``. Its name is the method's name, its value a Python
package that is made like a built-in method (see :mod:`adjobs.methods.contract`)::

    # pyproject.toml of the other package
    [project.entry-points."adjobs.methods"]
    mymethod = "my_package.mymethod"

    [tool.setuptools.package-data]
    "my_package.mymethod" = ["README.md"]

Once installed, beside adjobs and on every machine that trains, ``mymethod`` is used like a built-in method: in job files,
``adjobs methods``, searches and reports. Runs do not record the version of the package that provides the method.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from adjobs.errors import JobError

GROUP = "adjobs.methods"


class MethodPackage(NamedTuple):
    """Where a method comes from.

    Attributes:
        module: import name of its package.
        distribution: name and version of the installed distribution that provides it; None for a built-in method.
    """

    module: str
    distribution: str | None

    def __str__(self) -> str:
        return "adjobs itself" if self.distribution is None else f"{self.distribution} ({self.module})"


@cache
def find_packages() -> Mapping[str, MethodPackage]:
    """The package of every method by the method's name, sorted; imports none of them.

    Found once per process: what is installed later is not seen.

    Raises:
        JobError: two packages provide a method of the same name.
    """
    from importlib.metadata import entry_points  # takes longer than the rest of this module

    folder = str(Path(__file__).parent)
    built_in = [module.name for module in pkgutil.iter_modules([folder]) if module.ispkg]
    packages = {name: MethodPackage(f"{GROUP}.{name}", None) for name in built_in}
    for entry_point in entry_points(group=GROUP):
        distribution = entry_point.dist
        origin = "an unknown distribution" if distribution is None else f"{distribution.name} {distribution.version}"
        package = MethodPackage(entry_point.module, origin)
        if entry_point.name in packages:
            raise JobError(f"method '{entry_point.name}': provided by {packages[entry_point.name]} and {package}; uninstall one")
        packages[entry_point.name] = package
    return dict(sorted(packages.items()))
