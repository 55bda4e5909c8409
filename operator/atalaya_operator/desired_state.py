"""From an InferenceModel to the objects to be made. Pure: what is decided outside comes in as Decisions and Platform.

`revision` says how the model is to run; `revision_objects` are those of one revision, of which there may be several
side by side; `model_objects` are those that lead to the serving one.
"""

from atalaya_operator.bridge import bridge, service_ports
from atalaya_operator.devices import placement
from atalaya_operator.engines import BY_NAME
from atalaya_operator.engines.base import Request
from atalaya_operator.manifests.autoscaler import autoscaler, bounds
from atalaya_operator.manifests.config_map import config_map
from atalaya_operator.manifests.deployment import deployment
from atalaya_operator.manifests.disruption_budget import disruption_budget
from atalaya_operator.manifests.network_policy import network_policy
from atalaya_operator.manifests.pod_monitor import pod_monitor
from atalaya_operator.manifests.service import headless_service, service
from atalaya_operator.manifests.service_account import service_account
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.names import revision_name
from atalaya_operator.platform import Platform
from atalaya_operator.pod import PodParts, pod_template
from atalaya_operator.revision import Decisions, Manifest, Revision, digest_of
from atalaya_operator.storage import storage
from atalaya_spec.inference_model import InferenceModel


def revision(model: InferenceModel, decisions: Decisions, platform: Platform) -> Revision:
    """The revision that a model asks for now. The same input gives the same name, whoever asks and when."""
    spec, engine = model.spec, BY_NAME[model.spec.engine]
    stored = storage(model, decisions, engine.schemes(spec), platform)
    request = Request(model.name, spec, decisions.numbers, decisions.device, stored.path, platform)
    server = engine.server(request)
    parts = PodParts(
        model, decisions, platform, server, stored, placement(decisions.device, platform), bridge(spec, engine)
    )
    digest = digest_of(pod_template(parts, ""), server.config)
    return Revision(
        name=revision_name(model.name, digest),
        digest=digest,
        image=server.image,
        device=decisions.device,
        versions=decisions.versions,
        template=pod_template(parts, digest),
        ports=service_ports(spec, engine),
        metrics_port=server.rest_port,
        metrics_path=server.metrics_path,
        reads_a_store=spec.model.uri.scheme != "pvc",
        most_replicas=decisions.most_replicas,
        config=server.config,
        annotations=decisions.annotations,
    )


def revision_objects(subject: Subject, one: Revision, platform: Platform) -> list[Manifest]:
    """The objects of one revision, in the order in which they are needed."""
    scaler = autoscaler(subject, one, platform)
    made = (
        config_map(subject, one),
        network_policy(subject, one),
        deployment(subject, one, None if scaler else replicas(subject.model, one)),
        disruption_budget(subject, one),
        scaler,
        pod_monitor(subject, one, platform),
    )
    return [manifest for manifest in made if manifest]


def model_objects(subject: Subject, serving: Revision) -> list[Manifest]:
    """The objects that all revisions share; clients are led to `serving`."""
    return [service_account(subject), service(subject, serving), headless_service(subject, serving)]


def replicas(model: InferenceModel, one: Revision) -> int:
    """How many pods there are without an autoscaler; at least one where one was asked for and cannot be had."""
    if model.spec.scaling:
        return max(1, bounds(model.spec.scaling, one.most_replicas)[0])
    wanted = 1 if model.spec.replicas is None else model.spec.replicas
    return wanted if one.most_replicas is None else min(wanted, one.most_replicas)
