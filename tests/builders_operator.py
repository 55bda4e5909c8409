"""InferenceModels of every engine on every device and from every store, and what was decided for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atalaya_operator.desired_state import model_objects, revision, revision_objects
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.platform import POD_MONITOR, SCALED_OBJECT, Platform
from atalaya_operator.revision import Decisions, Manifest, PinnedVersion, Revision
from atalaya_spec.inference_model import API_VERSION, KIND, InferenceModel
from atalaya_spec.model_files import check_object

PLAIN = Platform(atalaya_version="0.1.0")
WITH_MONITORING = Platform(
    atalaya_version="0.1.0",
    prometheus_url="http://prometheus.monitoring:9090",
    offers=frozenset({POD_MONITOR, SCALED_OBJECT}),
)
STORES = {
    "s3": "s3://models/haiti-damage",
    "gs": "gs://models/haiti-damage",
    "az": "az://models/haiti-damage",
    "https": "https://models.example.org/haiti-damage",
    "oci": "oci://images.example.org/models/haiti-damage",
    "pvc": "pvc://model-volume/shared/haiti-damage",
}


def inference_model(name: str = "m", **spec: Any) -> InferenceModel:
    """A valid model; fields of its spec as YAML has them, `store` for its URI by the name of the store."""
    store = spec.pop("store", "s3")
    location: dict[str, Any] = {"uri": STORES[store], **spec.pop("model", {})}
    document = {"engine": "openvino", "model": location, **spec}
    made, findings = check_object(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": document}
    )
    assert made, findings.problems
    return made


@dataclass(frozen=True)
class Case:
    """One model and what was decided for it. The device is the first that it names."""

    spec: Mapping[str, Any]
    versions: tuple[PinnedVersion, ...] = (PinnedVersion(3),)
    platform: Platform = PLAIN
    most_replicas: int | None = None
    name: str = field(default="haiti-damage")

    @property
    def model(self) -> InferenceModel:
        return inference_model(self.name, **self.spec)

    @property
    def revision(self) -> Revision:
        model = self.model
        decided = Decisions(self.versions, model.spec.devices[0], self.most_replicas)
        return revision(model, decided, self.platform)

    def objects(self, subject: Subject | None = None) -> list[Manifest]:
        subject, one = subject or Subject(self.model), self.revision
        return [*model_objects(subject, one), *revision_objects(subject, one, self.platform)]


DIGEST = "sha256:" + "0f" * 32
SECRET = {"credentialsSecret": "model-store"}
CASES: dict[str, Case] = {
    "openvino-cpu-s3": Case({"engineVersion": "2026.3", "store": "s3", "model": SECRET}),
    "openvino-xe-gs": Case({"store": "gs", "model": SECRET, "devices": ["gpu.intel.com/xe", "cpu"],
                            "batching": {"maxSize": 32, "timeout": "500us"}}),
    "openvino-i915-az": Case({"engineVersion": "2025.0", "store": "az", "model": SECRET,
                              "devices": ["gpu.intel.com/i915"]}),
    "openvino-npu-pvc": Case({"engineVersion": "2026.2.1", "store": "pvc", "devices": ["npu.intel.com/accel"]},
                             (PinnedVersion(4), PinnedVersion(3))),
    "openvino-cpu-https": Case({"store": "https", "replicas": 3,
                                "resources": {"requests": {"cpu": 2, "memory": "1Gi"}, "limits": {"memory": "2Gi"}}},
                               (PinnedVersion(3, DIGEST),)),
    "openvino-cpu-oci-bridge": Case({"engineVersion": "2026.3", "store": "oci", "model": SECRET,
                                     "protocols": ["tensorflow-serving", "kserve-v2"]}),
    "openvino-cpu-s3-both-protocols": Case({"engineVersion": "2026.2.1", "store": "s3"}),
    "openvino-cpu-s3-by-cpu": Case({"resources": {"requests": {"cpu": 1}},
                                    "scaling": {"min": 2, "max": 8, "cpu": "70%"}}, most_replicas=5),
    "openvino-xe-s3-by-latency": Case({"devices": ["gpu.intel.com/xe"], "scaling": {"max": 4, "latencyP95": "50ms"}},
                                      platform=WITH_MONITORING),
    "tensorflow-cpu-s3": Case({"engine": "tensorflow", "engineVersion": "2.16.1", "store": "s3", "model": SECRET}),
    "tensorflow-nvidia-pvc": Case({"engine": "tensorflow", "store": "pvc", "devices": ["nvidia.com/gpu", "cpu"],
                                   "batching": {"maxSize": 64, "timeout": "2ms"}}),
    "tensorflow-mig-oci": Case({"engine": "tensorflow", "engineVersion": "2.19.1", "store": "oci",
                                "devices": ["nvidia.com/mig-1g.5gb"]}, (PinnedVersion(3, DIGEST),)),
    "tensorflow-shared-s3": Case({"engine": "tensorflow", "store": "s3", "devices": ["nvidia.com/gpu.shared"]}),
    "tensorflow-nvidia-gs-by-concurrency": Case({"engine": "tensorflow", "store": "gs", "model": SECRET,
                                                 "devices": ["nvidia.com/gpu"],
                                                 "scaling": {"max": 4, "concurrency": 4}}, platform=WITH_MONITORING),
    "tensorflow-cpu-az-bridge": Case({"engine": "tensorflow", "store": "az", "model": SECRET,
                                      "protocols": ["kserve-v2"]}),
    "tensorflow-cpu-https-image": Case({"engine": "tensorflow", "engineVersion": "2.20.0", "store": "https",
                                        "image": "images.example.org/serving/tensorflow:2.20.0"}),
    "atalaya-cpu-pvc": Case({"engine": "atalaya", "store": "pvc"}),
    "atalaya-xe-s3-by-queue": Case({"engine": "atalaya", "store": "s3", "model": SECRET,
                                    "devices": ["gpu.intel.com/xe"], "batching": {"maxSize": 16},
                                    "scaling": {"min": 0, "max": 3, "queue": {"length": 8, "query": "sum(waiting)"}}},
                                   platform=WITH_MONITORING),
    "atalaya-i915-oci": Case({"engine": "atalaya", "store": "oci", "devices": ["gpu.intel.com/i915"]}),
    "atalaya-cpu-gs": Case({"engine": "atalaya", "store": "gs", "model": SECRET}),
    "atalaya-cpu-az": Case({"engine": "atalaya", "store": "az", "protocols": ["tensorflow-serving"]}),
    "atalaya-tensorflow-cpu-https": Case({"engine": "atalaya", "backend": "tensorflow", "store": "https"}),
}  # fmt: skip
