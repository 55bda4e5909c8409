"""Every name of an object, label key and port that the operator gives, each made in exactly one place.

A model's name has at most 52 characters and a revision's digest ten, so that every name here ends at 63.
"""

from atalaya_spec.inference_model import GROUP, InferenceModel

FIELD_MANAGER = "atalaya-operator"

MODEL_LABEL = f"{GROUP}/model"
REVISION_LABEL = f"{GROUP}/revision"
ENGINE_LABEL = f"{GROUP}/engine"
LISTING_LABEL = f"{GROUP}/listing"
DIGEST_ANNOTATION = f"{GROUP}/model-digest"
DEVICE_SINCE_ANNOTATION = f"{GROUP}/device-since"
DEVICE_REASON_ANNOTATION = f"{GROUP}/device-reason"
DEVICE_RETURNS_ANNOTATION = f"{GROUP}/device-returns-to"
DEVICES_TRIED_ANNOTATION = f"{GROUP}/devices-tried"

SERVER_CONTAINER, BRIDGE_CONTAINER, FETCH_CONTAINER = "server", "bridge", "fetch"
GRPC_PORT, REST_PORT = "grpc", "http"
BRIDGE_GRPC_PORT, BRIDGE_REST_PORT = "bridge-grpc", "bridge-http"

MODELS_FOLDER, CONFIG_FOLDER = "/models", "/etc/atalaya"


def revision_name(model: str, digest: str) -> str:
    """The revision's Deployment, and all that belongs to it alone."""
    return f"{model}-{digest}"


def service_name(model: str) -> str:
    """Where clients call."""
    return model


def headless_service_name(model: str) -> str:
    """Where clients that balance by themselves find each pod."""
    return f"{model}-headless"


def service_account_name(model: str) -> str:
    """The account of a model's pods. Not the model's own name: a model `default` would take over that account."""
    return f"{model}-server"


def listing_pod_name(model: str) -> str:
    """The pod that asks the store which versions there are."""
    return f"{model}-versions"


def model_folder(model: str) -> str:
    """Where a model's versions lie in a pod."""
    return f"{MODELS_FOLDER}/{model}"


def selector(model: str, revision: str | None = None) -> dict[str, str]:
    """The labels that choose a model's pods, or those of one revision. They never change."""
    return {MODEL_LABEL: model} | ({REVISION_LABEL: revision} if revision else {})


def labels(model: InferenceModel, revision: str | None = None) -> dict[str, str]:
    """The labels of every object of a model."""
    return {
        "app.kubernetes.io/name": "model-server",
        "app.kubernetes.io/instance": model.name,
        "app.kubernetes.io/managed-by": "atalaya",
        "app.kubernetes.io/part-of": "atalaya",
        ENGINE_LABEL: model.spec.engine,
        **selector(model.name, revision),
    }
