"""Methods in a working directory: found by its ``pyproject.toml``, as if the directory were installed."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adjobs.errors import QueueError, one_line
from adjobs.methods.discovery import GROUP, find_packages


def plugin_metadata(root: Path) -> dict[str, bytes]:
    """The files, by name, with which Python finds the methods of a directory that is on its search path; none without methods.

    They have the name of the project, so that Python prefers the directory to an installed version of it.

    Raises:
        QueueError: ``pyproject.toml`` is wrong, or names a package that is not in the directory.
    """
    path = root / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        project = tomllib.loads(path.read_text()).get("project", {})
        name, version = str(project.get("name", "working-dir")), str(project.get("version", "0"))
        methods: dict[str, Any] = dict(project.get("entry-points", {}).get(GROUP, {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise QueueError(f"{path}: cannot be read ({one_line(error)}); correct it") from error
    for method, module in methods.items():
        folder = root.joinpath(*str(module).split("."))
        if not (folder / "__init__.py").is_file():
            remedy = "lay its packages out at the top of --working-dir, as src/ is not searched"
            raise QueueError(f"{path}: method '{method}' is in {module}, which is not at {folder}; {remedy}")
    if not methods:
        return {}
    prefix = f"{re.sub(r'[^A-Za-z0-9.]+', '_', name)}-{re.sub(r'[^A-Za-z0-9.]+', '_', version)}.dist-info"
    entries = "".join(f"{method} = {module}\n" for method, module in sorted(methods.items()))
    return {
        f"{prefix}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{prefix}/entry_points.txt": f"[{GROUP}]\n{entries}".encode(),
    }


@contextmanager
def importable(root: Path, metadata: Mapping[str, bytes]) -> Iterator[None]:
    """Let this process find the methods of a directory, as the cluster will."""
    if not metadata:
        yield
        return
    with TemporaryDirectory(prefix="adjobs-") as folder:
        for name, content in metadata.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        added = [str(root.absolute()), folder]
        sys.path[:0] = added
        find_packages.cache_clear()
        try:
            yield
        finally:
            sys.path[:] = [place for place in sys.path if place not in added]
            find_packages.cache_clear()
