"""The environment variables that adjobs sets."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import adjobs
from adjobs.config import environment
from adjobs.config.environment import TRIAL_VARIABLES, VARIABLES, apply, load_settings

PACKAGE = Path(adjobs.__file__).parent
WRITING_METHODS = {"clear", "pop", "popitem", "setdefault", "update"}


def is_environ(node: ast.AST) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb"}) or (
        isinstance(node, ast.Name) and node.id in {"environ", "environb"}
    )


def writes_environment(node: ast.AST) -> bool:
    """Whether a node assigns to, deletes from or calls a writing method of ``os.environ``, or calls ``putenv``."""
    if isinstance(node, ast.Assign | ast.Delete):
        return any(is_environ(t) or (isinstance(t, ast.Subscript) and is_environ(t.value)) for t in node.targets)
    if isinstance(node, ast.AugAssign):
        return is_environ(node.target)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in {"putenv", "unsetenv"} or (node.func.attr in WRITING_METHODS and is_environ(node.func.value))
    return False


def test_only_the_environment_module_writes_the_environment():
    writers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(map(writes_environment, ast.walk(ast.parse(path.read_text()))))
    }
    assert writers == {"config/environment.py"}


def test_writes_environment_finds_every_way():
    lines = ["os.environ['A'] = 'b'", "environ.update(a)", "os.environ |= a", "os.putenv('A', 'b')", "del os.environ['A']"]
    assert all(any(map(writes_environment, ast.walk(ast.parse(line)))) for line in lines)
    assert not any(map(writes_environment, ast.walk(ast.parse("os.environ.get('A'); dict(os.environ).pop('A')"))))


def test_variables_are_unique_and_have_reasons():
    names = [variable.name for variable in VARIABLES]
    assert len(names) == len(set(names))
    assert all(variable.reason for variable in VARIABLES)
    assert set(TRIAL_VARIABLES) < set(VARIABLES)


def test_apply_does_not_overwrite_variables():
    env = {"RAY_AUTH_MODE": "token"}
    apply(env)
    assert env == {variable.name: variable.value for variable in VARIABLES} | {"RAY_AUTH_MODE": "token"}


def test_apply_trial_variables_sets_no_others():
    env: dict[str, str] = {}
    apply(env, TRIAL_VARIABLES)
    assert set(env) == {"TUNE_FUNCTION_THREAD_TIMEOUT_S"}


def test_load_settings_completes_the_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(environment.os, "environ", {"ADJOBS_HOME": str(tmp_path), "RAY_ADDRESS": "own:1"})
    stack = {"MLFLOW_TRACKING_URI": "http://stack", "RAY_ADDRESS": "stack:1", "RAY_AUTH_MODE": "token"}
    (tmp_path / "stack.json").write_text(json.dumps({"environment": stack}))
    settings = load_settings()
    assert (settings.home, settings.tracking_uri, settings.ray_address) == (tmp_path, "http://stack", "own:1")
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://stack"
    assert os.environ["RAY_AUTH_MODE"] == "disabled"  # all variables of a system that is named by hand are its user's
