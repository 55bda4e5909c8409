"""The cluster as the operator sees it: the one file that imports `kubernetes`. Objects are plain dicts in and out."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import urllib3
from kubernetes.client import ApiClient, ApiException, Configuration
from kubernetes.config import load_kube_config
from kubernetes.config.config_exception import ConfigException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError, ResourceNotFoundError

from atalaya_operator.errors import ClusterUnavailable, ObjectRefused
from atalaya_operator.names import FIELD_MANAGER, selector
from atalaya_operator.platform import OPTIONAL_KINDS
from atalaya_operator.revision import Manifest

_NOT_FOUND, _FORBIDDEN = 404, (401, 403)
_TIMEOUT_SECONDS = 15


class Cluster:
    """A connected cluster."""

    def __init__(self, client: Any) -> None:
        """`client` is kubernetes.dynamic.DynamicClient or what is like it."""
        self._client = client

    @classmethod
    def from_kubeconfig(cls, context: str | None = None) -> Self:
        """Connect as kubectl does. Raises ClusterUnavailable."""
        settings = Configuration()
        settings.retries = False  # what does not answer is told at once
        load: Any = load_kube_config
        try:  # the variable is read here, for the library reads it when it is imported
            load(os.environ.get("KUBECONFIG") or None, context=context, client_configuration=settings)
        except (ConfigException, OSError, TypeError) as error:
            told = " ".join(str(error).split())
            raise ClusterUnavailable(f"no cluster is known here ({told}); set KUBECONFIG or --context.") from error
        dynamic_client: Any = DynamicClient
        return cls(_asked(lambda: dynamic_client(ApiClient(settings)), str(settings.host)))

    def offers(self) -> frozenset[str]:
        """Which of the optional kinds the cluster knows."""
        return frozenset(kind for kind, version in OPTIONAL_KINDS.items() if self._knows(version, kind))

    def get(self, api_version: str, kind: str, namespace: str, name: str) -> Manifest | None:
        """An object as it is; None when it is not there. Raises ClusterUnavailable, ObjectRefused."""
        if not self._knows(api_version, kind):
            return None
        resource = self._resource(api_version, kind)
        found = _asked(lambda: resource.get(name=name, namespace=namespace, _request_timeout=_TIMEOUT_SECONDS), name)
        return None if found is None else dict(found.to_dict())

    def trial(self, manifest: Mapping[str, Any]) -> Manifest:
        """What the API server would make of an object: server-side apply that keeps nothing."""
        metadata = manifest["metadata"]
        told = f"{manifest['kind']} {metadata['name']}"
        if not self._knows(manifest["apiVersion"], manifest["kind"]):
            raise ObjectRefused(f"{told}: the cluster does not know {manifest['apiVersion']}; install what defines it.")
        resource = self._resource(manifest["apiVersion"], manifest["kind"])
        made = _asked(
            lambda: resource.server_side_apply(
                body=dict(manifest),
                name=metadata["name"],
                namespace=metadata["namespace"],
                field_manager=FIELD_MANAGER,
                force_conflicts=True,
                dry_run="All",
                _request_timeout=_TIMEOUT_SECONDS,
            ),
            told,
        )
        if made is None:
            raise ObjectRefused(f"{told}: there is no namespace {metadata['namespace']}; create it.")
        return dict(made.to_dict())

    def names(self, api_version: str, kind: str, namespace: str, model: str) -> list[str]:
        """The names of a model's objects of a kind; none where the cluster does not know the kind."""
        if not self._knows(api_version, kind):
            return []
        resource = self._resource(api_version, kind)
        labels = ",".join(f"{key}={value}" for key, value in selector(model).items())
        found = _asked(
            lambda: resource.get(namespace=namespace, label_selector=labels, _request_timeout=_TIMEOUT_SECONDS),
            f"{kind} of {model}",
        )
        return [] if found is None else [one["metadata"]["name"] for one in found.to_dict()["items"]]

    def _knows(self, api_version: str, kind: str) -> bool:
        try:
            self._resource(api_version, kind)
        except ResourceNotFoundError:
            return False
        return True

    def _resource(self, api_version: str, kind: str) -> Any:
        return _asked(lambda: self._client.resources.get(api_version=api_version, kind=kind), kind)


def _asked(call: Callable[[], Any], what: str) -> Any:
    """The answer; None for what is not there. The client's errors become ours here and nowhere else."""
    try:
        return call()
    except (ApiException, DynamicApiError) as error:
        if error.status == _NOT_FOUND:
            return None
        message = _words(error)
        if error.status in _FORBIDDEN:
            raise ClusterUnavailable(f"{what}: {message}; ask for the rights, or use another --context.") from error
        raise ObjectRefused(f"{what}: {message}.") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        told = " ".join(str(error).split())
        raise ClusterUnavailable(f"the cluster does not answer ({told}); check it with kubectl version.") from error


def _words(error: Any) -> str:
    """What the API server said, without the rest of its answer."""
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())
    except (ValueError, KeyError, TypeError):
        return " ".join(str(error.reason).split())
