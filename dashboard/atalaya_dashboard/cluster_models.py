"""The InferenceModels of the cluster that these pages run in, as its API server tells them. Read-only.

The pod's own account asks; it may list InferenceModels and nothing else. Outside a cluster there are none to ask for.
"""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from atalaya_dashboard.errors import ClusterUnreadable
from atalaya_spec.inference_model import GROUP, VERSION

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PATH = f"/apis/{GROUP}/{VERSION}/inferencemodels"
_PAGE = 500
_TIMEOUT_SECONDS = 5.0
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class ClusterModel:
    """One model, in the words of `kubectl get im -o wide`."""

    namespace: str
    name: str
    engine: str
    device: str
    version: str
    ready: str
    is_ready: bool
    reason: str
    message: str
    next_step: str


@dataclass(frozen=True)
class ClusterModels:
    """The API server, and the folder with the account's token and the authority to trust."""

    url: str
    account: Path

    @classmethod
    def from_env(cls, env: Mapping[str, str], account: Path = ACCOUNT) -> Self | None:
        """None outside a cluster, and where the pod has no token."""
        host, port = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (account / "token").is_file():
            return None
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}", account)

    def list(self) -> list[ClusterModel]:
        """All of them, those that are not ready first. Raises ClusterUnreadable."""
        return sorted(
            (model_of(item) for item in self._items()), key=lambda one: (one.is_ready, one.namespace, one.name)
        )

    def _items(self) -> Iterator[Mapping[str, Any]]:
        following = ""
        while True:
            page = self._get(f"{self.url}{_PATH}?limit={_PAGE}{following}")
            yield from page["items"]
            if not page["metadata"].get("continue"):
                return
            following = f"&continue={quote(page['metadata']['continue'], safe='')}"

    def _get(self, url: str) -> Any:
        try:
            token = (self.account / "token").read_text().strip()  # it is renewed now and then
            trust = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - https
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=trust) as answer:  # noqa: S310
                return json.loads(answer.read(_MAX_BYTES))
        except urllib.error.HTTPError as error:
            raise ClusterUnreadable(f"the cluster answers {error.code} {error.reason}; {_step(error.code)}.") from error
        except (OSError, ValueError) as error:
            told = getattr(error, "reason", None) or error
            raise ClusterUnreadable(f"the cluster does not answer ({told}); the pages ask again.") from error


def model_of(item: Mapping[str, Any]) -> ClusterModel:
    """What a person reads of one object; a model that the operator has not looked at yet says so."""
    metadata, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    is_current = status.get("observedGeneration") == metadata.get("generation")
    return ClusterModel(
        namespace=metadata["namespace"],
        name=metadata["name"],
        engine=spec["engine"],
        device=status.get("device", ""),
        version=status.get("version", ""),
        ready=status.get("ready", ""),
        is_ready=is_current and conditions.get("Ready") == "True",
        reason=status.get("reason", "") or "NotSeen",
        message=status.get("message", "") if status else "the operator has not looked at it",
        next_step=status.get("nextStep", "") if status else "see that the operator runs",
    )


def _step(code: int) -> str:
    if code == 404:
        return "install the definition: kubectl apply --server-side -f charts/atalaya/crds/"
    return (
        "install the chart again, which lets the pages list InferenceModels" if code == 403 else "the pages ask again"
    )
