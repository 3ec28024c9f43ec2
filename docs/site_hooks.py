"""MkDocs hooks: pages that live beside the code become part of the site, and links between them keep working.

The Markdown of this repository is written to be read in place: a link is relative to the file that it stands in. In the site some
files have other addresses (:func:`site_paths`), so links are rewritten; a link to a file that is no page becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(```.*?```)", re.DOTALL)


def site_paths() -> dict[str, str]:
    """Path in the site of each Markdown file outside docs/, by its path in the repository."""
    paths = {name: name.lower() for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")}
    for card in sorted(ROOT.glob("adjobs/methods/*/README.md")):
        paths[card.relative_to(ROOT).as_posix()] = f"methods/{card.parent.name}.md"
    paths["benchmarks/README.md"] = "benchmarks/index.md"
    for result in sorted(ROOT.glob("benchmarks/results/*.md")):
        paths[result.relative_to(ROOT).as_posix()] = f"benchmarks/results/{result.name}"
    if (ROOT / "findings" / "README.md").exists():
        paths["findings/README.md"] = "findings.md"
    return paths


def site_links(text: str, source: str, paths: dict[str, str]) -> str:
    """Rewrite the links of one page.

    Args:
        text: Markdown as it stands in the repository.
        source: its path in the repository, with / between folders.
        paths: see :func:`site_paths`.
    """
    page = paths.get(source, source.removeprefix("docs/"))

    def rewrite(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or ":" in path:
            return match[0]
        repository_path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if repository_path not in paths and not repository_path.startswith("docs/"):
            return label
        site_path = paths.get(repository_path, repository_path.removeprefix("docs/"))
        relative = posixpath.relpath(site_path, posixpath.dirname(page) or ".")
        return f"{image}[{label}]({relative}{'#' + anchor if anchor else ''})"

    return "".join(piece if piece.startswith("```") else LINK.sub(rewrite, piece) for piece in FENCE.split(text))


def on_config(config: Any) -> Any:
    """Append to the navigation what is found rather than listed: the method cards, and the findings where there are any."""
    paths = site_paths()
    for section in config.nav:
        if "Methods" in section:
            section["Methods"] += [{Path(path).stem: path} for path in paths.values() if path.startswith("methods/")]
        if "Project" in section and "findings/README.md" in paths:
            section["Project"].insert(1, {"Findings": paths["findings/README.md"]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside docs/."""
    for source, path in site_paths().items():
        files.append(File.generated(config, path, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Rewrite the links of every page."""
    paths = site_paths()
    sources = {path: source for source, path in paths.items()}
    return site_links(markdown, sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"), paths)
