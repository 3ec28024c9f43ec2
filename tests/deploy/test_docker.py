"""The image and the containers of one machine."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adjobs.stack.certificates import security_settings
from adjobs.stack.credentials import S3_ACTIONS
from adjobs.version import __version__
from tests.helpers.deploy import COMPOSE, DOCKER, DOCKERFILE, ROOT, SECRET_NAME, parse_command, read_yaml, with_defaults

INSTRUCTIONS = {"ARG", "FROM", "SHELL", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
WITH_SECRETS = str(DOCKER / "with-secrets")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read_yaml(COMPOSE)


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each instruction of the Dockerfile."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def made_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes."""
    folder = tmp_path_factory.mktemp("docker") / "secrets"
    subprocess.run([DOCKER / "make-secrets", folder], check=True, capture_output=True)
    return folder


def mounted_secrets(service: dict[str, Any]) -> dict[str, str]:
    """The secrets of a service, and the names that their files have in its container."""
    secrets = [item if isinstance(item, dict) else {"source": item, "target": item} for item in service.get("secrets", [])]
    return {secret["source"]: secret["target"] for secret in secrets}


def values(instructions: list[tuple[str, str]], name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions if instruction == name]


# Dockerfile


def test_dockerfile_instructions_are_known_and_fetch_nothing(instructions):
    assert {name for name, _ in instructions} <= INSTRUCTIONS  # ADD fetches from URLs, COPY does not


def test_dockerfile_base_image_is_pinned(instructions):
    (image,) = [value.partition("=")[2] for value in values(instructions, "ARG") if value.startswith("PYTHON_IMAGE=")]
    assert re.fullmatch(r"python:3\.1\d\.\d+-slim-\w+", image)
    assert all(value.startswith("${PYTHON_IMAGE}") for value in values(instructions, "FROM"))


def test_dockerfile_runs_as_a_user_by_number(instructions):
    user = values(instructions, "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert instructions.index(("USER", user)) > max(i for i, (name, _) in enumerate(instructions) if name in ("COPY", "RUN"))


def test_dockerfile_copies_what_exists_and_is_not_ignored(instructions):
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [value.split() for value in values(instructions, "COPY") if "--from=" not in value]
    sources = [word for words in copied for word in words[:-1] if not word.startswith("--")]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists() or f"!{source}" not in ignored] == []


def test_dockerfile_environment_holds_no_secret(instructions):
    names = re.findall(r"(\w+)=", " ".join(values(instructions, "ENV") + values(instructions, "ARG")))
    assert [name for name in names if SECRET_NAME.search(name)] == []


def test_dockerfile_command_and_health_check_exist(instructions, queue_paths):
    assert parse_command(json.loads(values(instructions, "CMD")[-1])).params["port"] == 18211
    (check,) = values(instructions, "HEALTHCHECK")
    assert re.search(r"127\.0\.0\.1:18211(/\w+)", check)[1] in queue_paths  # type: ignore[index]


# compose.yaml


def test_compose_images_are_pinned(services):
    images = {with_defaults(service["image"]) for service in services.values()}
    assert f"adjobs:{__version__}" in images
    assert [image for image in images if not re.search(r":v?\d+\.\d+", image)] == []


def test_compose_dependencies_are_services_with_health_checks(services):
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        for dependency, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}, name
            assert "healthcheck" in services[dependency], name


def test_compose_secrets_are_those_that_the_script_makes(compose, services, made_secrets):
    made = {path.name for path in made_secrets.iterdir()}
    used = {source for service in services.values() for source in mounted_secrets(service)}
    assert made == used == set(compose["secrets"])
    for name, secret in compose["secrets"].items():
        assert with_defaults(secret["file"]) == f"./secrets/{name}"


def test_compose_secret_files_are_given_to_the_services_that_read_them(services, made_secrets):
    for name, service in services.items():
        words = [*map(str, service.get("environment", {}).values()), *service.get("command", []), *service.get("entrypoint", [])]
        read = set(re.findall(r"/run/secrets/(\w+)", " ".join(words)))
        if "-config_dir=/run/secrets" in words:  # which names another file that the server reads
            read |= {"security.toml", *re.findall(r"/run/secrets/(\w+)", (made_secrets / "s3_security").read_text())}
        assert set(mounted_secrets(service).values()) == read, name


def test_compose_clients_of_mlflow_have_an_account(services):
    clients = [name for name, service in services.items() if "MLFLOW_TRACKING_URI" in service.get("environment", {})]
    assert clients == ["ray-head", "ray-worker", "dispatcher"]
    for name in clients:
        assert {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD_FILE"} <= set(services[name]["environment"]), name


def test_compose_environment_holds_no_secret(services):
    for service in services.values():
        for name in service.get("environment", {}):
            assert not SECRET_NAME.search(name) or name.endswith(("_FILE", "_PATH")), name


def test_compose_secret_variables_are_those_of_the_script(services):
    script = Path(WITH_SECRETS).read_text().replace("\\\n", "")
    known = re.search(r"^for name in (.*); do$", script, re.MULTILINE)[1].split()  # type: ignore[index]
    own = {name: service for name, service in services.items() if service["image"].startswith("${IMAGE")}
    variables = {name for service in own.values() for name in service["environment"] if name.endswith("_FILE")}
    assert {name.removesuffix("_FILE") for name in variables} == set(known)


def test_compose_ports_are_published_on_the_loopback_address(services):
    ports = [with_defaults(port) for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8333:8333", "127.0.0.1:5000:5000", "127.0.0.1:8265:8265", "127.0.0.1:18211:18211"]


def test_compose_volumes_networks_and_mounted_files_exist(compose, services):
    for name, service in services.items():
        assert set(service["networks"]) <= set(compose["networks"]), name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).is_file(), volume
    reach_databases = {name for name, service in services.items() if "databases" in service["networks"]}
    assert reach_databases == {"postgres", "mlflow", "dispatcher"}
    assert compose["networks"]["databases"]["internal"]


def test_compose_dispatcher_command_exists(services, queue_paths):
    dispatcher = services["dispatcher"]
    params = parse_command([with_defaults(word) for word in dispatcher["command"]]).params
    assert (params["host"], params["port"], params["slots"]) == ("0.0.0.0", 18211, 1)
    assert re.search(r"127\.0\.0\.1:18211(/\w+)", dispatcher["healthcheck"]["test"][-1])[1] in queue_paths  # type: ignore[index]


def test_compose_gpu_file_changes_services_that_exist(services):
    assert set(read_yaml(DOCKER / "compose.gpu.yaml")["services"]) <= set(services)


# Scripts


def test_make_secrets_run_again_keeps_them(tmp_path):
    script, folder = DOCKER / "make-secrets", tmp_path / "secrets"
    subprocess.run([script, folder], check=True, capture_output=True)
    first = {path.name: path.read_text() for path in folder.iterdir()}
    (folder / "ray_token").unlink()
    subprocess.run([script, folder], check=True, capture_output=True)
    second = {path.name: path.read_text() for path in folder.iterdir()}
    assert [name for name in first if first[name] != second[name]] == ["ray_token"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(set(first.values())) == len(first)
    assert first["queue_database"] == f"postgresql+pg8000://queue:{first['queue_database_password']}@postgres:5432/queue"


def test_make_secrets_gives_each_client_of_s3_the_rights_of_the_embedded_stack(made_secrets):
    identities = json.loads((made_secrets / "s3_config").read_text())["identities"]
    assert {identity["name"]: identity["actions"] for identity in identities} == S3_ACTIONS
    for identity in identities:
        keys = [(made_secrets / f"s3_{identity['name']}_{kind}_key").read_text() for kind in ("access", "secret")]
        assert identity["credentials"] == [{"accessKey": keys[0], "secretKey": keys[1]}]


def test_make_secrets_closes_the_ports_of_s3_that_the_embedded_stack_closes(made_secrets):
    certificate = Path("/run/secrets/s3_certificate")
    expected = security_settings(certificate)
    settings = dict(_settings(tomllib.loads((made_secrets / "s3_security").read_text()), "WEED"))
    random = {name for name in settings if len(settings[name]) == 64}
    assert random == {name for name in expected if name.startswith("WEED_JWT_")} | {"WEED_ADMIN_PASSWORD"}
    assert len({settings[name] for name in random}) == len(random)
    assert {name: settings[name] for name in settings.keys() - random} == {
        name: value for name, value in expected.items() if not name.startswith("WEED_JWT_")
    }


def test_make_secrets_without_openssl_names_it(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "mkdir", "chmod", "mv", "cat", "od", "tr", "tail", "rm"):
        (programs / name).symlink_to(shutil.which(name))
    command = [DOCKER / "make-secrets", tmp_path / "secrets"]
    result = subprocess.run(command, env={"PATH": str(programs)}, check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("openssl cannot make a certificate: ")
    assert not (tmp_path / "secrets" / "s3_certificate").exists()


def _settings(table: dict[str, Any], name: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        variable = f"{name}_{key.upper()}"
        yield from _settings(value, variable) if isinstance(value, dict) else [(variable, str(value).lower())]


def test_with_secrets_puts_files_into_the_environment(tmp_path):
    (tmp_path / "database").write_text("postgresql+pg8000://a:b$c d@postgres/queue\n")
    environment = {"PATH": "/usr/bin:/bin", "ADJOBS_QUEUE_DATABASE_FILE": str(tmp_path / "database"), "SSL_CERT_FILE": "/x"}
    result = subprocess.run([WITH_SECRETS, "env"], env=environment, check=True, capture_output=True, text=True)
    variables = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert variables["ADJOBS_QUEUE_DATABASE"] == "postgresql+pg8000://a:b$c d@postgres/queue"
    assert "ADJOBS_QUEUE_DATABASE_FILE" not in variables
    assert variables["SSL_CERT_FILE"] == "/x"


@pytest.mark.parametrize("text", [None, ""])
def test_with_secrets_file_missing_or_empty_runs_nothing(tmp_path, text):
    path = tmp_path / "key"
    if text is not None:
        path.write_text(text)
    environment = {"PATH": "/usr/bin:/bin", "AWS_ACCESS_KEY_ID_FILE": str(path)}
    result = subprocess.run([WITH_SECRETS, "echo", "ran"], env=environment, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"AWS_ACCESS_KEY_ID_FILE: {path} cannot be read or is empty" in result.stderr
