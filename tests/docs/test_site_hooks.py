"""Links of the site; mkdocs itself is not installed where the tests run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "site_hooks.py"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    stubs = {name: ModuleType(name) for name in ("mkdocs", "mkdocs.structure", "mkdocs.structure.files")}
    stubs["mkdocs.structure.files"].File = SimpleNamespace  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("site_hooks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in stubs.items():
            patch.setitem(sys.modules, name, stub)
        spec.loader.exec_module(module)
    return module


PATHS = {"adjobs/methods/cdo/README.md": "methods/cdo.md", "benchmarks/results/tiles.md": "benchmarks/results/tiles.md"}


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("[cdo](../adjobs/methods/cdo/README.md)", "docs/methods.md", "[cdo](methods/cdo.md)"),
        ("[x](../../../benchmarks/results/tiles.md)", "adjobs/methods/cdo/README.md", "[x](../benchmarks/results/tiles.md)"),
        ("![map](../../../docs/images/a.jpg)", "adjobs/methods/cdo/README.md", "![map](../images/a.jpg)"),
        ("[a](data.md#formats)", "docs/guides/labels.md", "[a](data.md#formats)"),
        ("[`loop`](../adjobs/training/loop.py)", "docs/architecture.md", "`loop`"),
        ("[Ray](https://ray.io) [here](#formats)", "docs/index.md", "[Ray](https://ray.io) [here](#formats)"),
        ("```\n[a](../b.py)\n```", "docs/index.md", "```\n[a](../b.py)\n```"),
    ],
)
def test_site_links_relative_link_leads_to_the_page_in_the_site(hooks, text, source, expected):
    assert hooks.site_links(text, source, PATHS) == expected


def test_site_paths_every_card_and_result_is_a_page(hooks):
    paths = hooks.site_paths()
    assert {path.name for path in (hooks.ROOT / "benchmarks" / "results").glob("*.md")} == {
        Path(source).name for source in paths if source.startswith("benchmarks/results/")
    }
    assert {"methods/cdo.md", "benchmarks/index.md", "contributing.md"} <= set(paths.values())
