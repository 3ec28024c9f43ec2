"""No cycles among the modules of the package, hidden ones (inside functions, for type checking) included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import adjobs

PACKAGE = Path(adjobs.__file__).parent


def module_name(path: Path) -> str:
    segments = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(segments[:-1] if segments[-1] == "__init__" else segments)


def imported_modules(path: Path, modules: set[str]) -> Iterator[str]:
    """Modules of the package that a file imports anywhere; ``from adjobs.x import y`` is adjobs.x.y if that is a module."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                base = f"{parent}.{base}".rstrip(".")
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                imported = submodule if submodule in modules else base
                if imported in modules:
                    yield imported


def import_graph() -> dict[str, set[str]]:
    """The modules that each module imports."""
    paths = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    return {name: set(imported_modules(path, set(paths))) - {name} for name, path in sorted(paths.items())}


def shortest_cycle(graph: dict[str, set[str]], start: str) -> list[str] | None:
    paths, visited = [[start]], {start}
    while paths:
        path = paths.pop(0)
        for imported in sorted(graph[path[-1]]):
            if imported == start:
                return [*path, start]
            if imported not in visited:
                visited.add(imported)
                paths.append([*path, imported])
    return None


def find_cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Cycles to break, shortest first; cycles that share an import with one that is listed are left out."""
    cycles = sorted(filter(None, (shortest_cycle(graph, name) for name in sorted(graph))), key=len)
    listed: list[list[str]] = []
    broken: set[tuple[str, str]] = set()
    for cycle in cycles:
        imports = set(pairwise(cycle))
        if not imports & broken:
            listed.append(cycle)
            broken |= imports
    return listed


def test_find_cycles_two_and_three_modules_are_listed():
    graph = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"e"}, "e": {"c"}, "f": {"a"}}
    assert find_cycles(graph) == [["a", "b", "a"], ["c", "d", "e", "c"]]
    assert find_cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_import_graph_has_hidden_imports():
    graph = import_graph()
    assert "adjobs.data.dataset" in graph["adjobs.data.formats"]  # for type checking
    assert "adjobs.storage" in graph["adjobs.data.open"]  # inside a function


def test_modules_have_no_import_cycles():
    cycles = find_cycles(import_graph())
    assert not cycles, "import cycles:\n" + "\n".join(" -> ".join(cycle) for cycle in cycles)


def test_only_one_module_calls_what_is_for_gpus():
    """What it wraps can then be replaced, and nothing else fails on a machine without one."""
    users = [path.name for path in PACKAGE.rglob("*.py") if "torch.cuda" in path.read_text(encoding="utf-8")]
    assert users == ["devices.py"]
