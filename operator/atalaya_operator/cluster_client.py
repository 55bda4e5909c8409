"""The calls that the operator makes, each one request: plain dicts in and out, errors by whether another try helps.

`kubernetes` is used for what it knows of credentials and TLS. Its dynamic client asks for more than is needed here, and
turns each answer into objects and back.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, urlencode

import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import load_incluster_config, load_kube_config
from kubernetes.config.config_exception import ConfigException

from atalaya_operator.errors import ClusterUnavailable, ObjectRefused, TryAgain
from atalaya_operator.kinds import MODELS, NODES, OWNED, PODS, Kind
from atalaya_operator.metrics import REQUESTS
from atalaya_operator.names import FIELD_MANAGER, MODEL_LABEL
from atalaya_operator.revision import Manifest

_TIMEOUT = urllib3.Timeout(connect=5, read=20)
_WATCH_SECONDS = 240
_WATCH_TIMEOUT = urllib3.Timeout(connect=5, read=_WATCH_SECONDS + 20)
_KINDS = {kind.name: kind for kind in (*OWNED, PODS, MODELS)}
_NOT_FOUND, _CONFLICT = 404, 409
_PASSING = (401, _CONFLICT, 410, 429)
"""Unauthorized, conflict, gone (a list that took too long), too many requests."""
_APPLY = {"Content-Type": "application/apply-patch+yaml"}
_ONLY_METADATA = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
_PAGE = 500
_EVER = 2**63
_FOREIGN = {"Secret": "secrets", "PersistentVolumeClaim": "persistentvolumeclaims"}
_WEBHOOK = "ValidatingWebhookConfiguration"
_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
_WARNINGS = "involvedObject.kind=Pod,type=Warning"
_LOG_TIMEOUT = urllib3.Timeout(connect=2, read=3)
_LOG_LINES, _LOG_BYTES = 60, 2**16
_LOG = logging.getLogger(__name__)


class ClusterClient:
    """An API server. Safe for threads."""

    def __init__(self, settings: Configuration) -> None:
        rest: Any = RESTClientObject
        self._settings: Any = settings
        self._pool: urllib3.PoolManager = rest(settings).pool_manager

    @classmethod
    def connect(cls, connections: int) -> Self:
        """As the pod's service account, or where there is none as kubectl does. Raises ClusterUnavailable."""
        settings = Configuration()
        settings.connection_pool_maxsize = connections
        in_cluster: Any = load_incluster_config
        by_file: Any = load_kube_config
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                in_cluster(client_configuration=settings)
            else:
                by_file(os.environ.get("KUBECONFIG") or None, client_configuration=settings)
        except (ConfigException, OSError, TypeError) as error:
            told = " ".join(str(error).split())
            raise ClusterUnavailable(f"no cluster is known here ({told}); set KUBECONFIG.") from error
        return cls(settings)

    def get(self, wanted: Manifest) -> Manifest | None:
        """What stands where a manifest is to be made; None for nothing."""
        return self._call("GET", wanted)

    def apply(self, manifest: Manifest, manager: str) -> Manifest:
        """Server-side apply; answers the object as it is then."""
        made = self._call("PATCH", manifest, f"?fieldManager={manager}&force=true", manifest, _APPLY)
        if made is None:
            told = f"{manifest['kind']} {manifest['metadata']['name']}"
            raise ObjectRefused(f"{told}: the namespace or its kind is not there.")
        return made

    def apply_status(self, manifest: Manifest) -> Manifest | None:
        """The same on the status subresource; None when there is no such object."""
        return self._call("PATCH", manifest, f"/status?fieldManager={FIELD_MANAGER}&force=true", manifest, _APPLY)

    def remove(self, found: Manifest) -> None:
        """Delete this very object, what belongs to it behind it. What is gone already is no error."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": found["metadata"]["uid"]}}
        self._call("DELETE", found, "", body, {"Content-Type": "application/json"})

    def uids(self, kind: Kind) -> tuple[frozenset[str], int]:
        """The uids of all models, all nodes or all objects with our label, and the version of the cluster with them."""
        selection = {} if kind in (MODELS, NODES) else {"labelSelector": MODEL_LABEL}
        found: set[str] = set()
        version = _EVER  # a kind that is not served has no objects
        for page in self.pages(kind, selection, _ONLY_METADATA):
            found |= {one["metadata"]["uid"] for one in page["items"]}
            version = int(page["metadata"]["resourceVersion"])
        return frozenset(found), version

    def pages(self, kind: Kind, selection: Mapping[str, str], headers: Any = None) -> Iterator[Manifest]:
        """The objects of a kind in all namespaces, page by page of one state; none when the kind is not served."""
        asked = {"limit": str(_PAGE), **selection}
        while page := self._request("GET", _everywhere(kind, asked), kind.name, kind.name, None, headers):
            yield page
            if not page["metadata"].get("continue"):
                return
            asked["continue"] = page["metadata"]["continue"]

    def changes(self, kind: Kind, selection: Mapping[str, str], version: str) -> Iterator[Manifest]:
        """One watch: what happened to these objects since a version, until the API server ends it."""
        asked = {**selection, "watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true",
                 "timeoutSeconds": str(_WATCH_SECONDS)}  # fmt: skip
        try:
            answer = self._send("GET", _everywhere(kind, asked), timeout=_WATCH_TIMEOUT, preload_content=False)
            _raise_for(answer, kind.name)
            with contextlib.closing(answer):
                yield from map(json.loads, answer)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise TryAgain(f"{kind.name}: the API server does not answer ({error}).") from error

    def exists(self, kind: str, namespace: str, name: str) -> bool:
        """Whether an object is there that is not ours; nothing of it is read."""
        plural = _FOREIGN[kind]
        headers = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
        path = f"/api/v1/namespaces/{namespace}/{plural}/{name}"
        return self._request("GET", path, kind, f"{kind} {name}", None, headers) is not None

    def webhook_bundles(self, name: str) -> list[str]:
        """What the API server trusts, in base64, for each webhook of a configuration."""
        found = self._request("GET", f"{_WEBHOOKS}/{name}", _WEBHOOK, f"{_WEBHOOK} {name}", None, None)
        if found is None:
            raise ObjectRefused(f"there is no {_WEBHOOK} {name}; install the chart again.")
        return [str(one["clientConfig"].get("caBundle") or "") for one in found.get("webhooks") or ()]

    def trust_webhook(self, name: str, index: int, bundle: str) -> None:
        """Have the API server trust this authority for one webhook of a configuration."""
        change = {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
        headers = {"Content-Type": "application/json-patch+json"}
        self._request("PATCH", f"{_WEBHOOKS}/{name}", _WEBHOOK, f"{_WEBHOOK} {name}", [change], headers)

    def tell(self, event: Manifest) -> None:
        """Make an Event. One that was told already is no error; one that the API server will not have is logged."""
        about = f"Event {event['metadata']['name']}"
        REQUESTS.labels(verb="post", kind="Event").inc()
        path = f"/apis/{event['apiVersion']}/namespaces/{event['metadata']['namespace']}/events"
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._send("POST", path, body=json.dumps(event).encode(), headers=headers, timeout=_TIMEOUT)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TryAgain(f"{about}: the API server does not answer ({error}).") from error
        if answer.status == _CONFLICT:
            return
        try:
            _raise_for(answer, about)
        except ObjectRefused as refused:
            _LOG.info("An Event is not told: %s", refused)

    def warnings(self, namespace: str) -> Iterable[Manifest]:
        """The warnings about pods of a namespace, newest states."""
        path = f"/api/v1/namespaces/{namespace}/events?fieldSelector={quote(_WARNINGS, safe='')}"
        answer = self._request("GET", path, "Event", f"Events of {namespace}", None, None)
        return answer["items"] if answer else ()

    def quota(self, namespace: str, name: str) -> Manifest | None:
        """A ResourceQuota; None when it is not there."""
        about = f"ResourceQuota {name}"
        return self._request(
            "GET", f"/api/v1/namespaces/{namespace}/resourcequotas/{name}", "ResourceQuota", about, None, None
        )

    def log_tail(self, namespace: str, pod: str, container: str) -> str:
        """The end of a log; empty where there is none. It is the node that answers, so it is not waited for long."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&tailLines={_LOG_LINES}"
        REQUESTS.labels(verb="get", kind="Pod/log").inc()
        try:
            answer = self._send("GET", f"{path}&limitBytes={_LOG_BYTES}", timeout=_LOG_TIMEOUT)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TryAgain(f"log of {pod}: the node does not answer ({error}).") from error
        return answer.data.decode(errors="replace") if answer.status < 300 else ""

    def _call(
        self, verb: str, about: Manifest, suffix: str = "", body: Manifest | None = None, headers: Any = None
    ) -> Manifest | None:
        told = f"{about['kind']} {about['metadata']['name']}"
        return self._request(verb, f"{_path(about)}{suffix}", about["kind"], told, body, headers)

    def _request(self, verb: str, path: str, kind: str, told: str, body: Any, headers: Any) -> Manifest | None:
        REQUESTS.labels(verb=verb.lower(), kind=kind).inc()
        content = None if body is None else json.dumps(body).encode()
        try:
            answer = self._send(verb, path, body=content, headers=headers, timeout=_TIMEOUT)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TryAgain(f"{told}: the API server does not answer ({error}).") from error
        if answer.status == _NOT_FOUND:
            return None
        _raise_for(answer, told)
        found: Manifest = json.loads(answer.data)
        return found

    def _send(self, verb: str, path: str, *, headers: Any = None, **how: Any) -> urllib3.BaseHTTPResponse:
        login = {one["key"]: one["value"] for one in self._settings.auth_settings().values() if one["value"]}
        told = {"Accept": "application/json", **login, **(headers or {})}
        return self._pool.request(verb, f"{self._settings.host}{path}", headers=told, retries=False, **how)


def _root(kind: Kind) -> str:
    return "apis" if kind.group else "api"


def _everywhere(kind: Kind, asked: Mapping[str, str]) -> str:
    return f"/{_root(kind)}/{kind.api_version}/{kind.plural}?{urlencode(asked)}"


def _raise_for(answer: urllib3.BaseHTTPResponse, told: str) -> None:
    """TryAgain or ObjectRefused for an answer that is none."""
    if answer.status < 300:
        return
    message = f"{told}: {_words(answer.data)}"
    if answer.status in _PASSING or answer.status >= 500:
        raise TryAgain(message, _seconds(answer.headers.get("Retry-After")))
    raise ObjectRefused(message)


def _path(about: Manifest) -> str:
    kind, metadata = _KINDS[about["kind"]], about["metadata"]
    return f"/{_root(kind)}/{kind.api_version}/namespaces/{metadata['namespace']}/{kind.plural}/{metadata['name']}"


def _words(data: bytes) -> str:
    """What the API server said, without the rest of its answer."""
    try:
        return " ".join(str(json.loads(data)["message"]).split())
    except (ValueError, KeyError, TypeError):
        return " ".join(data.decode(errors="replace").split())[:500]


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None
