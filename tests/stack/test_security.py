"""``adjobs status --security``: what is checked, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from adjobs.cli.main import main
from adjobs.stack import security
from adjobs.stack.config import OFFSETS
from adjobs.stack.probes import Check, Exposure
from adjobs.stack.security import SecurityReport
from tests.integration.conftest import free_port_base


def test_port_checks_are_those_of_all_ports_but_the_public_one() -> None:
    checks = [check() for check in security.port_checks(free_port_base())]
    assert sorted(check.what for check in checks) == sorted(set(OFFSETS) - {"Ray metrics"})
    assert {check.exposure for check in checks} == {Exposure.UNKNOWN}  # nothing runs there


@pytest.mark.parametrize(("exposure", "status"), [("closed", 0), ("unknown", 0), ("open", 1)])
def test_security_exit_status_is_1_if_anything_is_open(monkeypatch: pytest.MonkeyPatch, exposure: str, status: int) -> None:
    report = SecurityReport([Check("S3", Exposure.CLOSED, "refuses"), Check("MLflow", Exposure(exposure), "at a port")])
    monkeypatch.setattr(security, "inspect", lambda _: report)
    result = CliRunner().invoke(main, ["status", "--security"])
    assert result.exit_code == status
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["what", "exposure", "detail"],
        ["S3", "closed", "refuses"],
        ["MLflow", exposure, "at", "a", "port"],
    ]
    parsed = json.loads(CliRunner().invoke(main, ["status", "--security", "--json"]).stdout)
    assert parsed["closed"] == (exposure != "open")
    assert parsed["checks"][1] == {"what": "MLflow", "exposure": exposure, "detail": "at a port"}


def test_security_without_a_stack_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["status", "--security"])
    assert (result.exit_code, result.stderr) == (2, "error: the stack is not running; start it with: adjobs up\n")
