"""The manifests for Kubernetes, as far as they can be checked without a cluster."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from adjobs.queue.cron import check_cron, check_time_zone
from adjobs.queue.states import JobState
from adjobs.version import __version__
from tests.helpers.deploy import COMPOSE, KUBERNETES, ROOT, SECRET_NAME, parse_command, read_documents, read_yaml, strings

FOLDERS = ("base", "kueue", "monitoring", "retraining")
TEMPLATES = {"rayjob.yaml"}  # created by hand, one for each job
BASE = KUBERNETES / "base"
RAY_LABEL = {"ray.io/is-ray-node": "yes"}  # which KubeRay gives to each pod of Ray


@functools.cache
def objects(*folders: str) -> list[dict[str, Any]]:
    files = [path for folder in folders for path in sorted((KUBERNETES / folder).glob("*.yaml"))]
    return [document for path in files if path.name != "kustomization.yaml" for document in read_documents(path)]


def of_kind(*kinds: str, folders: tuple[str, ...] = ("base",)) -> list[dict[str, Any]]:
    return [item for item in objects(*folders) if item["kind"] in kinds]


WORKLOADS = of_kind("Deployment", "StatefulSet")
workloads = pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload["metadata"]["name"])


def ray_specs() -> Iterator[dict[str, Any]]:
    for item in of_kind("RayCluster", "RayJob", folders=FOLDERS):
        yield item["spec"].get("rayClusterSpec", item["spec"])


def pod_specs() -> Iterator[dict[str, Any]]:
    """Every pod of every manifest."""
    for workload in WORKLOADS:
        yield workload["spec"]["template"]["spec"]
    for job in of_kind("CronJob", folders=FOLDERS):
        yield job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    for spec in ray_specs():
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            yield group["template"]["spec"]


def created_secrets() -> dict[str, set[str]]:
    """The keys of each Secret that the script creates."""
    script = (KUBERNETES / "create-secrets").read_text().replace("\\\n", " ")
    lines = re.findall(r"^create (\S+) (.+)$", script, re.MULTILINE)
    return {name: {pair.partition("=")[0] for pair in pairs.split()} for name, pairs in lines}


# Files


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomization_lists_exactly_the_files_of_its_folder(folder):
    kustomization = read_yaml(KUBERNETES / folder / "kustomization.yaml")
    generators = kustomization.get("configMapGenerator", [])
    generated = [file for generator in generators for file in (*generator.get("files", []), *generator.get("envs", []))]
    listed = [*kustomization["resources"], *generated, "kustomization.yaml"]
    assert sorted([*listed, *TEMPLATES.intersection(path.name for path in (KUBERNETES / folder).iterdir())]) == sorted(
        path.name for path in (KUBERNETES / folder).iterdir()
    )


def test_objects_have_a_version_a_kind_and_a_name_of_their_own():
    names = []
    for item in objects(*FOLDERS):
        assert item["apiVersion"]
        names.append((item["kind"], item["metadata"].get("name") or item["metadata"]["generateName"]))
    assert len(names) == len(set(names))
    assert "Secret" not in {kind for kind, _ in names}


def test_custom_objects_have_the_versions_that_are_served():
    versions = {item["apiVersion"] for item in objects(*FOLDERS) if "." in item["apiVersion"].partition("/")[0]}
    assert versions == {"networking.k8s.io/v1", "ray.io/v1", "kueue.x-k8s.io/v1beta2", "monitoring.coreos.com/v1"}


def test_site_patches_change_values_that_exist():
    known = {(item["kind"], item["metadata"]["name"]): item for item in objects("base")}
    for patch in read_yaml(KUBERNETES / "site" / "kustomization.yaml")["patches"]:
        target = known[patch["target"]["kind"], patch["target"]["name"]]
        for line in patch["patch"].splitlines():
            change = re.fullmatch(r'- \{op: replace, path: (\S+), value: "?(.+?)"?\}', line)
            assert change, line
            value: Any = target
            for key in change[1].split("/")[1:]:
                value = value[int(key) if isinstance(value, list) else key]
            assert str(value) == change[2], change[1]  # the file shows the defaults


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.slow
@pytest.mark.parametrize("folder", ["site", "kueue", "monitoring"])
def test_kustomize_builds(folder):
    result = subprocess.run(["kubectl", "kustomize", KUBERNETES / folder], check=True, capture_output=True, text=True)
    assert re.findall(r"image: adjobs:", result.stdout) == []  # Ray's images are replaced, too


# Pods


@workloads
def test_workload_selects_its_own_pods_and_a_service_reaches_them(workload):
    name = workload["metadata"]["name"]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (service,) = [service for service in of_kind("Service") if service["spec"]["selector"].items() <= labels.items()]
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for port in service["spec"]["ports"]:
        assert ports[port["targetPort"]] == port["port"], name
    assert service["metadata"]["name"] == name == workload["spec"].get("serviceName", name)


@workloads
def test_workload_has_probes_of_ports_that_exist(workload):
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert "exec" in container[probe] or container[probe]["httpGet"]["port"] in ports


def test_dispatcher_is_one_and_probed_at_a_path_of_the_queue(queue_paths):
    (dispatcher,) = [workload for workload in WORKLOADS if workload["metadata"]["name"] == "dispatcher"]
    assert (dispatcher["spec"]["replicas"], dispatcher["spec"]["strategy"]["type"]) == (1, "Recreate")
    (container,) = dispatcher["spec"]["template"]["spec"]["containers"]
    paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths <= queue_paths
    params = parse_command(container["args"]).params
    assert (params["host"], params["port"]) == ("0.0.0.0", container["ports"][0]["containerPort"])


def test_pods_run_as_users_without_privileges():
    for pod in pod_specs():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        for container in pod["containers"]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["resources"]["limits"]["memory"]


def test_pods_mount_volumes_that_exist():
    for pod in pod_specs():
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted - volumes <= {"data"}, container["name"]  # of volumeClaimTemplates
            assert volumes <= mounted, container["name"]


def test_pods_use_secrets_and_settings_that_are_created():
    secrets, settings = created_secrets(), (BASE / "settings.env").read_text()
    used = {spec["authOptions"]["secretName"]: {"auth_token"} for spec in ray_specs()}
    for pod in pod_specs():
        for volume in pod.get("volumes", []):
            if "secret" in volume:
                used.setdefault(volume["secret"]["secretName"], set())
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                assert source.get("configMapRef", {"name": "settings"})["name"] == "settings"
                if "secretRef" in source:
                    used.setdefault(source["secretRef"]["name"], set())
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {})
                if "secretKeyRef" in reference:
                    used.setdefault(reference["secretKeyRef"]["name"], set()).add(reference["secretKeyRef"]["key"])
                if "configMapKeyRef" in reference:
                    assert f"{reference['configMapKeyRef']['key']}=" in settings
    assert set(used) == set(secrets)
    assert all(keys <= secrets[name] for name, keys in used.items())


def test_secrets_are_made_of_files_that_exist(tmp_path):
    subprocess.run([ROOT / "docker" / "make-secrets", tmp_path / "secrets"], check=True, capture_output=True)
    script = (KUBERNETES / "create-secrets").read_text().replace("\\\n", " ")
    pairs = " ".join(re.findall(r"^create \S+ (.+)$", script, re.MULTILINE)).split()
    assert {pair.partition("=")[2] for pair in pairs} == {path.name for path in (tmp_path / "secrets").iterdir()}


def test_environment_holds_no_secret_in_plain_text():
    for pod in pod_specs():
        for container in pod["containers"]:
            plain = [item["name"] for item in container.get("env", []) if "value" in item and SECRET_NAME.search(item["name"])]
            assert [name for name in plain if not name.endswith("_FILE")] == []
    assert not SECRET_NAME.search((BASE / "settings.env").read_text())


# Versions


def test_images_are_pinned_and_those_of_this_version():
    images = {container["image"] for pod in pod_specs() for container in pod["containers"]}
    own = {image for image in images if "adjobs" in image}
    assert {image.rpartition(":")[2] for image in own} == {__version__, f"{__version__}-cuda"}
    others = {service["image"] for service in read_yaml(COMPOSE)["services"].values()}
    assert images - own <= others  # one version of each, here and in the containers of one machine


def test_ray_version_is_that_of_the_image():
    (ray,) = re.findall(r"^ray==(.+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert {spec["rayVersion"] for spec in ray_specs()} == {ray}


def test_s3_has_the_options_of_the_containers_of_one_machine():
    compose = read_yaml(COMPOSE)["services"]["s3"]["command"]
    (s3,) = [workload for workload in WORKLOADS if workload["metadata"]["name"] == "s3"]
    arguments = s3["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments == compose


# Ray and Kueue


def test_ray_groups_have_ordered_sizes_and_a_head_without_cpus():
    for spec in ray_specs():
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert spec["authOptions"]["mode"] == "token"
        for group in spec["workerGroupSpecs"]:
            assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_dispatcher_calls_the_head_of_the_cluster():
    (cluster,) = of_kind("RayCluster")
    text = json.dumps(objects("base"))
    assert f"http://{cluster['metadata']['name']}-head-svc:8265" in text  # KubeRay names the service


def test_rayjob_entrypoint_and_queues_exist():
    (job,) = of_kind("RayJob", folders=("kueue",))
    assert parse_command(job["spec"]["entrypoint"].split())
    names = {(item["kind"], item["metadata"]["name"]) for item in objects("kueue") if item["kind"] != "RayJob"}
    assert ("LocalQueue", job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]) in names
    assert ("WorkloadPriorityClass", job["metadata"]["labels"]["kueue.x-k8s.io/priority-class"]) in names
    (local,), (cluster,) = of_kind("LocalQueue", folders=("kueue",)), of_kind("ClusterQueue", folders=("kueue",))
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    (group,) = cluster["spec"]["resourceGroups"]
    for flavor in group["flavors"]:
        assert ("ResourceFlavor", flavor["name"]) in names
        assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]


def test_retraining_is_one_at_a_time_and_reaches_what_it_calls():
    (job,) = of_kind("CronJob", folders=("retraining",))
    check_cron(job["spec"]["schedule"])
    check_time_zone(job["spec"]["timeZone"])
    assert (job["spec"]["concurrencyPolicy"], job["spec"]["startingDeadlineSeconds"] > 10) == ("Forbid", True)
    template = job["spec"]["jobTemplate"]["spec"]["template"]
    assert parse_command(template["spec"]["containers"][0]["args"])
    selector = {"matchLabels": template["metadata"]["labels"]}
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind("NetworkPolicy", folders=("retraining",))}
    assert policies["retrain"]["podSelector"] == selector
    for name in ("mlflow", "s3"):
        (base,) = (policy["spec"] for policy in of_kind("NetworkPolicy") if policy["metadata"]["name"] == name)
        (rule,) = policies[f"{name}-for-retrain"]["ingress"]
        assert rule == {"from": [{"podSelector": selector}], "ports": base["ingress"][0]["ports"]}
        assert {"to": [{"podSelector": base["podSelector"]}], "ports": rule["ports"]} in policies["retrain"]["egress"]


# Network


def test_network_policies_deny_by_default_and_name_pods_and_ports_that_exist():
    policies = of_kind("NetworkPolicy")
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in [policy["spec"] for policy in policies]
    names = {workload["metadata"]["name"] for workload in WORKLOADS}
    containers = [container for pod in pod_specs() for container in pod["containers"]]
    ports = {port["containerPort"] for container in containers for port in container.get("ports", [])}
    outside = {"kube-system", "kuberay-operator"}, {53, 443, 6443}
    for selector in (item for policy in policies for item in _selectors(policy["spec"])):
        for key, value in selector.get("matchLabels", {}).items():
            assert {key: value} == RAY_LABEL or value in names | outside[0], value
        for expression in selector.get("matchExpressions", []):
            assert set(expression["values"]) <= names
    used = {port["port"] for policy in policies for rule in _rules(policy["spec"]) for port in rule.get("ports", [])}
    assert used <= ports | outside[1]


def test_clients_of_mlflow_have_its_account_and_reach_it():
    for container in (container for pod in pod_specs() for container in pod["containers"]):
        sources = [reference["name"] for source in container.get("envFrom", []) for reference in source.values()]
        assert ("settings" in sources) == ("mlflow-jobs" in sources), container["name"]
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind("NetworkPolicy")}
    mlflow, port = {"matchLabels": {"app.kubernetes.io/name": "mlflow"}}, [{"protocol": "TCP", "port": 5000}]
    (rule,) = policies["mlflow"]["ingress"]
    assert rule["ports"] == port
    for name in ("dispatcher", "ray"):
        assert {"podSelector": policies[name]["podSelector"]} in rule["from"], name
        assert {"to": [{"podSelector": mlflow}], "ports": port} in policies[name]["egress"], name


def _rules(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("ingress", []), *spec.get("egress", [])]


def _selectors(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield spec["podSelector"]
    for rule in _rules(spec):
        for peer in (*rule.get("from", []), *rule.get("to", [])):
            yield from peer.values()


# Monitoring


def test_monitoring_reads_a_path_and_figures_that_exist(queue_paths):
    (monitor,) = of_kind("ServiceMonitor", folders=("monitoring",))
    (service,) = [service for service in of_kind("Service") if service["metadata"]["name"] == "dispatcher"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] in queue_paths
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    source = (ROOT / "adjobs" / "queue" / "metrics.py").read_text()
    names = re.findall(r'"(adjobs_\w+)"', source)
    figures = {name + suffix for name in names for suffix in ("", "_total", "_bucket", "_sum", "_count")}
    for expression in _expressions():
        assert set(re.findall(r"\badjobs_\w+", expression)) <= figures, expression
        assert set(re.findall(r"adjobs_\w+", expression)), expression
        states = "|".join(re.findall(r'state=~?"([^"]*)"', expression)).split("|")
        assert {state for state in states if state} <= {state.value for state in JobState}, expression


def _expressions() -> list[str]:
    (rules,) = of_kind("PrometheusRule", folders=("monitoring",))
    dashboard = json.loads((KUBERNETES / "monitoring" / "adjobs-dashboard.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [*targets, *(rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"])]


def test_alerts_name_commands_that_exist():
    (rules,) = of_kind("PrometheusRule", folders=("monitoring",))
    commands = [command for text in strings(rules) for command in re.findall(r'"(adjobs [^"]+)"', text)]
    assert commands
    for command in commands:
        parse_command(command.split())


def test_databases_are_made_by_a_script_of_its_own_process():
    (postgres,) = [workload for workload in WORKLOADS if workload["metadata"]["name"] == "postgres"]
    (volume,) = [volume for volume in postgres["spec"]["template"]["spec"]["volumes"] if "configMap" in volume]
    assert volume["configMap"] == {"name": "create-databases", "defaultMode": 0o555}
    assert (BASE / "create-databases.sh").stat().st_mode & 0o555 == 0o555
