"""When an object needs no call: our entry in managedFields, as a real API server writes it, beside what is wanted."""

import copy
from typing import Any

import pytest

from atalaya_operator.names import FIELD_MANAGER
from atalaya_operator.ownership import controller_uid, is_applied, owns

WANTED: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d", "namespace": "n", "labels": {"a": "b"}},
    "spec": {
        "template": {
            "containers": [
                {"name": "server", "args": ["--x"], "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}}}
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "groups": [44, 109],
        }
    },
}
FIELDS: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:a": {}}},
    "f:spec": {
        "f:template": {
            "f:containers": {
                'k:{"name":"server"}': {
                    ".": {},
                    "f:name": {},
                    "f:args": {},
                    "f:resources": {"f:requests": {"f:cpu": {}, "f:memory": {}}},
                }
            },
            "f:volumes": {'k:{"name":"tmp"}': {".": {}, "f:name": {}, "f:emptyDir": {}}},
            "f:groups": {"v:44": {}, "v:109": {}},
        }
    },
}


def live() -> dict[str, Any]:
    """As the API server has it: amounts in its words, defaults beside ours, an item of somebody else's."""
    found = copy.deepcopy(WANTED)
    template = found["spec"]["template"]
    template["containers"][0]["resources"]["requests"] = {"cpu": "500m", "memory": "1Gi"}
    template["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
    template["containers"].insert(0, {"name": "injected-by-a-mesh"})
    template["volumes"][0]["emptyDir"] = {"medium": ""}
    template["dnsPolicy"] = "ClusterFirst"
    entry = {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": copy.deepcopy(FIELDS)}
    found["metadata"]["managedFields"] = [{"manager": "kubectl", "operation": "Update", "fieldsV1": {}}, entry]
    return found


def test_what_the_api_server_filled_in_and_said_in_its_words_is_no_difference() -> None:
    assert is_applied(WANTED, live())


def _entry(found: dict[str, Any]) -> dict[str, Any]:
    return dict(found["metadata"]["managedFields"][1])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: f["metadata"]["managedFields"].pop(), id="never-applied"),
        pytest.param(lambda f: _entry(f)["fieldsV1"].pop("f:metadata"), id="taken-over"),
        pytest.param(lambda f: _entry(f)["fieldsV1"]["f:spec"].update({"f:replicas": {}}), id="no-longer-wanted"),
        pytest.param(lambda f: f["metadata"]["labels"].update(a="c"), id="another-value"),
        pytest.param(lambda f: f["spec"]["template"]["containers"][1].update(args=["--x", "--y"]), id="longer-list"),
        pytest.param(lambda f: f["spec"]["template"]["containers"].pop(), id="item-gone"),
        pytest.param(lambda f: f["spec"]["template"].update(groups=[44]), id="member-gone"),
        pytest.param(
            lambda f: f["spec"]["template"]["containers"][1]["resources"]["requests"].update(cpu="501m"), id="amount"
        ),
        pytest.param(lambda f: f["metadata"]["managedFields"][1].update(operation="Update"), id="another-operation"),
        pytest.param(lambda f: f["metadata"]["managedFields"][1].update(subresource="status"), id="of-the-status"),
    ],
)
def test_each_difference_is_seen(change: Any) -> None:
    found = live()
    change(found)
    assert not is_applied(WANTED, found)


def test_a_field_is_ours_when_we_applied_it() -> None:
    assert owns(live(), "spec", "template")
    assert not owns(live(), "spec", "replicas")


def test_an_owner_that_does_not_control_is_none() -> None:
    found = {"metadata": {"ownerReferences": [{"uid": "a"}, {"uid": "b", "controller": True}]}}
    assert controller_uid(found) == "b"
    assert controller_uid({"metadata": {"ownerReferences": [{"uid": "a"}]}}) == ""
