"""What may reach a model's pods and what they may reach: their own ports; out only where a store must be read."""

from atalaya_operator import names
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.revision import Manifest, Revision


def network_policy(subject: Subject, revision: Revision) -> Manifest:
    """For the pods of one revision, since the ports are its own."""
    containers = revision.template["spec"]["containers"]
    ports = [
        {"port": port["containerPort"], "protocol": "TCP"} for container in containers for port in container["ports"]
    ]
    spec: Manifest = {
        "podSelector": {"matchLabels": names.selector(subject.model.name, revision.digest)},
        "policyTypes": ["Ingress"] if revision.reads_a_store else ["Ingress", "Egress"],
        "ingress": [{"ports": ports}],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": subject.metadata(revision.name, revision.digest),
        "spec": spec,
    }
