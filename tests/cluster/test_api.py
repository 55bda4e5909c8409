"""The InferenceModel on a real API server: what it accepts, refuses and shows, and that lint and it agree."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atalaya_spec.model_files import check_object
from cluster.access import Cluster
from cluster.crd import EXAMPLES, ApiServer, documents, install_crds

ACCEPTS = "accepts it"
MODEL = {"uri": "s3://models/m"}


@pytest.fixture(scope="module")
def definition(cluster: Cluster) -> None:
    install_crds(cluster)


@pytest.fixture
def api_server(cluster: Cluster, definition: None) -> Iterator[ApiServer]:
    asked = ApiServer(cluster, "default")
    yield asked
    asked.close()


def test_every_valid_example_can_be_applied(cluster: Cluster, namespace: str, definition: None, tmp_path: Path) -> None:
    for file in sorted((EXAMPLES / "valid").glob("*.yaml")):
        here = tmp_path / file.name  # in the test's namespace, whatever the example says
        here.write_text(file.read_text().replace("namespace: disaster-response", f"namespace: {namespace}")
                        .replace("namespace: default", f"namespace: {namespace}"))  # fmt: skip
    cluster.kubectl("apply", "--dry-run=server", "--namespace", namespace, "--filename", str(tmp_path))


def test_every_invalid_example_is_refused_for_the_reason_it_states(api_server: ApiServer) -> None:
    wrong = []
    for file in sorted((EXAMPLES / "invalid").glob("*.yaml")):
        reason = next(line for line in file.read_text().splitlines() if line.startswith("# api-server: "))
        reason = reason.removeprefix("# api-server: ")
        told = " ".join(" ".join(map(api_server.refusal, documents(file))).split())
        if reason.startswith(ACCEPTS):
            if told and "ConfigMap" not in reason:
                wrong.append((file.name, reason, told))
        elif reason not in told:
            wrong.append((file.name, reason, told))
    assert wrong == []


def test_more_than_twenty_five_examples_are_refused_by_the_api_server_itself() -> None:
    refused = [file for file in (EXAMPLES / "invalid").glob("*.yaml") if ACCEPTS not in file.read_text()]
    assert len(refused) >= 25


# Values at the edges of each field: lint and the API server must say the same of every one.
EDGES: dict[str, tuple[Any, ...]] = {
    "engine": ("openvino", "tensorflow", "atalaya", "", "OpenVINO", 1),
    "backend": ("openvino", "tensorflow", ""),
    "engineVersion": ("2025.0", "2025.4.1", "2026.3", "2026.3.9", "2026.2.1", "2026.4", "2026.30", "2024.6", "2026",
                      "v2026.3", "2026.3-gpu", "2026.3.1.1", "02026.3", "", 2026.3),
    "image": ("ubuntu", "a/b:c", "h:5000/a/b@sha256:" + "0" * 64, "A/b", "a b", "a:", "/a", "a" * 513, "", 5),
    "model.uri": ("s3://b", "s3://b/c/d", "gs://b/x", "az://c/x", "pvc://claim", "pvc://claim/a b",
                  "pvc://Claim/a", "pvc://claim:80/a", "pvc://a.b/c", "pvc://a_b", "oci://r/x:1",
                  "oci://r", "https://h/x", "https://h:8443/x", "https://h", "https://h/", "https://u:p@h/x",
                  "https://h/x?y", "s3://b/x#y", "s3://b/../c", "s3://b/c/..", "s3://b/..c", "s3://", "s3:///x",
                  "ftp://x/y", "S3://b", "azure://c/x", "file:///m", "./m", "/m", "m", "", " ", "s3://b/\n", 7,
                  "s3://" + "b" * 1019, "s3://" + "b" * 1020),
    "model.credentialsSecret": ("store", "a.b", "A", "", "a" * 253, "a" * 254, "a_b"),
    "model.versions": ({}, {"latest": 1}, {"latest": 0}, {"latest": 101}, {"specific": []}, {"specific": [1, 2]},
                       {"specific": [1, 1]}, {"specific": [0]}, {"specific": [2**31]}, {"all": {}}, {"all": {"x": 1}},
                       {"latest": 1, "all": {}}, {"specific": list(range(1, 102))}, [], "latest"),
    "protocols": ([], ["kserve-v2"], ["kserve-v2", "tensorflow-serving"], ["kserve-v2", "kserve-v2"], ["grpc"]),
    "devices": ([], ["cpu"], ["gpu.intel.com/xe", "cpu"], ["cpu", "cpu"], ["nvidia.com/gpu"], ["npu.intel.com/accel"],
                ["nvidia.com/mig-1g.5gb"], ["nvidia.com/mig-1g.5gb.me"], ["nvidia.com/mig-1g"], ["gpu"], "cpu",
                ["nvidia.com/gpu.shared"], ["nvidia.com/mig-1g.5gb.shared"], ["nvidia.com/mig-1g.shared"]),
    "fallBackAfter": ("2m", "90s", "0s", "2", 120, "2 m"),
    "moveUpAfter": ("10m", "1h", "0m", "1d", 600),
    "resources": ({}, {"requests": {}}, {"requests": {"cpu": 1}}, {"requests": {"cpu": "0.5"}},
                  {"requests": {"cpu": 0.5}}, {"requests": {"cpu": "1m"}}, {"requests": {"cpu": "0.0001"}},
                  {"requests": {"cpu": "1Ki"}}, {"requests": {"cpu": 0}}, {"requests": {"cpu": "-1"}},
                  {"requests": {"cpu": "2k"}}, {"requests": {"memory": "1Gi"}}, {"requests": {"memory": "1.5Gi"}},
                  {"requests": {"memory": 1048576}}, {"requests": {"memory": "512m"}}, {"requests": {"memory": "1gi"}},
                  {"requests": {"memory": "0"}}, {"requests": {"memory": "1e9"}}, {"requests": {"nvidia.com/gpu": 1}},
                  {"requests": {"cpu": 2}, "limits": {"cpu": "1900m"}}, {"limits": {"cpu": 1}},
                  {"requests": {"memory": "1Gi"}, "limits": {"memory": "1024Mi"}},
                  {"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}}),
    "batching": ({}, {"maxSize": 1}, {"maxSize": 4096}, {"maxSize": 4097}, {"maxSize": "1"}, {"maxSize": 1.5},
                 {"maxSize": 8, "timeout": "2ms"}, {"maxSize": 8, "timeout": "500µs"}, {"maxSize": 8, "timeout": "0s"},
                 {"maxSize": 8, "timeout": "1.5s"}, {"maxSize": 8, "timeout": 2}, {"maxSize": 8, "timeout": "1d"}),
    "replicas": (0, 1, 1000, 1001, -1, "1", 1.5),
    "scaling": ({"max": 3, "concurrency": 4}, {"max": 3}, {"concurrency": 4}, {"max": 0, "concurrency": 1},
                {"min": 4, "max": 3, "concurrency": 4}, {"min": 0, "max": 3, "concurrency": 4},
                {"max": 3, "cpu": "70%"}, {"max": 3, "cpu": "0%"}, {"max": 3, "cpu": "101%"}, {"max": 3, "cpu": 70},
                {"max": 3, "latencyP95": "50ms"}, {"max": 3, "latencyP95": "50"}, {"max": 3, "queue": {}},
                {"max": 3, "queue": {"length": 8}}, {"min": 0, "max": 3, "queue": {"length": 8}},
                {"min": 0, "max": 3, "queue": {"length": 8, "query": "up"}},
                {"max": 3, "queue": {"length": 8, "query": " "}}, {"max": 3, "concurrency": 4, "latencyP95": "1s"}),
    "rollout": ({},),
}  # fmt: skip
ENGINES: tuple[dict[str, Any], ...] = (
    {"engine": "openvino"},
    {"engine": "tensorflow"},
    {"engine": "atalaya"},
    {"engine": "atalaya", "backend": "tensorflow"},
    {"engine": "openvino", "resources": {"requests": {"cpu": 1}}, "replicas": 1},
    {"engine": "tensorflow", "resources": {"requests": {"cpu": 1}}, "model": {"uri": "pvc://claim"}},
    {"engine": "openvino", "devices": ["npu.intel.com/accel"], "batching": {"maxSize": 2}},
)
NAMES = (
    "m",
    "haiti-damage",
    "a" * 52,
    "a" * 53,
    "2m",
    "m.x",
    "M",
    "m_",
    "-m",
    "m-",
    "m-headless",
    "m-0123456789",
    "m-012345678",
    "headless",
    "",
)


ALIKE_FOR_ALL_ENGINES = ("model.uri", "image", "protocols", "model.versions", "rollout")


def edge_cases() -> Iterator[dict[str, Any]]:
    base = {"apiVersion": "serving.atalaya.dev/v1alpha1", "kind": "InferenceModel"}
    for name in NAMES:
        yield {**base, "metadata": {"name": name}, "spec": {"engine": "openvino", "model": MODEL}}
    for field, values in EDGES.items():
        for value in values:
            for engine in ENGINES[:1] if field in ALIKE_FOR_ALL_ENGINES else ENGINES:
                spec = {"model": MODEL, **engine}
                if field.startswith("model."):
                    spec["model"] = {**spec["model"], field.removeprefix("model."): value}
                else:
                    spec[field] = value
                yield {**base, "metadata": {"name": "m"}, "spec": spec}


def test_lint_and_the_api_server_agree_on_every_edge(api_server: ApiServer) -> None:
    differences, refused = [], 0
    for case in edge_cases():
        told = api_server.refusal(case)
        problems = check_object(case)[1].problems
        refused += bool(told)
        if bool(told) != bool(problems):
            differences.append((json.dumps(case["spec"] | {"name": case["metadata"]["name"]})[:200], told, problems))
    assert differences == []
    assert refused > 300


def test_what_is_left_out_is_filled_in_and_shown(cluster: Cluster, namespace: str, definition: None) -> None:
    spec = {"engine": "openvino", "model": MODEL}
    shape = {"apiVersion": "serving.atalaya.dev/v1alpha1", "kind": "InferenceModel", "metadata": {"name": "m"}}
    cluster.apply({**shape, "spec": spec}, namespace=namespace)
    kept = cluster.get("im/m", namespace)["spec"]
    assert kept["devices"] == ["cpu"]
    assert "versions" not in kept["model"]
    status = {"ready": "1/2", "device": "cpu", "version": "3", "reason": "Loading", "selector": "a=b", "replicas": 2}
    cluster.kubectl("patch", "im/m", "--namespace", namespace, "--subresource=status", "--type=merge",
                    "--patch", json.dumps({"status": status}))  # fmt: skip
    header, row = cluster.kubectl("get", "im", "--namespace", namespace).splitlines()
    assert header.split() == ["NAME", "ENGINE", "DEVICE", "VERSION", "READY", "REASON", "AGE"]
    assert row.split()[:6] == ["m", "openvino", "cpu", "3", "1/2", "Loading"]
    assert "inferencemodel.serving.atalaya.dev/m" in cluster.kubectl(
        "get", "all", "--namespace", namespace, "--output=name"
    )


@pytest.mark.parametrize("how", ["--server-side=true", "--server-side=false"])
def test_a_model_that_said_nothing_of_versions_may_name_them_later(
    cluster: Cluster, namespace: str, definition: None, how: str
) -> None:
    shape = {"apiVersion": "serving.atalaya.dev/v1alpha1", "kind": "InferenceModel", "metadata": {"name": "m"}}
    for versions in (None, {"specific": [3]}, {"latest": 2}, None):
        location = MODEL if versions is None else {**MODEL, "versions": versions}
        manifest = json.dumps({**shape, "spec": {"engine": "openvino", "model": location}})
        cluster.kubectl("apply", how, "--namespace", namespace, "--filename=-", stdin=manifest)
        assert cluster.get("im/m", namespace)["spec"]["model"].get("versions") == versions


def test_kubectl_scales_a_model_that_says_its_replicas(cluster: Cluster, namespace: str, definition: None) -> None:
    spec = {"engine": "openvino", "model": MODEL, "replicas": 1}
    shape = {"apiVersion": "serving.atalaya.dev/v1alpha1", "kind": "InferenceModel", "metadata": {"name": "m"}}
    cluster.apply({**shape, "spec": spec}, namespace=namespace)
    cluster.kubectl("scale", "im/m", "--namespace", namespace, "--replicas=3")
    assert cluster.get("im/m", namespace)["spec"]["replicas"] == 3
