"""`atalaya plan`: what it shows, what it says was assumed, what it compares; without a cluster and with a fake one."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from atalaya import cli
from atalaya_operator.plan import (
    CHANGED,
    CREATED,
    IN_THE_WAY,
    REMOVED,
    UNCHANGED,
    Wanted,
    changes,
    in_namespace,
    known_versions,
    plan,
)
from atalaya_operator.revision import Manifest, PinnedVersion
from atalaya_operator.version_lookup import question
from builders_operator import PLAIN, inference_model

EXAMPLES = Path(__file__).parents[2] / "charts" / "atalaya" / "examples"
THREE = (PinnedVersion(3),)
GPU = EXAMPLES / "valid" / "openvino-intel-gpu.yaml"


class FakeCluster:
    """Keeps what it was given as an API server does: with fields of its own."""

    def __init__(self, *objects: Manifest) -> None:
        self.objects = {(one["kind"], one["metadata"]["name"]): self._kept(one) for one in objects}

    def _kept(self, manifest: Manifest) -> Manifest:
        kept = deepcopy(manifest)
        kept["metadata"] |= {"uid": "1", "resourceVersion": "2", "managedFields": [], "creationTimestamp": "now"}
        return kept | {"status": {"replicas": 1}}

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        return self.objects.get((kind, name))

    def trial(self, manifest: Manifest) -> Manifest:
        return self._kept(manifest) | {"status": {}}

    def names(self, api_version: str, kind: str, namespace: str, model: str) -> list[str]:
        return [name for one, name in self.objects if one == kind]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["plan", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_objects_go_to_standard_output_and_what_was_assumed_to_standard_error(capsys) -> None:
    code, told, aside = run(capsys, GPU)
    objects = list(yaml.safe_load_all(told))
    assert code == 0
    assert {"Deployment", "Service", "HorizontalPodAutoscaler"} <= {one["kind"] for one in objects}
    assert (
        "note: openvino-intel-gpu: spec.model.versions.latest: which versions these are is found in the store" in aside
    )
    assert "version 1 on gpu.intel.com/xe by openvino/model_server:2026.3-gpu" in aside


def test_a_version_and_a_device_may_be_named(capsys) -> None:
    _, told, aside = run(capsys, "--version", 4, "--version", 3, "--device", "cpu", GPU)
    assert '{"specific":{"versions":[3,4]}}' in told
    assert "--target_device=BATCH:CPU(32)" in told
    assert "note" not in aside


def test_several_models_are_planned_into_one_stream(capsys) -> None:
    _, told, aside = run(capsys, EXAMPLES / "valid" / "two-models.yaml", "--namespace", "maps")
    assert {one["metadata"]["namespace"] for one in yaml.safe_load_all(told)} == {"maps"}
    assert aside.count("revision haiti-damage-") == 2


def test_json_is_one_object(capsys) -> None:
    _, told, _ = run(capsys, "--json", "--version", 3, GPU)
    (one,) = json.loads(told)["models"]
    assert one["revision"].startswith("openvino-intel-gpu-")
    assert (one["device"], one["versions"]) == ("gpu.intel.com/xe", [3])
    assert one["objects"][0]["kind"] == "ServiceAccount"
    assert one["endpoints"] == {"kserveV2": "openvino-intel-gpu.default.svc:9000", "metrics": ":8000/metrics"}


def test_a_file_with_problems_is_not_planned_and_all_of_them_are_told(capsys) -> None:
    code, told, aside = run(capsys, EXAMPLES / "invalid" / "several-mistakes.yaml")
    assert (code, told) == (1, "")
    assert len(aside.splitlines()) == 7


def test_a_device_that_the_model_does_not_name_is_refused(capsys) -> None:
    code, _, aside = run(capsys, "--device", "nvidia.com/gpu", GPU)
    assert code == 2
    assert "it names gpu.intel.com/xe, gpu.intel.com/i915, cpu" in aside


@pytest.mark.parametrize("version", ["0", "latest", "-1"])
def test_a_version_is_a_whole_number(capsys, version: str) -> None:
    assert run(capsys, f"--version={version}", GPU)[0] == 2


def test_without_a_kubeconfig_the_difference_ends_with_one_line(capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, told, aside = run(capsys, "--diff", GPU)
    assert (code, told) == (1, "")
    assert len(aside.splitlines()) == 1
    assert "set KUBECONFIG or --context" in aside


def test_a_cluster_that_does_not_answer_ends_with_one_line(capsys, monkeypatch, tmp_path: Path) -> None:
    context: dict[str, Any] = {"cluster": "c", "user": "u"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {"token": "none"}}],
        "contexts": [{"name": "x", "context": context}],
    }  # fmt: skip
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    code, told, aside = run(capsys, "--diff", GPU)
    assert (code, told) == (1, "")
    assert len(aside.splitlines()) == 1
    assert "the cluster does not answer" in aside


def test_what_a_cluster_has_already_is_unchanged_whatever_the_api_server_wrote_into_it() -> None:
    planned = plan(inference_model(), PLAIN, Wanted(THREE))
    assert {change.verdict for change in changes(planned, FakeCluster())} == {CREATED}
    assert {change.verdict for change in changes(planned, FakeCluster(*planned.objects))} == {UNCHANGED}


def test_a_changed_pod_is_a_new_deployment_and_the_old_one_goes() -> None:
    old = plan(inference_model(), PLAIN, Wanted(THREE))
    new = plan(inference_model(), PLAIN, Wanted((PinnedVersion(4),)))
    told = {(change.kind, change.name): change for change in changes(new, FakeCluster(*old.objects))}
    assert told["Deployment", new.revision.name].verdict == CREATED
    assert told["Deployment", old.revision.name].verdict == REMOVED
    moved = told["Service", "m"]
    assert moved.verdict == CHANGED
    assert f"+    serving.atalaya.dev/revision: {new.revision.digest}" in moved.difference
    assert f"-    serving.atalaya.dev/revision: {old.revision.digest}" in moved.difference


def test_an_object_of_somebody_else_is_in_the_way_and_not_compared() -> None:
    planned = plan(inference_model(), PLAIN, Wanted(THREE))
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m", "namespace": "default"}, "spec": {}}
    told = {(change.kind, change.name): change.verdict for change in changes(planned, FakeCluster(theirs))}
    assert told["Service", "m"] == IN_THE_WAY
    assert told["Service", "m-headless"] == CREATED


def test_more_replicas_change_the_deployment_in_place() -> None:
    old, new = (plan(inference_model(replicas=count), PLAIN, Wanted(THREE)) for count in (1, 2))
    told = {change.kind: change for change in changes(new, FakeCluster(*old.objects))}
    assert "-  replicas: 1\n+  replicas: 2" in told["Deployment"].difference
    assert REMOVED not in {change.verdict for change in told.values()}


def test_an_autoscaler_that_the_spec_drops_goes() -> None:
    scaled = inference_model(resources={"requests": {"cpu": 1}}, scaling={"max": 3, "cpu": "70%"})
    old = plan(scaled, PLAIN, Wanted(THREE))
    new = plan(inference_model(resources={"requests": {"cpu": 1}}), PLAIN, Wanted(THREE))
    assert old.revision.name == new.revision.name
    gone = [change for change in changes(new, FakeCluster(*old.objects)) if change.verdict == REMOVED]
    assert [change.kind for change in gone] == ["PodDisruptionBudget", "HorizontalPodAutoscaler"]


def test_what_latest_means_in_a_cluster_is_read_from_the_status() -> None:
    model = inference_model(model={"versions": {"latest": 1}})
    resolved = {"question": question(model), "versions": [{"number": 4, "digest": "files:0123456789abcdef"}]}
    live = {"status": {"version": "3", "resolved": resolved}}
    assert known_versions(live, model) == (PinnedVersion(4, "files:0123456789abcdef"),)
    asks_otherwise = inference_model(model={"versions": {"latest": 2}})
    assert known_versions(live, asks_otherwise) == THREE  # what serves stands in
    assert known_versions({"status": {}}, model) == known_versions(None, model) == ()
    assert known_versions(live, inference_model(model={"versions": {"specific": [7]}})) == ()


def test_a_namespace_of_the_files_own_is_kept() -> None:
    model = in_namespace(inference_model(), "a")
    assert in_namespace(model, "b").metadata.namespace == "a"
