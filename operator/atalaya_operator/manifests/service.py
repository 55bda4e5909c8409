"""Where clients find a model: one address that Kubernetes balances by connection, and one that shows every pod.

Both lead to the pods of the serving revision only; moving them is what moves the traffic.
"""

from atalaya_operator import names
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.revision import Manifest, Revision


def service(subject: Subject, serving: Revision) -> Manifest:
    """The address that most clients use."""
    return _service(subject, names.service_name(subject.model.name), serving, {})


def headless_service(subject: Subject, serving: Revision) -> Manifest:
    """For gRPC clients that balance by themselves: `dns:///<name>:9000` with `round_robin`.

    They call pods directly, so on the pod's own ports, which are the Service's targets.
    """
    return _service(subject, names.headless_service_name(subject.model.name), serving, {"clusterIP": "None"})


def _service(subject: Subject, name: str, serving: Revision, more: Manifest) -> Manifest:
    ports = [
        {
            "name": one.name,
            "port": one.port,
            "targetPort": one.target,
            "protocol": "TCP",
            "appProtocol": "kubernetes.io/h2c" if one.is_grpc else "http",
        }
        for one in serving.ports
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": subject.metadata(name),
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector(subject.model.name, serving.digest),
            "ports": ports,
            **more,
        },
    }
