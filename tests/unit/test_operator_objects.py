"""What holds for the objects of every model: restricted pods, stable names, selectors that never change."""

import re
from dataclasses import replace
from typing import Any

import pytest

from atalaya_operator.desired_state import model_objects, replicas, revision, revision_objects
from atalaya_operator.manifests.autoscaler import lacking
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.platform import Platform
from atalaya_operator.pod import DRAIN_SECONDS, GRACE_SECONDS
from atalaya_operator.revision import Decisions, Manifest, PinnedVersion
from atalaya_spec.errors import UsageError
from atalaya_spec.names import MAX_NAME_LENGTH
from atalaya_spec.server_versions import drives, known_versions
from builders_operator import CASES, DIGEST, PLAIN, STORES, WITH_MONITORING, Case, inference_model

ALL = [pytest.param(case, id=name) for name, case in CASES.items()]


def of_kind(objects: list[Manifest], kind: str) -> list[Manifest]:
    return [one for one in objects if one["kind"] == kind]


def pod(case: Case) -> Manifest:
    return dict(case.revision.template["spec"])


def containers(case: Case) -> list[Manifest]:
    return [*pod(case).get("initContainers", ()), *pod(case)["containers"]]


def server(case: Case) -> Manifest:
    return next(one for one in containers(case) if one["name"] == "server")


def digest(**spec: Any) -> str:
    return Case(spec).revision.digest


@pytest.mark.parametrize("case", ALL)
def test_every_container_is_restricted_and_keeps_the_images_own_command(case: Case) -> None:
    security = pod(case)["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(case):
        assert "command" not in container
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
    assert pod(case)["automountServiceAccountToken"] is False


@pytest.mark.parametrize("case", ALL)
def test_every_object_says_whose_it_is_and_goes_with_its_model(case: Case) -> None:
    objects = case.objects(Subject(case.model, uid="1234"))
    for one in objects:
        metadata = one["metadata"]
        assert metadata["labels"]["serving.atalaya.dev/model"] == "haiti-damage"
        assert [owner["uid"] for owner in metadata["ownerReferences"]] == ["1234"]
        assert metadata["namespace"] == "default"
    assert len({(one["kind"], one["metadata"]["name"]) for one in objects}) == len(objects)


@pytest.mark.parametrize("case", ALL)
def test_names_fit_for_the_longest_name_of_a_model(case: Case) -> None:
    longest = replace(case, name="m" * MAX_NAME_LENGTH)
    for one in longest.objects():
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"])
        assert len(one["metadata"]["name"]) <= 63
        assert all(len(value) <= 63 for value in one["metadata"]["labels"].values())


@pytest.mark.parametrize("case", ALL)
def test_the_services_lead_to_the_pods_of_the_serving_revision_and_to_ports_they_have(case: Case) -> None:
    objects = case.objects()
    (deployment,) = of_kind(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    open_ports = {port["containerPort"] for container in containers(case) for port in container.get("ports", ())}
    services = of_kind(objects, "Service")
    assert [one["metadata"]["name"] for one in services] == ["haiti-damage", "haiti-damage-headless"]
    for one in services:
        assert one["spec"]["selector"].items() <= labels.items()
        assert one["spec"]["selector"]["serving.atalaya.dev/revision"] == case.revision.digest
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= open_ports
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("case", ALL)
def test_a_pod_is_ready_only_with_its_model_and_drains_before_it_ends(case: Case) -> None:
    for name in ("startupProbe", "readinessProbe"):
        assert "/haiti-damage/versions/" in server(case)[name]["httpGet"]["path"]
    for container in pod(case)["containers"]:
        assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": DRAIN_SECONDS}}
    # Clients leave a pod at the latest when their connection's age ends, a tenth later than it is told.
    (arguments,) = [one for one in server(case)["args"] if one.startswith("--grpc_channel_arguments=")]
    assert int(re.search(r"max_connection_age_ms=(\d+)", arguments)[1]) / 1000 * 1.1 < DRAIN_SECONDS
    assert pod(case)["terminationGracePeriodSeconds"] == GRACE_SECONDS > DRAIN_SECONDS


@pytest.mark.parametrize("case", ALL)
def test_a_model_is_mounted_read_only_and_fetched_before_the_server_starts(case: Case) -> None:
    mounts = {mount["name"]: mount for mount in server(case)["volumeMounts"]}
    model = case.model.spec.model
    fetched = [one for one in pod(case).get("initContainers", ()) if one["name"] == "fetch"]
    reads_itself = case.model.spec.engine == "openvino" and model.uri.scheme in ("s3", "gs", "az")
    assert bool(fetched) == (model.uri.scheme != "pvc" and not reads_itself)
    assert ("model" in mounts) == (not reads_itself)
    assert reads_itself or mounts["model"]["readOnly"]
    volumes = {volume["name"] for volume in pod(case)["volumes"]}
    used = {mount["name"] for one in containers(case) for mount in one["volumeMounts"]}
    assert used == volumes


def test_credentials_go_to_what_reads_the_store_and_to_nothing_else() -> None:
    for name, reader in (("openvino-cpu-s3", "server"), ("tensorflow-cpu-s3", "fetch"), ("atalaya-cpu-gs", "fetch")):
        with_secret = [one["name"] for one in containers(CASES[name]) if "envFrom" in one]
        assert with_secret == [reader]


def test_the_same_model_gives_the_same_revision_and_what_changes_the_pod_gives_another() -> None:
    assert digest() == digest()
    others = {digest(engineVersion="2026.2.1"), digest(devices=["gpu.intel.com/xe"]), digest(store="pvc"),
              digest(resources={"requests": {"cpu": 1}}), digest(batching={"maxSize": 2}),
              digest(image="mine:1"), digest(protocols=["kserve-v2", "tensorflow-serving"])}  # fmt: skip
    assert len(others | {digest()}) == 8
    versions = {Case({}, (PinnedVersion(n),)).revision.digest for n in (3, 4)}
    assert len(versions | {Case({}, (PinnedVersion(3, DIGEST),)).revision.digest}) == 3


def test_files_of_a_server_are_part_of_its_revision() -> None:
    timeouts = [{"maxSize": 8, "timeout": timeout} for timeout in ("1ms", "2ms")]
    assert len({digest(engine="tensorflow", batching=batching) for batching in timeouts}) == 2


def test_replicas_and_scaling_make_no_new_revision() -> None:
    plain = digest()
    assert digest(replicas=5) == digest(scaling={"max": 3, "concurrency": 2}) == plain
    assert digest(model={"versions": {"all": {}}}) == plain  # what `all` means now is decided outside


def test_an_autoscaler_owns_the_replicas() -> None:
    by_cpu = CASES["openvino-cpu-s3-by-cpu"].objects()
    (deployment,), (scaler,) = of_kind(by_cpu, "Deployment"), of_kind(by_cpu, "HorizontalPodAutoscaler")
    assert "replicas" not in deployment["spec"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 5)  # eight wanted, five free


@pytest.mark.parametrize(
    ("engine", "query"),
    [
        ("openvino", 'ovms_request_time_us_bucket{name="m",namespace="default"}[2m]))) / 1000 >= 0) or vector(0)'),
        ("tensorflow", 'latency_bucket{model_name="m",namespace="default"}[2m]))) / 1000 >= 0) or vector(0)'),
        ("atalaya", 'atalaya_request_seconds_bucket{model="m",namespace="default"}[2m]))) * 1000 >= 0) or vector(0)'),
    ],
)
def test_a_latency_is_compared_in_milliseconds_whatever_the_engine_counts_in(engine: str, query: str) -> None:
    scaling = {"max": 3, "latencyP95": "500us"}
    case = Case({"engine": engine, "scaling": scaling}, platform=WITH_MONITORING, name="m")
    (scaler,) = of_kind(case.objects(), "ScaledObject")
    (trigger,) = scaler["spec"]["triggers"]
    assert trigger["metricType"] == "Value"  # more replicas do not share a latency
    assert trigger["metadata"]["threshold"] == "0.5"
    assert trigger["metadata"]["query"].endswith(query)


@pytest.mark.parametrize(("engine", "series"), [("openvino", "ovms_streams"), ("atalaya", "atalaya_queue_depth")])
def test_a_servers_own_queue_is_shared_by_its_replicas(engine: str, series: str) -> None:
    case = Case({"engine": engine, "scaling": {"max": 3, "queue": {"length": 8}}}, platform=WITH_MONITORING)
    (trigger,) = of_kind(case.objects(), "ScaledObject")[0]["spec"]["triggers"]
    assert series in trigger["metadata"]["query"]
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("AverageValue", "8")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [({}, 300), ({"cooldown": "20m"}, 1200), ({"cooldown": "1500ms"}, 2), ({"cooldown": "999999999h"}, 2**31 - 1)],
)
def test_how_long_the_last_replica_stays_is_said_where_it_may_go(given: dict[str, Any], seconds: int) -> None:
    scaling = {"min": 0, "max": 3, "queue": {"length": 8, "query": "sum(waiting)"}, **given}
    (scaler,) = of_kind(Case({"scaling": scaling}, platform=WITH_MONITORING).objects(), "ScaledObject")
    assert scaler["spec"]["cooldownPeriod"] == seconds
    assert scaler["spec"]["pollingInterval"] == 10
    (stays,) = of_kind(CASES["openvino-xe-s3-by-latency"].objects(), "ScaledObject")
    assert stays["spec"].keys().isdisjoint({"cooldownPeriod", "pollingInterval"})


def test_without_keda_a_model_runs_with_its_fewest_replicas_and_the_reason_is_told() -> None:
    model = inference_model(scaling={"min": 2, "max": 4, "concurrency": 4})
    one = revision(model, Decisions((PinnedVersion(3),), "cpu"), PLAIN)
    objects = revision_objects(Subject(model), one, PLAIN)
    assert of_kind(objects, "ScaledObject") == []
    assert of_kind(objects, "Deployment")[0]["spec"]["replicas"] == 2
    assert [problem.fact for problem in lacking(model, PLAIN)] == [
        "it takes KEDA, and the cluster has no ScaledObject",
        "it takes Prometheus, and the operator was not told where it is",
    ]
    assert list(lacking(model, WITH_MONITORING)) == []


@pytest.mark.parametrize(
    ("spec", "cap", "count"),
    [
        pytest.param({}, None, 1, id="one-by-default"),
        pytest.param({"replicas": 0}, None, 0, id="paused"),
        pytest.param({"replicas": 4}, 2, 2, id="capped"),
    ],
)
def test_replicas_are_what_is_asked_for_and_can_be_had(spec: dict[str, Any], cap: int | None, count: int) -> None:
    case = Case(spec, most_replicas=cap)
    assert replicas(case.model, case.revision) == count


def test_a_bridge_is_measured_beside_its_server() -> None:
    case = Case({"engine": "tensorflow", "protocols": ["kserve-v2"]}, platform=WITH_MONITORING)
    (monitor,) = of_kind(case.objects(), "PodMonitor")
    assert monitor["spec"]["podMetricsEndpoints"] == [
        {"port": "http", "path": "/monitoring/prometheus/metrics"},
        {"port": "bridge-http", "path": "/metrics"},
    ]


def test_a_single_pod_has_no_disruption_budget_that_would_block_a_drain() -> None:
    assert of_kind(Case({}).objects(), "PodDisruptionBudget") == []
    (budget,) = of_kind(Case({"replicas": 2}).objects(), "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1


def test_pods_that_read_a_claim_may_call_nobody() -> None:
    (closed,) = of_kind(CASES["atalaya-cpu-pvc"].objects(), "NetworkPolicy")
    (open_,) = of_kind(CASES["openvino-cpu-s3"].objects(), "NetworkPolicy")
    assert closed["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in closed["spec"]
    assert open_["spec"]["policyTypes"] == ["Ingress"]


def test_a_model_called_default_leaves_the_namespaces_own_account_alone() -> None:
    (account,) = of_kind(Case({}, name="default").objects(), "ServiceAccount")
    assert account["metadata"]["name"] == "default-server"


def test_every_engine_version_runs_on_every_device_from_every_store() -> None:
    made = set()
    for engine, backend in (
        ("openvino", None),
        ("tensorflow", None),
        ("atalaya", "openvino"),
        ("atalaya", "tensorflow"),
    ):
        for version in known_versions(engine) or (None,):
            for device in drives(engine, backend):
                for store in STORES:
                    spec = {"engine": engine, "devices": [device], "store": store}
                    spec |= {"backend": backend} if backend else {}
                    spec |= {"engineVersion": version} if version else {}
                    case = Case(spec)
                    made.add(case.revision.digest)
                    (limits,) = [server(case)["resources"].get("limits", {})]
                    assert limits == ({} if device == "cpu" else {device: "1"})
    assert len(made) == (9 * 4 + 5 * 2 + 3 + 1) * len(STORES)


def test_a_plain_model_takes_five_objects_so_that_a_thousand_are_quickly_made() -> None:
    assert [one["kind"] for one in Case({}).objects()] == [
        "ServiceAccount", "Service", "Service", "NetworkPolicy", "Deployment",
    ]  # fmt: skip


def test_moving_to_another_revision_changes_the_services_selectors_only() -> None:
    old, new = Case({"engineVersion": "2026.2.1", "protocols": ["kserve-v2"]}), Case({"protocols": ["kserve-v2"]})
    subject = Subject(new.model)
    before, after = model_objects(subject, old.revision), model_objects(subject, new.revision)
    for one in (*before, *after):
        one.get("spec", {}).pop("selector", None)
    assert before == after


def test_the_surroundings_are_read_from_the_environment() -> None:
    told = Platform.from_environment(
        {"ATALAYA_OPENVINO_REPOSITORY": "mine/ovms", "ATALAYA_IMAGE_PULL_SECRETS": "a, b",
         "ATALAYA_ACCELERATOR_GROUPS": "44 109", "ATALAYA_PROMETHEUS_URL": "http://p"}
    )  # fmt: skip
    assert (told.openvino_repository, told.image_pull_secrets) == ("mine/ovms", ("a", "b"))
    assert (told.accelerator_groups, told.prometheus_url) == ((44, 109), "http://p")
    assert Platform.from_environment({}) == Platform()


@pytest.mark.parametrize(
    "wrong", [{"ATALAYA_ACCELERATOR_GROUPS": "render"}, {"ATALAYA_IMAGE_PULL_POLICY": "Sometimes"}]
)
def test_surroundings_that_make_no_sense_are_refused_by_their_variable(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Platform.from_environment(wrong)


def test_a_platform_swaps_repositories_and_nothing_else() -> None:
    other = replace(PLAIN, openvino_repository="face", tensorflow_repository="face2")
    for name in ("openvino-cpu-s3", "tensorflow-cpu-s3"):
        ours, swapped = server(CASES[name]), server(replace(CASES[name], platform=other))
        assert swapped["image"] != ours["image"]
        assert swapped["image"].partition(":")[2] == ours["image"].partition(":")[2]
        assert swapped | {"image": ""} == ours | {"image": ""}
