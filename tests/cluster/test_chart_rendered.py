"""What Helm makes of the chart's values, without a cluster: every switch, and what must hold whatever is switched."""

import subprocess
from typing import Any

import pytest
import yaml

from atalaya_operator.permissions import configuration_rule, operator_rules, webhook_rules
from cluster.binaries import binaries
from cluster.chart import CHART, NAME, NAMESPACE
from cluster.fixtures import do_without

Objects = dict[tuple[str, str], dict[str, Any]]
ALL_ON = {
    "images.registry": "mirror.test/x",
    "images.pullSecrets[0]": "login",
    "operator.priorityClassName": "high",
    "operator.nodeSelector.disk": "fast",
    "operator.tolerations[0].operator": "Exists",
    "operator.podAnnotations.a": "b",
    "operator.serviceAccountAnnotations.a": "b",
    "faces.enabled": "true",
    "prometheus.url": "http://prometheus:9090",
    "accelerators.nvidiaRuntimeClass": "nvidia",
    "webhook.looksForSecrets": "true",
    "webhook.certManager.enabled": "true",
    "metrics.serviceMonitor.enabled": "true",
    "metrics.serviceMonitor.labels.release": "p",
    "dashboard.store.secret.name": "store",
    "dashboard.persistence.enabled": "true",
    "dashboard.persistence.storageClass": "fast",
    "dashboard.endpoint": "m.default:9000",
    "dashboard.metricsUrls[0]": "http://a:8000/metrics",
    "dashboard.metricsUrls[1]": "http://b:8000/metrics",
    "dashboard.allowedFrom[0].namespaceSelector.matchLabels.a": "b",
}
ALL_OFF = {"webhook.enabled": "false", "networkPolicy.enabled": "false", "rbac.aggregate": "false",
           "dashboard.enabled": "false", "accelerators.groups": "null"}  # fmt: skip


def helm(*arguments: str) -> str:
    program = binaries().path("helm")
    if not program.is_file():
        do_without("Helm is not built: run make cluster-prepare (half an hour, once)")
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(values: dict[str, str], *arguments: str) -> Objects:
    sets = [f"--set={name}={value}" for name, value in values.items()]
    text = helm("template", NAME, str(CHART), "--namespace", NAMESPACE, "--include-crds", *sets, *arguments)
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}


def pod_specs(objects: Objects) -> list[dict[str, Any]]:
    deployments = [one["spec"]["template"]["spec"] for (kind, _), one in objects.items() if kind == "Deployment"]
    return deployments + [one["spec"] for (kind, _), one in objects.items() if kind == "Pod"]


def variables(objects: Objects, deployment: str) -> dict[str, Any]:
    [container] = objects["Deployment", deployment]["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def test_lint_has_nothing_to_say() -> None:
    assert "WARNING" not in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize("values", [{}, ALL_ON, ALL_OFF], ids=["default", "all-on", "all-off"])
def test_whatever_is_switched_the_pods_are_restricted_and_the_labels_match(values: dict[str, str]) -> None:
    objects = rendered(values)
    assert ("CustomResourceDefinition", "inferencemodels.serving.atalaya.dev") in objects
    for spec in pod_specs(objects):
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
    whole = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "ValidatingWebhookConfiguration"}
    for (kind, name), one in objects.items():
        assert (one["metadata"].get("namespace") == NAMESPACE) != (kind in whole), (kind, name)
        if kind == "Deployment":
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
        if kind == "Service":
            labels = objects["Deployment", name]["spec"]["template"]["metadata"]["labels"]
            assert one["spec"]["selector"].items() <= labels.items()


def test_every_image_comes_from_the_registry_that_is_named() -> None:
    objects = rendered(ALL_ON)
    images = {container["image"] for spec in pod_specs(objects) for container in spec["containers"]}
    told = variables(objects, "atalaya-operator")
    images |= {value for name, value in told.items() if name.endswith("_REPOSITORY")}
    assert {image for image in images if not image.startswith("mirror.test/x/atalaya/")} == set()
    assert all(spec["imagePullSecrets"] == [{"name": "login"}] for spec in pod_specs(objects))
    assert told["ATALAYA_IMAGE_PULL_SECRETS"] == "login"


def test_the_originals_run_unless_the_faces_are_asked_for() -> None:
    plain, faces = (variables(rendered(values), "atalaya-operator") for values in ({}, {"faces.enabled": "true"}))
    changed = {name for name in plain if plain[name] != faces[name]}
    assert changed == {"ATALAYA_OPENVINO_REPOSITORY", "ATALAYA_TENSORFLOW_REPOSITORY"}
    assert plain["ATALAYA_OPENVINO_REPOSITORY"] == "openvino/model_server"
    assert faces["ATALAYA_OPENVINO_REPOSITORY"] == "atalaya/ovms"


def test_the_role_follows_what_is_switched_on() -> None:
    def role(values: dict[str, str]) -> list[Any]:
        return list(rendered(values)["ClusterRole", "atalaya-operator"]["rules"])

    claims, secrets = webhook_rules()["PersistentVolumeClaim"], webhook_rules()["Secret"]
    assert role(ALL_OFF) == operator_rules()
    assert role({}) == [*operator_rules(), *claims, configuration_rule(NAME)]
    assert role(ALL_ON) == [*operator_rules(), *claims, *secrets]


def test_cert_manager_makes_the_certificate_that_the_operator_mounts() -> None:
    objects = rendered(ALL_ON)
    configuration = objects["ValidatingWebhookConfiguration", "atalaya"]
    names = {one["metadata"]["name"] for (kind, _), one in objects.items() if kind == "Certificate"}
    assert configuration["metadata"]["annotations"] == {
        "cert-manager.io/inject-ca-from": f"{NAMESPACE}/atalaya-webhook"
    }
    assert names == {"atalaya-webhook"}
    certificate = objects["Certificate", "atalaya-webhook"]["spec"]
    service = configuration["webhooks"][0]["clientConfig"]["service"]
    assert certificate["dnsNames"] == [f"{service['name']}.{service['namespace']}.svc"]
    volumes = objects["Deployment", "atalaya-operator"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "certificate", "secret": {"secretName": certificate["secretName"]}} in volumes
    assert variables(objects, "atalaya-operator")["ATALAYA_WEBHOOK_CERTIFICATES"] == "/etc/atalaya/webhook"


def test_without_a_webhook_nothing_of_it_is_left() -> None:
    objects = rendered(ALL_OFF)
    assert not [kind for kind, _ in objects if "Webhook" in kind]
    assert not [name for name in variables(objects, "atalaya-operator") if "WEBHOOK" in name]
    assert [port["name"] for port in objects["Service", "atalaya-operator"]["spec"]["ports"]] == ["metrics"]


def test_the_dashboard_is_given_its_store_and_where_to_look() -> None:
    told = variables(rendered(ALL_ON), "atalaya-dashboard")
    assert told["ATALAYA_STORE_URL"] == {"secretKeyRef": {"name": "store", "key": "url"}}
    assert told["ATALAYA_METRICS_URLS"] == "http://a:8000/metrics,http://b:8000/metrics"
    assert told["ATALAYA_ENDPOINT"] == "m.default:9000"
    assert told["ATALAYA_PROMETHEUS_URL"] == "http://prometheus:9090"
    kept = rendered(ALL_ON)["PersistentVolumeClaim", "atalaya-dashboard"]
    assert kept["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert kept["spec"]["storageClassName"] == "fast"


def test_the_dashboard_may_find_pods_only_where_no_prometheus_knows_them() -> None:
    def may(values: dict[str, str]) -> list[str]:
        rules = rendered(values)["ClusterRole", "atalaya-dashboard"]["rules"]
        assert all(rule["verbs"] == ["list"] for rule in rules)
        return [resource for rule in rules for resource in rule["resources"]]

    assert may({}) == ["inferencemodels", "endpointslices"]
    assert may({"prometheus.url": "http://prometheus:9090"}) == ["inferencemodels"]


def test_a_release_of_another_name_names_its_objects_after_it() -> None:
    text = helm("template", "second", str(CHART), "--namespace", NAMESPACE)
    named = {one["metadata"]["name"] for one in yaml.safe_load_all(text) if one}
    assert named == {name for name in named if name.startswith("second-atalaya")}
    assert "second-atalaya-operator.atalaya-system.svc" in text
