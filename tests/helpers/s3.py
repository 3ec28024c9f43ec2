"""A running S3; fixtures to import, for tests that need nothing else of the stack."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """``AWS_*`` variables of a running S3, with the keys of jobs; they are also good for ``no-bucket``, which does not exist."""
    from adjobs.stack import components, credentials, processes
    from adjobs.stack.config import StackConfig, client_environment
    from adjobs.stack.sockets import delete_sockets
    from tests.integration.conftest import free_port_base

    with tempfile.TemporaryDirectory(prefix="adjobs-") as folder:
        home = Path(folder)
        stack = StackConfig("test-artifacts", home, free_port_base(), None, 1, credentials.load(home / "credentials"))
        identities = stack.credentials.s3_file
        identities.write_text(identities.read_text().replace('"Read:adjobs"', '"Read:adjobs", "Admin:no-bucket"', 1))
        service = components.s3(stack)
        process = processes.start(service.command, service.environment, service.folder, home / "s3.log")
        try:
            processes.wait_until(service.ready, process, "S3", home / "s3.log", 60)
            yield {name: value for name, value in client_environment(stack).items() if name.startswith("AWS_")}
        finally:
            processes.stop(processes.stack_processes(stack.stack_id), 15)
            delete_sockets(stack.port_base)


@pytest.fixture
def server(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
