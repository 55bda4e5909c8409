"""How a model's files come to its server: read by the server itself, mounted, or fetched before it starts.

Our fetch container gets the versions by number, with their digests where they are known, into a folder that the server
mounts read-only. A claim is mounted as it is.
"""

from dataclasses import dataclass, field
from typing import Any

from atalaya_operator.names import FETCH_CONTAINER, model_folder
from atalaya_operator.platform import Platform
from atalaya_operator.revision import Decisions
from atalaya_spec.inference_model import InferenceModel

_VOLUME = "model"
_CREDENTIALS_VOLUME, _CREDENTIALS_FOLDER = "store-credentials", "/var/run/secrets/serving.atalaya.dev/store"
_GOOGLE_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
FETCH_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}


@dataclass(frozen=True)
class Storage:
    """What it takes. `path` is what the server is told as the model's folder."""

    path: str
    volumes: tuple[dict[str, Any], ...] = ()
    server: dict[str, Any] = field(default_factory=dict)
    """Fields of the server's container: what it mounts, and the environment that it logs in with."""
    fetch: dict[str, Any] | None = None
    """The init container that fetches, without what all our containers have in common."""


def storage(model: InferenceModel, decisions: Decisions, schemes: tuple[str, ...], platform: Platform) -> Storage:
    """`schemes` are what the server's version can read itself."""
    uri = model.spec.model.uri
    if uri.scheme == "pvc":
        return _mounted(model)
    credentials = _credentials(model)
    if uri.scheme in schemes:
        return Storage(uri.text, credentials.volumes, credentials.container)
    mount = {"name": _VOLUME, "mountPath": model_folder(model.name)}
    fetching = {
        "name": FETCH_CONTAINER,
        "image": platform.serving_image,
        "args": _fetch_arguments(model, decisions),
        "resources": FETCH_RESOURCES,
        **credentials.container,
    }
    fetching["volumeMounts"] = [*credentials.container.get("volumeMounts", ()), mount]
    return Storage(
        mount["mountPath"],
        (*credentials.volumes, {"name": _VOLUME, "emptyDir": {}}),
        {"volumeMounts": [mount | {"readOnly": True}]},
        fetching,
    )


def listing_storage(model: InferenceModel, platform: Platform) -> Storage:
    """The same store for the container that asks which versions there are, which stands in for a server here."""
    uri = model.spec.model.uri
    credentials = _credentials(model)
    stored = Storage(uri.text, credentials.volumes, credentials.container)
    if uri.scheme == "pvc":
        stored = _mounted(model)
    most = model.spec.model.versions.latest
    arguments = ["fetch", "--list", f"--from={stored.path}", *([f"--most={most}"] if most else [])]
    container = {
        "name": FETCH_CONTAINER,
        "image": platform.serving_image,
        "args": arguments,
        "resources": FETCH_RESOURCES,
        **stored.server,
    }
    return Storage(stored.path, stored.volumes, container)


def _mounted(model: InferenceModel) -> Storage:
    claim, _, folder = model.spec.model.uri.path.partition("/")
    mount = {"name": _VOLUME, "mountPath": model_folder(model.name), "readOnly": True}
    if folder.strip("/"):
        mount["subPath"] = folder.strip("/")
    volume = {"name": _VOLUME, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    return Storage(str(mount["mountPath"]), (volume,), {"volumeMounts": [mount]})


def _fetch_arguments(model: InferenceModel, decisions: Decisions) -> list[str]:
    versions = ",".join(map(str, decisions.numbers))
    digests = [f"--digest={one.number}={one.digest}" for one in decisions.versions if _is_of_contents(one.digest)]
    source, target = model.spec.model.uri.text, model_folder(model.name)
    return ["fetch", f"--from={source}", f"--to={target}", f"--versions={versions}", *digests]


def _is_of_contents(digest: str) -> bool:
    """A mark of a store's own tags names a revision, and says nothing of contents."""
    return digest.startswith("sha256:")


@dataclass(frozen=True)
class _Credentials:
    volumes: tuple[dict[str, Any], ...] = ()
    container: dict[str, Any] = field(default_factory=dict)


def _credentials(model: InferenceModel) -> _Credentials:
    """The Secret's keys as environment variables. Google's SDK reads a file, so there the key is mounted as one."""
    secret = model.spec.model.credentials_secret
    if secret is None:
        return _Credentials()
    container: dict[str, Any] = {"envFrom": [{"secretRef": {"name": secret}}]}
    if model.spec.model.uri.scheme != "gs":
        return _Credentials((), container)
    file = {"items": [{"key": _GOOGLE_VARIABLE, "path": "key.json"}], "secretName": secret, "defaultMode": 0o440}
    container["env"] = [{"name": _GOOGLE_VARIABLE, "value": f"{_CREDENTIALS_FOLDER}/key.json"}]
    container["volumeMounts"] = [{"name": _CREDENTIALS_VOLUME, "mountPath": _CREDENTIALS_FOLDER, "readOnly": True}]
    return _Credentials(({"name": _CREDENTIALS_VOLUME, "secret": file},), container)
