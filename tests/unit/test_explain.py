"""Why a model is not ready: from states of pods and nodes to the root, with evidence and a next step."""

from typing import Any

import pytest

from atalaya_operator.explain.case import Warned
from atalaya_operator.explain.explain import explain
from atalaya_operator.explain.finding import Finding
from builders_explain import (
    STARTED,
    a_node,
    a_pod,
    case_of,
    condition,
    container,
    failed,
    refused,
    running,
    unscheduled,
    waiting,
)

Manifest = dict[str, Any]
XE = "gpu.intel.com/xe"


def told(*pods: Manifest, **of: Any) -> Finding:
    found = explain(case_of(*pods, **of))
    assert found
    assert found.next_step, "a fault has a next step"
    return found


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        pytest.param(waiting("ErrImagePull", 'failed to resolve reference "r/server:1": r/server:1: not found'),
                     "ImageNotFound", id="not-found"),
        pytest.param(waiting("ImagePullBackOff", 'Back-off pulling image "server:1": ErrImagePull: unexpected status'
                             ' from HEAD request: 401 Unauthorized'), "ImagePullDenied", id="login"),
        pytest.param(waiting("ErrImagePull", "pull access denied, repository does not exist or may require"
                             " authorization: server message: insufficient_scope"), "ImagePullDenied", id="denied"),
        pytest.param(waiting("ErrImagePull", 'failed to do request: Head "https://r/v2/": dial tcp: lookup r on'
                             " 10.0.0.10:53: no such host"), "RegistryUnreachable", id="no-such-host"),
        pytest.param(waiting("ErrImagePull", "no match for platform in manifest: not found"), "ImageArchitecture",
                     id="platform"),
        pytest.param(waiting("InvalidImageName", "couldn't parse image name"), "ImageNameInvalid", id="name"),
        pytest.param(waiting("ErrImageNeverPull", "Container image is not present with pull policy of Never"),
                     "ImageMissingOnNode", id="never"),
        pytest.param(waiting("ErrImagePull", "write /var/lib: no space left on device"), "ImagePullFailed",
                     id="other"),
        pytest.param(failed("exec /server: exec format error", 255), "ImageArchitecture", id="exec-format"),
        pytest.param(failed("OCI runtime create failed: exec: \"/nothing\": stat /nothing: no such file or directory:"
                            " unknown", 128, "StartError"), "ImageCannotRun", id="no-program"),
        pytest.param(failed("", 137, "OOMKilled"), "OutOfMemory", id="memory"),
        pytest.param(failed("one\nSegmentation fault", 139), "CrashLoop", id="crash"),
        pytest.param(waiting("CreateContainerConfigError", 'secret "store" not found'), "CredentialsMissing",
                     id="secret"),
        pytest.param(waiting("CreateContainerConfigError", 'failed to create subPath directory for volumeMount "model"'
                             ' of container "server"'), "ModelPathNotFound", id="folder-of-a-claim"),
        pytest.param(waiting("CreateContainerError", "context deadline exceeded"), "ContainerRefused", id="refused"),
    ],
)  # fmt: skip
def test_a_containers_state_is_told_apart(state: Manifest, reason: str) -> None:
    assert told(a_pod(state)).reason == reason


def test_an_image_is_told_with_its_name_the_pod_and_the_node() -> None:
    words = 'failed to resolve reference "r/server:1": r/server:1: not found'
    found = told(a_pod(waiting("ErrImagePull", words)))
    for part in ("m-1", "n1", "server:1", "not found"):
        assert part in found.message
    assert found.next_step == "push server:1, or correct spec.engineVersion or spec.image"
    again = f'Back-off pulling image "server:1": ErrImagePull: {words}'
    assert told(a_pod(waiting("ImagePullBackOff", again))) == found, "the same while it is waited for the next try"


def test_a_crash_loop_is_told_with_the_engines_own_last_line_also_between_two_tries() -> None:
    log = "starting\nlibopenvino.so: cannot open shared object file\n\n"
    found = told(a_pod(failed(log, 127)))
    assert (found.reason, "ended with code 127" in found.message) == ("CrashLoop", True)
    assert "its last line: libopenvino.so: cannot open shared object file" in found.message
    last = {"exitCode": 127, "reason": "Error", "message": log}
    assert told(a_pod(running(last=last))) == found
    assert told(a_pod(container(terminated=last))) == found


def test_a_container_that_came_back_to_work_is_no_fault() -> None:
    last = {"exitCode": 1, "reason": "Error", "message": "no"}
    assert explain(case_of(a_pod(running(last=last, started=True, ready=True)))) is None


def test_memory_is_told_with_its_limit_and_goes_before_what_the_log_says() -> None:
    found = told(a_pod(failed("the model cannot be loaded", 137, "OOMKilled")))
    assert "memory limit of 64Mi" in found.message
    assert "spec.resources.limits.memory, now 64Mi" in str(found.next_step)


def test_the_fetch_container_is_told_before_the_server_that_waits_for_it() -> None:
    fetch = failed("ModelPathNotFound: s3://models/m/3 is not there.", name="fetch")
    found = told(a_pod(waiting("PodInitializing"), inits=[fetch]))
    assert found.reason == "ModelPathNotFound"
    assert "did not get the model: s3://models/m/3 is not there." in found.message
    assert "s3://models/haiti-damage" in str(found.next_step)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("atalaya_serving: error: BadCredentials: the store says 403.", "BadCredentials", id="prefixed"),
        pytest.param("DigestMismatch: model.bin is another.", "DigestMismatch", id="digest"),
        pytest.param("StoreUnreachable: no answer.", "StoreUnreachable", id="store"),
        pytest.param("ModelFileCorrupt: model.bin ends early.", "ModelFileCorrupt", id="corrupt"),
        pytest.param("BadCredentials: no.\nfetching s3://models/m\n", "BadCredentials", id="outputs-in-another-order"),
        pytest.param("Traceback: something else", "FetchFailed", id="anything-else"),
        pytest.param("", "FetchFailed", id="silent"),
    ],
)
def test_the_fetch_containers_first_word_is_the_reason(line: str, reason: str) -> None:
    assert told(a_pod(waiting("PodInitializing"), inits=[failed(line, name="fetch")])).reason == reason


@pytest.mark.parametrize(
    ("engine", "line", "reason"),
    [
        pytest.param("openvino", "[serving][error][server.cpp:175] ovms::ModelManager::Start() Error: The provided base"
                     " path is invalid or doesn't exists", "ModelPathNotFound", id="ovms-path"),
        pytest.param("openvino", "ovms::ModelManager::Start() Error: S3 Invalid access rights", "BadCredentials",
                     id="ovms-rights"),
        pytest.param("openvino", "ovms::ModelManager::Start() Error: S3 Bucket not found", "ModelPathNotFound",
                     id="ovms-bucket"),
        pytest.param("openvino", "ovms::ModelManager::Start() Error: Error while loading a network", "ModelFileCorrupt",
                     id="ovms-network"),
        pytest.param("openvino", "Cannot compile model into target device; error: ... ; model: m; version: 3; device:"
                     " GPU", "DeviceUnusable", id="ovms-device"),
        pytest.param("openvino", "Couldn't start model manager: m: /models/m lacks the version asked for: 3.",
                     "ModelPathNotFound", id="face-version"),
        pytest.param("openvino", "Couldn't start model manager: m: version 3: /models/m/3/model.xml is not a model that"
                     " OpenVINO can read: xml; export it again.", "ModelFileCorrupt", id="face-corrupt"),
        pytest.param("tensorflow", "FileSystemStoragePathSource encountered a filesystem access error: Could not find"
                     " base path /models/m for servable m", "ModelPathNotFound", id="tfs-path"),
        pytest.param("tensorflow", "Version 3 of servable m, which was requested to be served as a 'specific' version"
                     " in the servable's config, was not found in the file system", "ModelPathNotFound",
                     id="tfs-version"),
        pytest.param("tensorflow", "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available:"
                     " {{{name: m version: 3} due to error: Data loss: Can't parse saved_model.pb}, }",
                     "ModelFileCorrupt", id="tfs-corrupt"),
        pytest.param("atalaya", '{"time": "t", "level": "error", "event": "version failed to load", "model": "m",'
                     ' "reason": "/models/m/manifest.yaml is for other model files (it says a, they are b)"}',
                     "DigestMismatch", id="ours-digest"),
    ],
)  # fmt: skip
def test_the_engines_own_words_are_understood(engine: str, line: str, reason: str) -> None:
    for log in (line, f"{line}\nCouldn't start model manager\n"):
        assert told(a_pod(failed(log)), engine=engine).reason == reason


def test_a_server_that_runs_on_without_its_model_is_understood_by_its_log() -> None:
    log = '{"level": "error", "event": "version failed to load", "reason": "/models/m/3/model.xml is not a model that"}'
    found = told(a_pod(running()), engine="atalaya", logs={("m-1", "server"): log})
    assert found.reason == "ModelFileCorrupt"
    assert "version failed to load: /models/m/3/model.xml is not a model that" in found.message
    assert explain(case_of(a_pod(running()), logs={("m-1", "server"): "[info] all is well"})) is None


FULL = "0/3 nodes are available: 3 Insufficient gpu.intel.com/xe. preemption: 0/3 nodes are available: 3 No preemption"


@pytest.mark.parametrize(
    ("nodes", "said", "reason", "evidence"),
    [
        pytest.param([a_node()], FULL, "NoNodeWithDevice", "none of 1 nodes", id="none-has-it"),
        pytest.param([a_node(), a_node("gpu", allocatable={XE: "2"})], FULL, "DeviceInUse", "gpu (2)", id="all-in-use"),
        pytest.param([a_node(), a_node("gpu", allocatable={XE: "2"}, taints=["theirs"])], FULL, "DeviceNodesClosed",
                     "node gpu has the taint theirs", id="tainted"),
        pytest.param([a_node(), a_node("gpu", allocatable={XE: "2"}, cordoned=True)], FULL, "DeviceNodesClosed",
                     "node gpu is cordoned", id="cordoned"),
        pytest.param([a_node(), a_node("gpu", allocatable={XE: "2"}, ready="Unknown", message="Kubelet stopped.")],
                     FULL, "DeviceNodesClosed", "node gpu is not ready: Kubelet stopped.", id="not-ready"),
        pytest.param([a_node(), a_node("gpu", allocatable={XE: "2"}, taints=[XE])], FULL, "DeviceInUse", "gpu (2)",
                     id="the-devices-own-taint-is-tolerated"),
        pytest.param([a_node(), a_node("gpu", allocatable={XE: "2"})],
                     "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient gpu.intel.com/xe.", "NodesFull",
                     "Insufficient cpu", id="free-device-and-no-cores"),
        pytest.param([a_node(), a_node("gpu", allocatable={XE: "2"})],
                     "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient gpu.intel.com/xe.", "DeviceInUse",
                     "gpu (2)", id="both-full"),
    ],
)  # fmt: skip
def test_a_device_that_is_not_to_be_had_is_told_apart(
    nodes: list[Manifest], said: str, reason: str, evidence: str
) -> None:
    tolerations = [{"key": XE, "operator": "Exists", "effect": "NoSchedule"}]
    found = told(unscheduled(said, tolerations=tolerations), nodes=nodes, devices=[XE])
    assert (found.reason, evidence in found.message) == (reason, True), found.message
    assert "preemption" not in found.message


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        pytest.param("0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.", "NodesFull", id="cores"),
        pytest.param("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", "NoNodeFits",
                     id="selector"),
        pytest.param('0/1 nodes are available: persistentvolumeclaim "models" not found.', "ClaimNotFound", id="claim"),
        pytest.param("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "ClaimUnbound",
                     id="unbound"),
    ],
)  # fmt: skip
def test_a_pod_on_cores_that_finds_no_node_is_told_apart(said: str, reason: str) -> None:
    assert told(unscheduled(said)).reason == reason


@pytest.mark.parametrize(
    "node",
    [
        pytest.param([a_node(ready="Unknown", message="Kubelet stopped posting node status.")], id="silent"),
        pytest.param([a_node("another")], id="gone"),
    ],
)
def test_a_lost_node_goes_before_whatever_its_pods_say(node: list[Manifest]) -> None:
    crashed = a_pod(failed("no"))
    replacement = unscheduled("0/1 nodes are available: 1 Insufficient gpu.intel.com/xe.", "m-0")
    found = told(crashed, replacement, nodes=node, devices=[XE])
    assert found.reason == "NodeLost"
    assert "node n1 of pod m-1" in found.message


def test_a_pod_that_cannot_leave_its_lost_node_tells_of_it_and_of_nothing_else() -> None:
    leaving = a_pod(failed("no"))
    leaving["metadata"]["deletionTimestamp"] = STARTED
    assert explain(case_of(leaving)) is None
    assert told(leaving, nodes=[a_node(ready="Unknown")]).reason == "NodeLost"


def test_a_quota_is_told_without_the_name_of_the_pod_that_was_never_made() -> None:
    words = 'pods "m-abc-{}" is forbidden: exceeded quota: tight, requested: pods=1, used: pods=1, limited: pods=1'
    first, second = (told(deployment=refused(words.format(name))) for name in ("x1", "x2"))
    assert (first.reason, first) == ("QuotaExceeded", second)
    assert "requested: pods=1, used: pods=1" in first.message
    assert "ResourceQuota tight in namespace default" in str(first.next_step)


def test_pods_that_a_policy_refuses_are_told_in_its_words() -> None:
    found = told(deployment=refused('pods "m-1" is forbidden: violates PodSecurity "restricted:latest"'))
    assert (found.reason, "violates PodSecurity" in found.message) == ("PodsRefused", True)


def test_a_pods_own_fault_goes_before_a_quota_that_keeps_others_away() -> None:
    assert told(a_pod(failed("no")), deployment=refused("exceeded quota: q")).reason == "CrashLoop"


UNHEALTHY = Warned(
    "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", "2026-01-01T00:09:50Z"
)


def test_a_loaded_model_whose_probe_fails_is_told_by_the_probes_words() -> None:
    found = told(a_pod(running(started=True)), warnings={"uid-m-1": (UNHEALTHY,)})
    assert found.reason == "ProbeFailing"
    assert "statuscode: 503" in found.message


@pytest.mark.parametrize(
    ("server", "warnings"),
    [
        pytest.param(running(started=True), (), id="first-moments"),
        pytest.param(running(), (UNHEALTHY,), id="not-loaded-yet"),
        pytest.param(running(started=True, since="2026-01-01T00:09:55Z"), (UNHEALTHY,), id="of-the-start-before"),
        pytest.param(running(started=True), (Warned("Unhealthy", "Startup probe failed: 404", STARTED),), id="startup"),
    ],
)
def test_a_probe_that_may_fail_is_no_fault(server: Manifest, warnings: tuple[Warned, ...]) -> None:
    assert explain(case_of(a_pod(server), warnings={"uid-m-1": warnings})) is None


def test_a_pod_that_was_ready_and_is_not_any_more_needs_no_warning_to_be_told() -> None:
    was_ready = condition("Ready", "False", since="2026-01-01T00:09:50Z")
    assert told(a_pod(running(started=True), conditions=[was_ready])).reason == "ProbeFailing"


def test_a_volume_that_is_not_mounted_is_told_by_its_warning_and_only_while_the_pod_waits() -> None:
    mount = Warned("FailedMount", 'MountVolume.SetUp failed for volume "store": secret "key" not found', STARTED)
    warnings = {"uid-m-1": (mount,)}
    assert told(a_pod(waiting("ContainerCreating")), warnings=warnings).reason == "CredentialsMissing"
    assert explain(case_of(a_pod(running()), warnings=warnings)) is None


def test_an_evicted_pod_is_told_when_nothing_else_is() -> None:
    evicted = a_pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert told(evicted).reason == "Evicted"
    assert told(evicted, a_pod(failed("no"), name="m-2")).reason == "CrashLoop"


def test_of_several_pods_the_same_one_is_told_each_time() -> None:
    one, other = a_pod(failed("a")), a_pod(failed("b"), name="m-2")
    assert told(one, other) == told(one, other)
    assert "m-1" in told(one, other).message
