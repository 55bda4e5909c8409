"""The product on a real cluster as its users have it: Helm installs it, models serve on the node, Helm takes it out.

The tests share one release, as days in its life, and the models that `served` makes. Each can be run alone.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atalaya_operator.kinds import OWNED
from cluster import product_images as images
from cluster.access import Cluster
from cluster.audit import granted, used_by
from cluster.cert_manager import cert_manager
from cluster.chart import NAMESPACE, RESTRICTED, Release
from cluster.errors import ClusterFault
from cluster.foreign_crds import install_foreign_crds
from cluster.layout import CLUSTER_RANGE, NODE_ADDRESS
from cluster.map_picture import picture_of_the_map
from cluster.release_parts import (
    MODELS,
    PORTS,
    REPOSITORY,
    Served,
    assessing_job,
    calling_pod,
    claim,
    golden,
    plural,
    pods,
    stray,
    volume,
)
from databases import Access, postgresql

pytestmark = pytest.mark.timeout(900)  # pushing a gigabyte of images counts to the first test
CALLER = (Path(__file__).parent / "call_model.py").read_text()
WATCHER = (Path(__file__).parent / "watch_models.py").read_text()
LOADER = (Path(__file__).parent / "load_model.py").read_text()
STORED = (Path(__file__).parent / "look_into_store.py").read_text()
SCENE_TILES = 8
MAP_COLOURS = 20  # a map that is not drawn is one grey
IMAGES_USER = 65532
ON_POSTGRESQL = {
    "dashboard__store__secret__name": "atalaya-store",
    "dashboard__persistence__enabled": "true",
    "dashboard__persistence__size": "1Gi",
}
READY_SECONDS = 240
CLOSE = 0.02  # what another library or processor may change of a probability
PROMETHEUS = "http://prometheus.monitoring:9090"
SCALED = MODELS[0].manifest(scaling={"max": 2, "concurrency": 4})
CRD = "inferencemodels.serving.atalaya.dev"


@pytest.fixture(scope="module")
def release(cluster: Cluster) -> Iterator[Release]:
    images.push(cluster, *images.ALL)
    cluster.kubectl("delete", f"crd/{CRD}", "--ignore-not-found")  # whichever test put it there, Helm brings it
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, *(f"{key}={value}" for key, value in RESTRICTED.items()))
    installed = Release(cluster)
    try:
        installed.install(faces__enabled="true", images__pullPolicy="Always")
        yield installed
    finally:
        installed.uninstall()
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def place(cluster: Cluster, release: Release) -> Iterator[str]:
    """A namespace with restricted pods and a bound claim to the shipped models."""
    name = "disaster-response"
    shared = cluster.layout.run / "models"
    shutil.copytree(REPOSITORY, shared, dirs_exist_ok=True)
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, *(f"{key}={value}" for key, value in RESTRICTED.items()))
    cluster.apply(volume("models", shared, name), claim("models", name))
    cluster.wait("pvc/models", "jsonpath={.status.phase}=Bound", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    cluster.kubectl("delete", "persistentvolume/models", "--wait=false")


@pytest.fixture(scope="module")
def served(cluster: Cluster, place: str) -> str:
    """That namespace, with a model of each engine that serves."""
    cluster.apply(*(one.manifest() for one in MODELS), namespace=place)
    for one in MODELS:
        cluster.wait(f"im/{one.name}", "condition=Ready", place, timeout_seconds=READY_SECONDS)
    return place


def refusal(cluster: Cluster, place: str, manifest: dict[str, Any]) -> str:
    """What kubectl says on standard error to an apply that keeps nothing."""
    apply = ("apply", "--server-side", "--dry-run=server", "--namespace", place, "--filename=-")
    return cluster.try_kubectl(*apply, stdin=json.dumps(manifest)).stderr


# --- installed -------------------------------------------------------------------------------------------------------


def test_helm_installs_all_of_it_and_tells_the_next_step(cluster: Cluster, release: Release) -> None:
    told = release.notes()
    assert "kubectl apply -f -" in told
    assert "kubectl port-forward -n atalaya-system service/atalaya-dashboard" in told
    cluster.wait(f"crd/{CRD}", "condition=Established")
    for deployment in ("atalaya-operator", "atalaya-dashboard"):
        assert cluster.get(f"deployment/{deployment}", NAMESPACE)["status"]["readyReplicas"] == 1


def test_helm_test_is_green(release: Release) -> None:
    told = release.test()
    assert "Phase:          Succeeded" in told


def test_values_that_there_are_not_are_refused(release: Release) -> None:
    with pytest.raises(ClusterFault, match="webhok"):
        release.upgrade(webhok__enabled="false")


# --- asked before it is stored ---------------------------------------------------------------------------------------


def test_what_the_cluster_cannot_do_is_refused_when_it_is_applied(
    cluster: Cluster, release: Release, place: str
) -> None:
    cluster.until("the webhook refuses", lambda: refuses(cluster, place))


def refuses(cluster: Cluster, place: str) -> None:
    told = refusal(cluster, place, SCALED)
    if "it takes Prometheus, and the operator was not told where it is" not in told:
        raise ClusterFault(f"the API server does not trust the webhook yet: {told}")


def test_a_claim_that_is_not_there_is_warned_of_and_not_refused(
    cluster: Cluster, release: Release, place: str, namespace: str
) -> None:
    def ask() -> str:
        told = refusal(cluster, namespace, MODELS[0].manifest())
        if "Warning: spec.model.uri: there is no PersistentVolumeClaim models" not in told:
            raise ClusterFault(f"the API server does not trust the webhook yet: {told}")
        return told

    cluster.until("the webhook warns", ask)
    assert "denied" not in ask()
    assert "Warning" not in refusal(cluster, place, MODELS[0].manifest())


def test_a_certificate_by_cert_manager_is_served_and_trusted_and_one_of_our_own_again_after_it(
    cluster: Cluster, release: Release, place: str
) -> None:
    with cert_manager(cluster):
        try:
            release.upgrade(prometheus__url="", webhook__certManager__enabled="true")
            cluster.until("cert-manager's authority is told", lambda: trusts_cert_manager(cluster))
            cluster.until("the webhook refuses", lambda: refuses(cluster, place))
        finally:
            release.upgrade(webhook__certManager__enabled="false")
    cluster.kubectl("delete", "secret/atalaya-webhook", "--namespace", NAMESPACE)
    cluster.until("the webhook refuses as before", lambda: refuses(cluster, place))


def trusts_cert_manager(cluster: Cluster) -> None:
    kept = cluster.get("secret/atalaya-webhook", NAMESPACE)["data"]["ca.crt"]
    [webhook] = cluster.get("validatingwebhookconfiguration/atalaya")["webhooks"]
    if webhook["clientConfig"].get("caBundle") != kept:
        raise ClusterFault("the API server is told of another authority than cert-manager's")


# --- serving ---------------------------------------------------------------------------------------------------------


def test_a_model_of_each_engine_becomes_ready(cluster: Cluster, served: str) -> None:
    names = [f"im/{one.name}" for one in MODELS]
    told = cluster.kubectl("get", *names, "-n", served, "--no-headers").splitlines()
    rows = {row.split()[0].rpartition("/")[2]: row.split()[1:6] for row in told}
    assert rows == {one.name: [one.engine, "cpu", "1", "1/1", "Serving"] for one in MODELS}


def test_the_pods_of_the_originals_run_as_they_were_written_with_only_the_image_another(
    cluster: Cluster, served: str
) -> None:
    for one, image in ((MODELS[1], images.OVMS_FACE), (MODELS[2], images.TFS_FACE)):
        [found] = pods(cluster, served, one.name)
        server = next(part for part in found["spec"]["containers"] if part["name"] == "server")
        assert server["image"] == image.reference
        assert "command" not in server
        assert "env" not in server
        logs = cluster.kubectl("logs", found["metadata"]["name"], "-c", "server", "-n", served)
        assert "unknown argument" not in logs
        assert "unmatched arguments" not in logs


@pytest.mark.parametrize("one", MODELS, ids=lambda one: one.name)
def test_a_kserve_client_outside_gets_the_golden_answers(cluster: Cluster, served: str, one: Served) -> None:
    assert np.abs(answered_to_kserve(cluster, served, one) - golden(one.folder)[1]).max() < CLOSE


def answered_to_kserve(cluster: Cluster, place: str, one: Served) -> np.ndarray:
    """What a model answers to its golden requests, asked from outside."""
    from tritonclient.grpc import InferenceServerClient, InferInput

    tiles, _ = golden(one.folder)
    with (
        cluster.port_forward(f"service/{one.name}", PORTS["v2"], place) as port,
        InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        given = InferInput("tiles", list(tiles.shape), "UINT8")
        given.set_data_from_numpy(tiles)
        return np.asarray(client.infer(one.name, [given], client_timeout=30).as_numpy("probability"))


@pytest.mark.parametrize("one", MODELS, ids=lambda one: one.name)
def test_a_tensorflow_serving_client_outside_gets_the_golden_answers(
    cluster: Cluster, served: str, one: Served
) -> None:
    import grpc

    from builders_tfs import Stubs

    tiles, expected = golden(one.folder)
    with (
        cluster.port_forward(f"service/{one.name}", PORTS["tfs"], served) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        answered = Stubs(channel).outputs(one.name, tiles=tiles)["probability"]
    assert np.abs(answered - expected).max() < CLOSE


@pytest.mark.parametrize("protocol", PORTS)
def test_a_pod_gets_them_by_the_services_name(cluster: Cluster, served: str, protocol: str) -> None:
    for one in MODELS:
        name = f"calls-{one.name}-{protocol}"
        address, file = f"{one.name}.{served}:{PORTS[protocol]}", f"/models/{one.folder}/1/golden.npz"
        script = (CALLER, protocol, address, one.name, file)
        cluster.apply(calling_pod(name, script), namespace=served)
    for one in MODELS:
        name = f"calls-{one.name}-{protocol}"
        cluster.until("it has called", lambda name=name: ended(cluster, served, name))
        told = cluster.kubectl("logs", name, "--namespace", served)
        assert float(told.splitlines()[-1]) < CLOSE, told


def ended(cluster: Cluster, place: str, name: str) -> None:
    phase = cluster.get(f"pod/{name}", place)["status"]["phase"]
    if phase not in ("Succeeded", "Failed"):
        raise ClusterFault(f"pod {name} is {phase}")


def test_the_dashboard_sees_the_clusters_models_and_their_latency_and_may_do_no_more(
    cluster: Cluster, served: str
) -> None:
    for one in MODELS:
        answered_to_kserve(cluster, served, one)
    told = json.loads(in_the_dashboard(cluster, "-c", WATCHER))
    assert set(told["errors"]) == {""}
    assert {tuple(one) for one in told["models"]} >= {(one.name, "READY", "Serving") for one in MODELS}
    live = {one.name: told["live"].get(one.name) for one in MODELS}
    for seen in live.values():
        assert seen, f"each of the three engines: {told}"
        assert seen["requests"] > 0, told
        assert 0 < seen["p95"] < 60, told
    assert {seen["server"] for seen in live.values() if seen["queue"] is None} == {"TensorFlow Serving"}
    used = used_by(cluster, NAMESPACE, "atalaya-dashboard")
    assert used.denied == set()
    assert used.allowed == granted(cluster.get("clusterrole/atalaya-dashboard")["rules"])


def test_a_scene_is_assessed_by_the_model_in_the_cluster_and_its_map_is_drawn(cluster: Cluster, served: str) -> None:
    draw = "from pathlib import Path; from atalaya_serving.synthetic.scene import make_scene; "
    draw += f"print(make_scene(Path('/var/lib/atalaya'), 7, {SCENE_TILES * 128}).path)"
    scene = in_the_dashboard(cluster, "-c", draw).strip()
    ours = ("--model", MODELS[0].name, "--endpoint", f"{MODELS[0].name}.{served}:9000")
    told = json.loads(in_the_dashboard(cluster, "-m", "atalaya", "assess", scene, *ours, "--json"))
    with cluster.port_forward("service/atalaya-dashboard", 8501, NAMESPACE) as port:
        picture = picture_of_the_map(f"http://127.0.0.1:{port}/?assessment={told['assessment']}")
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > MAP_COLOURS


def test_a_job_assesses_into_postgresql_and_the_dashboard_draws_its_map(
    cluster: Cluster, served: str, shared_store: Path
) -> None:
    from atalaya_serving.synthetic.scene import make_scene

    scene = make_scene(shared_store, 7, SCENE_TILES * 128).path.rename(shared_store / "town.tif")
    scene.chmod(0o644)
    cluster.apply(assessing_job(MODELS[0].name, served))
    cluster.wait("job/assess-town", "condition=Complete", NAMESPACE, timeout_seconds=120)
    told = json.loads(in_the_dashboard(cluster, "-c", STORED))
    assert told["store"].startswith("postgresql://")
    assert not told["has_file"]
    assert told["assessment"] in cluster.kubectl("logs", "job/assess-town", "--namespace", NAMESPACE)
    assert (told["state"], told["tiles"]) == ("complete", SCENE_TILES**2)
    with cluster.port_forward("service/atalaya-dashboard", 8501, NAMESPACE) as port:
        picture = picture_of_the_map(f"http://127.0.0.1:{port}/?assessment={told['assessment']}")
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > MAP_COLOURS


@pytest.fixture
def shared_store(cluster: Cluster, release: Release) -> Iterator[Path]:
    """The dashboard on PostgreSQL, as docs/install.md sets it up. Its claim's folder, which a job mounts too."""
    folder = cluster.layout.run / "dashboard"
    folder.mkdir()
    shutil.chown(folder, IMAGES_USER, IMAGES_USER)
    cluster.apply(volume("dashboard", folder, NAMESPACE, claim="atalaya-dashboard"))
    access = Access(NODE_ADDRESS, CLUSTER_RANGE, "not-in-the-values", cluster.namespace.command)
    secret = ("secret", "generic", "atalaya-store", "--namespace", NAMESPACE)
    with postgresql(access) as url:
        cluster.kubectl("create", *secret, f"--from-literal=url={url}")
        release.upgrade(**ON_POSTGRESQL)
        yield folder
        release.upgrade(dashboard__store__secret__name="", dashboard__persistence__enabled="false")
    ours = ("secret/atalaya-store", "job/assess-town", "persistentvolumeclaim/atalaya-dashboard")
    cluster.kubectl("delete", *ours, "--namespace", NAMESPACE, "--ignore-not-found")
    cluster.kubectl("delete", "persistentvolume/dashboard")


def in_the_dashboard(cluster: Cluster, *arguments: str) -> str:
    inside = ("exec", "deployment/atalaya-dashboard", "--namespace", NAMESPACE, "--")
    return cluster.kubectl(*inside, "/opt/atalaya/bin/python", *arguments)


def test_the_autoscaler_grows_a_model_under_load_and_shrinks_it_after(
    cluster: Cluster, release: Release, place: str
) -> None:
    model = Served("loaded", "atalaya", "haiti-damage").manifest(
        resources={"requests": {"cpu": "50m"}}, scaling={"min": 1, "max": 2, "cpu": "60%"}
    )
    cluster.apply(model, namespace=place)
    cluster.wait("im/loaded", "condition=Ready", place, timeout_seconds=READY_SECONDS)
    script = (LOADER, f"loaded.{place}:9000", "loaded", "/models/haiti-damage/1/golden.npz", "300")
    cluster.apply(calling_pod("load", script), namespace=place)
    cluster.wait("im/loaded", "jsonpath={.status.ready}=2/2", place, timeout_seconds=180)
    cluster.kubectl("delete", "pod/load", "--namespace", place, "--wait=false")
    cluster.wait("im/loaded", "jsonpath={.status.ready}=1/1", place, timeout_seconds=180)
    cluster.kubectl("delete", "im/loaded", "--namespace", place)


# --- upgraded --------------------------------------------------------------------------------------------------------


def test_an_upgrade_of_the_operator_restarts_no_model(cluster: Cluster, release: Release, served: str) -> None:
    before = {one["metadata"]["uid"] for model in MODELS for one in pods(cluster, served, model.name)}
    release.upgrade(operator__workers="2", prometheus__url=PROMETHEUS)
    cluster.wait("deployment/atalaya-operator", "condition=Available", NAMESPACE)
    for one in MODELS:
        cluster.wait(f"im/{one.name}", "condition=Ready", served)
    assert {one["metadata"]["uid"] for model in MODELS for one in pods(cluster, served, model.name)} == before
    release.test()


def test_every_verb_that_the_operator_is_granted_is_used_and_none_is_denied(
    cluster: Cluster, release: Release, place: str
) -> None:
    install_foreign_crds(cluster)
    release.upgrade(prometheus__url=PROMETHEUS)
    requests = {"requests": {"cpu": "10m"}}
    by_load = Served("by-load", "atalaya", "haiti-damage").manifest(scaling={"max": 2, "concurrency": 4})
    by_cpu = Served("by-cpu", "tensorflow", "haiti-damage-tf").manifest(
        scaling={"max": 2, "cpu": "70%"}, resources=requests, batching={"maxSize": 8}
    )
    cluster.until("KEDA's definition is known", lambda: applied(cluster, place, by_load))
    cluster.apply(by_cpu, namespace=place)
    asked = Served("asks", "atalaya", "haiti-damage").manifest(model={"uri": "pvc://models/haiti-damage"}, replicas=0)
    cluster.apply(asked, namespace=place)
    cluster.wait("im/asks", "jsonpath={.status.version}=1", place, timeout_seconds=READY_SECONDS)
    cluster.apply(Served("asks", "atalaya", "haiti-damage").manifest(replicas=0), namespace=place)  # asks no more
    for name, kind in (("by-load", "scaledobject"), ("by-load", "podmonitor"), ("by-cpu", "hpa"), ("by-cpu", "pdb")):
        cluster.until(f"{name} has its {kind}", lambda name=name, kind=kind: has(cluster, place, name, kind))
    be_explained(cluster, place)
    owner = cluster.get("im/by-cpu", place)["metadata"]["uid"]
    strays = [stray(kind.api_version, kind.name, owner) for kind in OWNED]
    cluster.apply(*strays, namespace=place)
    for one in strays:
        cluster.wait(f"{plural(one['kind'])}/stray", "delete", place)
    rules = cluster.get("clusterrole/atalaya-operator")["rules"]

    def compare() -> None:
        used = used_by(cluster, NAMESPACE, "atalaya-operator")
        assert used.denied == set()
        if used.allowed != granted(rules):
            unused, unknown = granted(rules) - used.allowed, used.allowed - granted(rules)
            raise ClusterFault(f"granted and not used: {sorted(unused)}; used and not granted: {sorted(unknown)}")

    cluster.until("all that is granted was used", compare, timeout_seconds=30)


def be_explained(cluster: Cluster, place: str) -> None:
    """Faults for which the operator reads logs, events and quotas."""
    absent = {"uri": "pvc://models/haiti-damage", "versions": {"specific": [9]}}
    cluster.apply(Served("crashes", "openvino", "").manifest(model=absent), namespace=place)
    cluster.wait("im/crashes", "jsonpath={.status.conditions[?(@.type=='Ready')].status}=False", place)
    cluster.until("its pod ends", lambda: has_restarted(cluster, place, "crashes"), timeout_seconds=120)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "1"}}}
    cluster.apply(quota, namespace=place)
    cluster.wait("resourcequota/full", "jsonpath={.status.hard.pods}=1", place)
    cluster.apply(Served("refused", "atalaya", "haiti-damage").manifest(), namespace=place)
    cluster.wait("im/refused", "jsonpath={.status.reason}=QuotaExceeded", place)
    cluster.kubectl("delete", "resourcequota/full", "im/refused", "im/crashes", "--namespace", place, "--wait=false")


def has_restarted(cluster: Cluster, place: str, model: str) -> None:
    statuses = [status for one in pods(cluster, place, model) for status in one["status"].get("containerStatuses", ())]
    if not any(status["restartCount"] for status in statuses):
        raise ClusterFault(f"no pod of {model} has restarted: {statuses}")


def applied(cluster: Cluster, place: str, manifest: dict[str, Any]) -> None:
    cluster.apply(manifest, namespace=place)


def has(cluster: Cluster, place: str, model: str, kind: str) -> None:
    chosen = ("--selector", f"serving.atalaya.dev/model={model}")
    if not cluster.kubectl("get", kind, "--namespace", place, *chosen, "--output=name"):
        raise ClusterFault(f"{model} has no {kind}")


# --- taken out -------------------------------------------------------------------------------------------------------


def test_uninstalling_leaves_nothing_but_the_definition_and_models_that_go_on_serving(
    cluster: Cluster, release: Release, served: str
) -> None:
    release.uninstall()
    cluster.until("nothing of the release is left", lambda: released_nothing(cluster), timeout_seconds=30)
    assert cluster.kubectl("get", "secrets", "--namespace", NAMESPACE, "--output=name") == ""
    for one in MODELS:
        [found] = pods(cluster, served, one.name)
        assert all(status["ready"] for status in found["status"]["containerStatuses"])


def released_nothing(cluster: Cluster) -> None:
    kinds = "all,serviceaccounts,networkpolicies,configmaps,persistentvolumeclaims"
    whole = "clusterroles,clusterrolebindings,validatingwebhookconfigurations"
    ours = ("--selector", "app.kubernetes.io/instance=atalaya", "--output=name")
    left = cluster.kubectl("get", kinds, "--namespace", NAMESPACE, *ours) + cluster.kubectl("get", whole, *ours)
    if left:
        raise ClusterFault(f"left of the release: {left.split()}")


def test_models_can_be_deleted_without_the_operator(cluster: Cluster, release: Release, served: str) -> None:
    release.uninstall()
    cluster.kubectl("delete", "im", "--all", "--namespace", served, "--timeout=30s")
    assert cluster.kubectl("get", "im", "--namespace", served, "--output=name") == ""
    cluster.until("what they had is gone", lambda: nothing_left(cluster, served))


def nothing_left(cluster: Cluster, place: str) -> None:
    chosen = ("--selector", "app.kubernetes.io/part-of=atalaya", "--namespace", place, "--output=name")
    left = cluster.kubectl("get", "deployments,services,serviceaccounts,networkpolicies,hpa,pdb", *chosen)
    if left:
        raise ClusterFault(f"left behind: {left.split()}")
