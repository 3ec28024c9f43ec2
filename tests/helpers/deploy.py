"""Reading what is in docker/ and cluster/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from adjobs.cli.main import main

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
DOCKERFILE = DOCKER / "Dockerfile"
KUBERNETES = ROOT / "cluster" / "kubernetes"
RAY_UP = ROOT / "cluster" / "ray-up"
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY|BACKEND_STORE_URI|QUEUE_DATABASE")


class StrictLoader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML's usual reading drops one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        repeated = {key for key in keys if keys.count(key) > 1}
        if repeated:
            raise yaml.YAMLError(f"{node.start_mark}: repeated keys {repeated}")
        return super().construct_mapping(node, deep)


def read_documents(path: Path) -> list[Any]:
    """All documents of a YAML file."""
    return list(yaml.load_all(path.read_text(encoding="utf-8"), StrictLoader))


def read_yaml(path: Path) -> Any:
    """The only document of a YAML file."""
    (document,) = read_documents(path)
    return document


def deployed_files() -> list[Path]:
    """All files of docker/ and cluster/, without what their users make."""
    files = [path for folder in (DOCKER, ROOT / "cluster") for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in files if "secrets" not in path.relative_to(ROOT).parts and path != RAY_UP / "environment"]


def parse_command(words: list[str]) -> click.Context:
    """Let click read an ``adjobs`` command as the command line does, without running it.

    Raises:
        click.UsageError: there is no such verb, option or argument.
    """
    assert words[0] == "adjobs", words
    command: click.Command = main
    name, rest = words[0], words[1:]
    while isinstance(command, click.Group):
        name, rest = rest[0], rest[1:]
        subcommand = command.get_command(click.Context(command), name)
        if subcommand is None:
            raise click.UsageError(f"no verb {name}")
        command = subcommand
    return command.make_context(name, rest)


def with_defaults(text: str) -> str:
    """A text of compose.yaml as it is while none of its variables is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def strings(value: Any) -> Iterator[str]:
    """All texts in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
