"""The Kubernetes manifests as their schemas see them, and what they mean together."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

import kubernetes_validate
import pytest
import ray
from deploy_files import README, TOOLS, complaints, documents, inner, schema
from jsonschema import Draft202012Validator
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.scripts.scripts import drain_node

from orchestrator.config import load
from trainers.lm.options import BUILT_IN_CORPORA

PLAIN = documents("kuberay/storage.yaml", "kuberay/postgres.yaml", "kuberay/mlflow.yaml")
(CLUSTER,) = documents("kuberay/raycluster.yaml")
(JOB,) = documents("kuberay/rayjob.yaml")
EVERYTHING = [*PLAIN, CLUSTER, JOB]
SPEC = CLUSTER["spec"]
HEAD = SPEC["headGroupSpec"]
(WORKERS,) = SPEC["workerGroupSpecs"]
PODS = [mapping["template"] for document in EVERYTHING for mapping in inner(document) if "template" in mapping]
CONTAINERS = [container for pod in PODS for container in pod["spec"]["containers"]]
KUBERNETES = "1.37.0"


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {document["metadata"]["name"]: document for document in PLAIN if document["kind"] == kind}


def env(container: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in container.get("env", [])}


def describe(document: Mapping[str, Any]) -> str:
    return f"{document['kind']}-{document['metadata']['name']}"


@pytest.mark.parametrize("document", PLAIN, ids=describe)
def test_kubernetes_would_take_it(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("group", [HEAD, WORKERS], ids=["head", "workers"])
def test_kubernetes_would_take_the_pods_of_ray(group: dict[str, Any]) -> None:
    template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": group["template"]}
    kubernetes_validate.validate(template, KUBERNETES, strict=True)


def test_kubernetes_would_refuse_a_wrong_key() -> None:
    broken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


@pytest.mark.parametrize("document", [CLUSTER, JOB], ids=describe)
def test_kuberay_would_take_it(document: dict[str, Any]) -> None:
    rules = Draft202012Validator(json.loads(schema(f"{document['kind'].lower()}.schema.json").read_text()))
    assert [error.message for error in rules.iter_errors(document)] == []
    broken = document | {"spec": document["spec"] | {"imagined": 1}}
    assert "imagined" in next(rules.iter_errors(broken)).message


def test_the_job_has_the_cluster_with_a_fixed_number_of_workers() -> None:
    fixed = copy.deepcopy(SPEC)
    del fixed["autoscalerOptions"]
    fixed["enableInTreeAutoscaling"] = False
    fixed["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"] = False
    (group,) = fixed["workerGroupSpecs"]
    group["replicas"] = group["minReplicas"] = group["maxReplicas"]
    assert JOB["spec"]["rayClusterSpec"] == fixed


def test_the_autoscaler_starts_spot_workers_when_a_sweep_asks_for_them() -> None:
    types = _derive_autoscaling_config_from_ray_cr(CLUSTER | {"metadata": {"name": "x", "namespace": "y"}})
    workers = types["available_node_types"]["gpu-spot"]
    assert (workers["min_workers"], workers["max_workers"]) == (0, 4)
    assert workers["labels"] == {"ray.io/market-type": "spot"}
    assert workers["resources"]["GPU"] == 1
    assert SPEC["autoscalerOptions"]["version"] == "v2"  # the first one knows no labels
    assert f"cluster.workers={workers['max_workers']}" in README


def test_the_autoscaler_beside_the_head_has_the_account_that_it_needs() -> None:
    assert SPEC["enableInTreeAutoscaling"] is True
    assert HEAD["template"]["spec"].get("automountServiceAccountToken", True) is True
    assert SPEC["autoscalerOptions"]["securityContext"] == HEAD["template"]["spec"]["containers"][0]["securityContext"]


def test_a_worker_hands_over_before_its_pod_goes() -> None:
    pod = WORKERS["template"]["spec"]
    *shell, script = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert shell == ["bash", "-c"]
    assert complaints(TOOLS / "shellcheck", "-", given=f"#!/bin/bash\n{script}") == ""
    before, drain, after = re.split(r"ray drain-node | && ", script)
    (patience,) = re.findall(r"timeout -s KILL (\d+) $", before)
    (slept,) = re.findall(r"^sleep (\d+)\s*$", after)
    assert int(patience) + int(slept) < pod["terminationGracePeriodSeconds"]
    options = drain_node.make_context("drain-node", shlex.split(drain)).params
    assert options["reason"] == "DRAIN_NODE_REASON_PREEMPTION"
    assert options["node_id"] is None  # the node that it is given on
    assert options["deadline_remaining_seconds"] >= int(slept)


def test_the_cluster_runs_the_ray_of_the_image() -> None:
    assert SPEC["rayVersion"] == ray.__version__


def test_the_head_takes_no_work() -> None:
    assert HEAD["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in HEAD["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_the_head_stays_off_spot_nodes_and_the_workers_are_let_onto_them() -> None:
    head, workers = HEAD["template"]["spec"], WORKERS["template"]["spec"]
    assert head["nodeSelector"] == {"scalesweep/capacity": "on-demand"}
    assert "tolerations" not in head
    assert workers["nodeSelector"] == {"scalesweep/capacity": "spot"}
    tolerated = {entry["key"] for entry in workers["tolerations"]}
    assert tolerated == {"scalesweep/capacity", "nvidia.com/gpu"}


def test_ray_asks_for_a_token() -> None:
    assert SPEC["authOptions"]["mode"] == "token"


def test_the_job_tries_again_and_cleans_up() -> None:
    job = JOB["spec"]
    assert 0 < job["backoffLimit"] <= 3  # wrong input is tried as often, with all workers
    assert job["shutdownAfterJobFinishes"] is True
    assert 0 < job["ttlSecondsAfterFinished"] < job["activeDeadlineSeconds"]


def test_the_entrypoint_is_a_sweep_that_its_workers_can_run() -> None:
    words = JOB["spec"]["entrypoint"].split()
    assert words[:2] == ["scalesweep", "run"]
    sweep = load(words[2], [words[i + 1] for i, word in enumerate(words) if word == "--set"])
    assert sweep.cluster.address == "auto"
    assert sweep.cluster.wait_minutes > 0
    assert sweep.storage is not None and sweep.storage.startswith("/sweeps/")
    limits = WORKERS["template"]["spec"]["containers"][0]["resources"]["limits"]
    wanted = sweep.resources_of("default")
    assert wanted.gpus <= float(limits["nvidia.com/gpu"])
    assert wanted.cpus <= float(limits["cpu"])
    assert sweep.trainer_ref().options["corpus"] in BUILT_IN_CORPORA  # which the head prepares in seconds


def test_every_node_has_the_run_folder() -> None:
    claim = of_kind("PersistentVolumeClaim")["scalesweep-sweeps"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for group in (HEAD, WORKERS):
        pod = group["template"]["spec"]
        (volume,) = [
            v["name"]
            for v in pod["volumes"]
            if v.get("persistentVolumeClaim", {}) == {"claimName": "scalesweep-sweeps"}
        ]
        assert {"name": volume, "mountPath": "/sweeps"} in pod["containers"][0]["volumeMounts"]
    assert "--dir /sweeps/" in JOB["spec"]["entrypoint"]


def test_no_volume_is_mounted_that_is_not_there() -> None:
    claims = {mapping["claimName"] for document in EVERYTHING for mapping in inner(document) if "claimName" in mapping}
    assert claims <= of_kind("PersistentVolumeClaim").keys()
    made = {
        claim["metadata"]["name"]
        for claim in of_kind("StatefulSet")["scalesweep-postgres"]["spec"]["volumeClaimTemplates"]
    }
    for pod in PODS:
        known = made | {volume["name"] for volume in pod["spec"].get("volumes", [])}
        assert {mount["name"] for c in pod["spec"]["containers"] for mount in c["volumeMounts"]} <= known


def test_addresses_are_services() -> None:
    services = {name: document["spec"]["ports"][0]["port"] for name, document in of_kind("Service").items()}
    (uri,) = re.findall(r"tracking\.uri=(\S+)", JOB["spec"]["entrypoint"])
    assert uri == f"http://scalesweep-mlflow:{services['scalesweep-mlflow']}"
    (server,) = of_kind("Deployment")["scalesweep-mlflow"]["spec"]["template"]["spec"]["containers"]
    assert env(server)["MLFLOW_BACKEND_STORE_URI"]["value"].partition("@")[2] == "scalesweep-postgres/mlflow"
    assert services["scalesweep-postgres"] == 5432
    assert "studies.uri=postgresql+psycopg://scalesweep@scalesweep-postgres/studies" in JOB["spec"]["entrypoint"]
    (allowed,) = [word for word in server["args"] if word.startswith("--allowed-hosts=")]
    assert uri.removeprefix("http://") in allowed.partition("=")[2].split(",")


def test_the_studies_have_a_database_beside_mlflows() -> None:
    scripts = of_kind("ConfigMap")["scalesweep-postgres"]["data"]
    assert scripts == {"studies.sql": "CREATE DATABASE studies;"}
    pod = of_kind("StatefulSet")["scalesweep-postgres"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"name": "studies", "mountPath": "/docker-entrypoint-initdb.d"} in container["volumeMounts"]
    probe = container["readinessProbe"]["exec"]["command"]
    assert probe[probe.index("--host") + 1] == "127.0.0.1"  # while it makes the databases it listens on a socket alone
    assert pod["volumes"] == [{"name": "studies", "configMap": {"name": "scalesweep-postgres"}}]
    assert env(container)["POSTGRES_DB"]["value"] == "mlflow"
    (head,) = HEAD["template"]["spec"]["containers"]
    assert env(head)["PGPASSWORD"]["valueFrom"] == env(container)["POSTGRES_PASSWORD"]["valueFrom"]


def test_services_find_their_pods() -> None:
    labels = [pod.get("metadata", {}).get("labels", {}) for pod in PODS]
    for service in of_kind("Service").values():
        assert service["spec"]["selector"] in labels


def test_secrets_come_by_reference_and_the_readme_makes_them() -> None:
    assert not [document for document in EVERYTHING if document["kind"] == "Secret"]
    made = set(re.findall(r"--from-literal=([\w-]+)=", README))
    used = set()
    for container in CONTAINERS:
        for name, entry in env(container).items():
            if re.search("PASSWORD|TOKEN|SECRET|KEY", name):
                assert "value" not in entry, name
                reference = entry["valueFrom"]["secretKeyRef"]
                assert reference["name"] == "scalesweep-mlflow"
                used.add(reference["key"])
    assert used == made


def test_a_password_is_known_before_the_address_that_holds_it() -> None:
    (server,) = of_kind("Deployment")["scalesweep-mlflow"]["spec"]["template"]["spec"]["containers"]
    names = list(env(server))
    assert "$(POSTGRES_PASSWORD)" in env(server)["MLFLOW_BACKEND_STORE_URI"]["value"]
    assert names.index("POSTGRES_PASSWORD") < names.index("MLFLOW_BACKEND_STORE_URI")


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container["name"])
def test_a_container_is_pinned_bounded_and_unprivileged(container: dict[str, Any]) -> None:
    assert re.search(r":\d+\.\d+", container["image"])
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert "memory" in container["resources"]["limits"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["spec"]["containers"][0]["name"])
def test_a_pod_is_no_root_and_gets_no_addresses_as_variables(pod: dict[str, Any]) -> None:
    """A service's variables would be read as options: mlflow takes MLFLOW_PORT."""
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["enableServiceLinks"] is False
