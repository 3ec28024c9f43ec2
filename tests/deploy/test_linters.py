"""What the tools say that others check such files with: hadolint, shellcheck, yamllint, Kubernetes' own schemas, promtool."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.helpers.deploy import COMPOSE, DOCKER, DOCKERFILE, KUBERNETES, RAY_UP, read_documents, read_yaml

KUBERNETES_VERSION = "1.34"  # as in docs/guides/cluster.md
CUSTOM_KINDS = {
    "RayCluster",
    "RayJob",
    "ResourceFlavor",
    "ClusterQueue",
    "LocalQueue",
    "WorkloadPriorityClass",
    "PrometheusRule",
}
CUSTOM_KINDS |= {"ServiceMonitor", "Kustomization"}  # and of kubectl itself
YAML_RULES = "{extends: default, rules: {line-length: disable, document-start: disable}}"
PROGRAMS = Path(sys.executable).parent
RULES = KUBERNETES / "monitoring" / "rules.yaml"


def scripts() -> list[Path]:
    folders = (DOCKER, KUBERNETES)
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in files if path.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))]


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dockerfile_hadolint():
    run(PROGRAMS / "hadolint", DOCKERFILE)


def test_scripts_shellcheck():
    assert len(scripts()) >= 4
    run(PROGRAMS / "shellcheck", *scripts())


def test_yaml_yamllint():
    files = [COMPOSE, *sorted(DOCKER.glob("*.yaml")), *sorted(KUBERNETES.rglob("*.yaml")), *sorted(RAY_UP.glob("*.yaml"))]
    run(PROGRAMS / "yamllint", "--strict", "-d", YAML_RULES, *files)


def test_objects_of_kubernetes_follow_its_schemas():
    kinds = set()
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        for document in read_documents(path):
            if document["kind"] not in CUSTOM_KINDS:
                kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
                kinds.add(document["kind"])
    assert kinds >= {"Deployment", "StatefulSet", "Service", "NetworkPolicy", "Namespace"}


@pytest.mark.parametrize(
    ("path", "value"), [(("spec", "replicas"), "one"), (("spec", "replica"), 1), (("spec", "template", "spec", "containers"), {})]
)
def test_object_that_kubernetes_would_refuse_is_refused(path, value):
    (deployment,) = [one for one in read_documents(KUBERNETES / "base" / "dispatcher.yaml") if one["kind"] == "Deployment"]
    section = deployment
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES_VERSION, strict=True)


def series(name: str, values: str) -> dict[str, str]:
    return {"series": name, "values": values}


def fires(alert: str, at: str, severity: str | None) -> dict[str, Any]:
    """That an alert fires at a time with this severity, or, with None, does not."""
    (rule,) = [rule for group in read_yaml(RULES)["spec"]["groups"] for rule in group["rules"] if rule["alert"] == alert]
    expected = [] if severity is None else [{"exp_labels": {"severity": severity}, "exp_annotations": rule["annotations"]}]
    return {"eval_time": at, "alertname": alert, "exp_alerts": expected}


ANSWERS = [series("adjobs_longest_wait_seconds", "0x2000"), series("adjobs_dispatcher_step_age_seconds", "1x2000")]
CASES = {
    "nothing runs though jobs wait": (
        [*ANSWERS, series('adjobs_jobs{state="queued"}', "2x100"), series('adjobs_jobs{state="running"}', "0x100")],
        [
            fires("AdjobsQueueStalled", "14m", None),
            fires("AdjobsQueueStalled", "16m", "critical"),
            fires("AdjobsQueueDown", "16m", None),
        ],
    ),
    "one runs while others wait": (
        [*ANSWERS, series('adjobs_jobs{state="queued"}', "2x100"), series('adjobs_jobs{state="running"}', "1x100")],
        [
            fires("AdjobsQueueStalled", "60m", None),
            fires("AdjobsDispatcherStuck", "60m", None),
            fires("AdjobsStartStuck", "60m", None),
        ],
    ),
    "the queue does not answer": (
        [series("up", "1x100")],
        [fires("AdjobsQueueDown", "9m", None), fires("AdjobsQueueDown", "11m", "critical")],
    ),
    "the dispatcher waits in one step": (
        [series("adjobs_dispatcher_step_age_seconds", "0+60x100")],
        [fires("AdjobsDispatcherStuck", "9m", None), fires("AdjobsDispatcherStuck", "12m", "critical")],
    ),
    "jobs fail, attempts are lost": (
        [
            series('adjobs_jobs_ended_total{state="failed"}', "0+1x100"),
            series('adjobs_jobs_ended_total{state="done"}', "0+9x100"),
            series("adjobs_attempts_lost_total", "0+0.01x100"),
        ],
        [fires("AdjobsJobsFailing", "60m", "warning"), fires("AdjobsAttemptsLost", "60m", None)],
    ),
    "a job waits for more than a day": (
        [series("adjobs_longest_wait_seconds", "0+60x2000")],
        [fires("AdjobsLongWait", "23h", None), fires("AdjobsLongWait", "25h", "warning")],
    ),
}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed; Debian has it in the package prometheus")
def test_alerts_fire_when_they_should_and_not_before(tmp_path):
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(read_yaml(RULES)["spec"]))
    tests = [
        {"name": name, "interval": "1m", "input_series": given, "alert_rule_test": alerts}
        for name, (given, alerts) in CASES.items()
    ]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": tests}))
    run("promtool", "check", "rules", tmp_path / "rules.yml")
    run("promtool", "test", "rules", tmp_path / "tests.yml")
