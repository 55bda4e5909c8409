"""One GET to a cluster's API server: as the pod's own account, or as a kubeconfig says where a setting names one.

The pod's way takes nothing but Python; `kubernetes`, which reads kubeconfig files, is imported for the other alone.
"""

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol, Self

from atalaya_dashboard.errors import ClusterUnreadable

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
KUBECONFIG = "ATALAYA_KUBECONFIG"
_TIMEOUT_SECONDS = 5.0
_MAX_BYTES = 64 << 20


class ClusterAccess(Protocol):
    """What is known of an API server and of who asks it."""

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        ...

    def trust(self) -> ssl.SSLContext:
        """Whom to trust, and the client's certificate where it has one. May raise OSError."""
        ...

    def headers(self) -> Mapping[str, str]:
        """Who asks. May raise OSError."""
        ...


@dataclass(frozen=True)
class PodAccount:
    """The account of the pod that these pages run in: a folder with its token and the authority to trust."""

    url: str
    account: Path = ACCOUNT

    @classmethod
    def from_env(cls, env: Mapping[str, str], account: Path = ACCOUNT) -> Self | None:
        """None outside a cluster, and where the pod has no token."""
        host, port = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (account / "token").is_file():
            return None
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}", account)

    def trust(self) -> ssl.SSLContext:
        """The cluster's own authority."""
        return ssl.create_default_context(cafile=str(self.account / "ca.crt"))

    def headers(self) -> Mapping[str, str]:
        """The token, read anew: it is renewed now and then."""
        return {"Authorization": f"Bearer {(self.account / 'token').read_text().strip()}"}


class Kubeconfig:
    """What a kubeconfig file says of its present context."""

    def __init__(self, path: str) -> None:
        """Raises ClusterUnreadable when the file is none, or cannot be read here."""
        try:
            from kubernetes.client import Configuration
            from kubernetes.config import load_kube_config
            from kubernetes.config.config_exception import ConfigException
        except ImportError as error:
            raise ClusterUnreadable(
                f"{KUBECONFIG} takes the Python package kubernetes, which is not installed; "
                "install Atalaya with the extra `operator`."
            ) from error
        self._settings: Any = Configuration()
        load: Any = load_kube_config
        try:
            load(os.path.expanduser(path), client_configuration=self._settings)  # noqa: PTH111 - the library's own form
        except (ConfigException, OSError, TypeError, ValueError) as error:
            told = " ".join(str(error).split())
            raise ClusterUnreadable(f"{path} is no kubeconfig ({told}); correct {KUBECONFIG}.") from error
        self.url = str(self._settings.host).rstrip("/")

    def trust(self) -> ssl.SSLContext:
        """The file's authority and client certificate."""
        settings = self._settings
        made = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if settings.verify_ssl is False:
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        if settings.cert_file:
            made.load_cert_chain(settings.cert_file, settings.key_file)
        return made

    def headers(self) -> Mapping[str, str]:
        """The file's token, renewed by its plugin where it has one."""
        return {one["key"]: one["value"] for one in self._settings.auth_settings().values() if one["value"]}


def access_from_env(env: Mapping[str, str], account: Path = ACCOUNT) -> ClusterAccess | None:
    """The kubeconfig that a setting names, else the pod's account; None where there is neither."""
    if path := env.get(KUBECONFIG, "").strip():
        return Kubeconfig(path)
    return PodAccount.from_env(env, account)


def is_told_of_a_cluster(env: Mapping[str, str]) -> bool:
    """Whether there is a cluster to ask, be it that it does not answer."""
    return bool(env.get(KUBECONFIG, "").strip()) or PodAccount.from_env(env) is not None


def get(access: ClusterAccess, path: str) -> Any:
    """What the API server has at a path. Raises ClusterUnreadable with what to do."""
    url = f"{access.url}{path}"
    try:
        request = urllib.request.Request(url, headers=dict(access.headers()))  # noqa: S310 - an API server's address
        opened = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=access.trust())  # noqa: S310
        with opened as answer:
            return json.loads(answer.read(_MAX_BYTES))
    except urllib.error.HTTPError as error:
        raise ClusterUnreadable(f"The cluster answers {error.code} {error.reason}: {_step(error)}.") from error
    except (OSError, HTTPException, ValueError) as error:
        told = getattr(error, "reason", None) or error
        raise ClusterUnreadable(f"The cluster's API server does not answer ({told}); the pages ask again.") from error


def _step(error: urllib.error.HTTPError) -> str:
    """What was refused, in the API server's words, and what to do."""
    match error.code:
        case 403:
            return (
                f"{_words(error)}; install the chart again, which lets the pages read it, or set ATALAYA_NAMESPACE to "
                "the one namespace that they may read"
            )
        case 404:
            return "it knows no InferenceModel; install it: kubectl apply --server-side -f charts/atalaya/crds/"
        case 401:
            return "it does not know who asks; the pages ask again with a new token"
    return "the pages ask again"


def _words(error: urllib.error.HTTPError) -> str:
    """The message of a refusal."""
    try:
        return " ".join(str(json.loads(error.read(1 << 16))["message"]).split())
    except (OSError, ValueError, KeyError, TypeError):
        return "these pages may not read it"
