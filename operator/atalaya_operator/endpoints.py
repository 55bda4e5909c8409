"""Where clients find a model within the cluster, as its status and `atalaya plan` tell it."""

from atalaya_operator.bridge import PORTS
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.names import service_name
from atalaya_operator.revision import Revision
from atalaya_spec.inference_model_status import Endpoints
from atalaya_spec.model_server import KSERVE_V2, TENSORFLOW_SERVING


def endpoints(subject: Subject, serving: Revision) -> Endpoints:
    """The gRPC address of each protocol; None for one that is not offered."""
    host = f"{service_name(subject.model.name)}.{subject.namespace}.svc"
    offered = {port.port for port in serving.ports}

    def address(protocol: str) -> str | None:
        grpc, _ = PORTS[protocol]
        return f"{host}:{grpc}" if grpc in offered else None

    return Endpoints(
        kserve_v2=address(KSERVE_V2),
        tensorflow_serving=address(TENSORFLOW_SERVING),
        metrics=f":{serving.metrics_port}{serving.metrics_path}",
    )
