"""The CustomResourceDefinition of InferenceModel, made from the dataclasses that describe its fields.

`python -m atalaya_operator.crd > charts/atalaya/crds/inferencemodels.yaml` writes the file that is committed; a test
holds the two equal.
"""

import sys
from typing import Any

from atalaya_operator.admission_rules import rules_at
from atalaya_operator.schema import struct_schema
from atalaya_operator.yaml_text import as_yaml
from atalaya_spec.inference_model import GROUP, KIND, VERSION, Spec
from atalaya_spec.inference_model_status import Status

PLURAL, SINGULAR, SHORT_NAME, CATEGORY = "inferencemodels", "inferencemodel", "im", "all"
NAME = f"{PLURAL}.{GROUP}"

_HEADER = """# Made by `python -m atalaya_operator.crd`; edit operator/atalaya_spec/inference_model.py instead.
# Helm installs this folder once and never upgrades it: kubectl apply --server-side -f charts/atalaya/crds/
"""
_COLUMNS = (
    ("ENGINE", ".spec.engine", "Model server", 0),
    ("DEVICE", ".status.device", "Device class that it computes on", 0),
    ("VERSION", ".status.version", "Versions of the model that serve", 0),
    ("READY", ".status.ready", "Pods that answer, of those wanted", 0),
    ("REASON", ".status.reason", "Why it is as it is", 0),
    ("MESSAGE", ".status.message", "The evidence", 1),
    ("NEXT", ".status.nextStep", "What to do about it", 1),
)


def custom_resource_definition() -> dict[str, Any]:
    """The whole object."""
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": SINGULAR,
        "shortNames": [SHORT_NAME],
        "categories": [CATEGORY],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [_version()]},
    }


def _version() -> dict[str, Any]:
    columns = [
        {"name": name, "type": "string", "jsonPath": path, "description": told, "priority": priority}
        for name, path, told, priority in _COLUMNS
    ]
    age = {"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Since it is there"}
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [*columns[:5], age, *columns[5:]],
    }


def _schema() -> dict[str, Any]:
    described = {"description": "One model that is to be served."}
    return described | {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {"description": "What is wanted.", **struct_schema(Spec, "spec", rules_at)},
            "status": {"description": "What the operator says of it.", **struct_schema(Status, "status", rules_at)},
        },
        "x-kubernetes-validations": rules_at(""),
    }


def file_text() -> str:
    """The text of the committed file."""
    return _HEADER + as_yaml([custom_resource_definition()])


if __name__ == "__main__":
    sys.stdout.write(file_text())
