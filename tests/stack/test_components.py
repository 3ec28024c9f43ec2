"""The services of the embedded stack, without starting them."""

from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.errors import StackError
from adjobs.stack import components, credentials
from adjobs.stack.config import OFFSETS, StackConfig


@pytest.fixture
def stack(tmp_path: Path) -> StackConfig:
    return StackConfig("id", tmp_path, 20000, None, 1, credentials.load(tmp_path / "credentials"))


def test_services_have_the_keys_of_one_client_of_s3_each(stack: StackConfig) -> None:
    keys = stack.credentials.s3_keys
    for service, identity in ((components.mlflow, "mlflow"), (components.ray, "jobs"), (components.queue, "dispatcher")):
        environment = service(stack).environment
        assert (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]) == keys[identity]
        others = {secret for name, pair in keys.items() if name != identity for secret in pair}
        assert not others & set(environment.values())


def test_s3_has_no_keys_and_a_new_certificate_in_its_environment(stack: StackConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEED_GRPC_FILER_CERT", "of another server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of another server")
    certificate = stack.home / "credentials" / "s3-certificate.pem"
    environment = components.s3(stack).environment
    first = certificate.read_text()
    assert environment["WEED_GRPC_FILER_CERT"] == str(certificate)
    assert "AWS_ACCESS_KEY_ID" not in environment
    components.s3(stack)
    assert certificate.read_text() != first


def test_s3_with_an_open_port_is_refused_and_with_a_missing_one_not_ready(
    stack: StackConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    required: dict[int, bool | None] = {stack.port(title): True for title in OFFSETS if title.startswith("S3 ")}
    assert len(required) == 9
    monkeypatch.setattr(components, "requires_certificate", lambda host, port: required[port])
    assert components._is_closed(stack)
    required[20004] = None
    assert not components._is_closed(stack)
    required[20006] = False
    with pytest.raises(StackError, match=r"port 20006 \(S3 filer gRPC\) asks for no certificate"):
        components._is_closed(stack)
