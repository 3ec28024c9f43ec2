from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from adjobs.cli.main import main
from adjobs.serving import ray_app, server
from adjobs.serving.limits import MIB, Limits
from adjobs.serving.ray_app import Deployment, ReplicaConfig
from adjobs.web.door import Door
from adjobs.web.key_file import digest


@pytest.fixture
def served(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(server, "serve", lambda service, door, digests: calls.append((service, door, digests)))
    monkeypatch.setattr(ray_app, "serve", lambda settings, *values: calls.append(values))
    return calls


def run(*words: str):
    return CliRunner().invoke(main, ["serve", *words])


def test_serve_passes_on_what_was_chosen(served, monkeypatch, tmp_path):
    loaded = []
    monkeypatch.setattr("adjobs.serving.loading.load_to_serve", lambda model, **options: loaded.append((model, options)))
    keys = tmp_path / "keys"
    keys.write_text("k" * 40)
    keys.chmod(0o600)
    limits = ["--max-body", "2", "--max-images", "3", "--max-pixels", "1.5", "--max-queue", "9", "--max-batch", "4"]
    where = ["--host", "0.0.0.0", "--port", "8443", "--api-key-file", str(keys)]
    how = ["--device", "cpu", "--engine", "torch", "--name", "cells", "--follow", "2", "--timeout", "5"]
    done = run("models:/line-3@champion", *where, *limits, *how)
    assert done.exit_code == 0, done.output
    ((service, door, digests),) = served
    assert (door, digests) == (Door("0.0.0.0", 8443), (digest("k" * 40),))
    assert service.limits == Limits(2 * MIB, 3, 1_500_000, 9, 4, 5.0)
    assert (service.model.source.alias, service.model.source._name, service.model._interval) == ("champion", "cells", 2.0)
    service.model.source._load("models:/line-3/1")
    assert loaded == [("models:/line-3/1", {"device": "cpu", "engine": "torch"})]


def test_serve_by_ray_passes_digests_and_no_keys(served, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("k" * 40)
    keys.chmod(0o600)
    how = ["--backend", "ray", "--replicas", "3", "--gpus-per-replica", "0.5", "--api-key-file", str(keys)]
    assert run("line", *how).exit_code == 0
    expected = ReplicaConfig("line", key_digests=(digest("k" * 40),))
    assert served == [(expected, Deployment(3, 1.0, 0.5), Door("127.0.0.1", 18300))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], r"--host 0.0.0.0 lets other machines in, and there is no key; give --api-key-file, or"),
        (["--api-key-file", "missing"], r"--api-key-file missing: cannot be read"),
        (["--max-queue", "4"], r"16 images of a request do not fit into a queue of 4; raise --max-queue"),
        (["--tls-cert", "/dev/null"], r"--tls-cert and --tls-key belong together|Path '/dev/null'|is not a file"),
        (["--timeout", "0"], r"--timeout"),
    ],
)
def test_serve_options_that_cannot_be_are_one_line(served, options, message):
    done = run("line", *options)
    assert done.exit_code == 2
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
    assert served == []


def test_serve_other_machines_without_a_key_on_request(served):
    assert run("line", "--host", "0.0.0.0", "--without-key").exit_code == 0
    assert served[0][1].host == "0.0.0.0"
