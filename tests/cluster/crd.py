"""The InferenceModel's definition in the test cluster, and the API server's own verdict on a text."""

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from cluster.access import Cluster
from cluster.layout import CHECKOUT

CRDS = CHECKOUT / "charts" / "atalaya" / "crds"
EXAMPLES = CHECKOUT / "charts" / "atalaya" / "examples"


def install_crds(cluster: Cluster) -> None:
    """Apply the chart's definitions, and wait until the API server serves them."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(CRDS))
    cluster.wait("crd/inferencemodels.serving.atalaya.dev", "condition=Established")


class ApiServer:
    """Asks what the API server would do with an object, strictly and without keeping it, as kubectl does."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        settings = cluster.api_client().configuration
        trust = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        trust.load_cert_chain(settings.cert_file, settings.key_file)
        self._path = f"/apis/serving.atalaya.dev/v1alpha1/namespaces/{namespace}/inferencemodels"
        self._client = httpx.Client(base_url=settings.host, verify=trust, timeout=30)

    def refusal(self, document: str | Mapping[str, Any]) -> str:
        """The API server's words when it refuses to create this; empty when it would."""
        body = document if isinstance(document, str) else json.dumps(document)
        answer = self._client.post(
            self._path,
            params={"dryRun": "All", "fieldValidation": "Strict"},
            headers={"Content-Type": "application/yaml", "Accept": "application/json"},
            content=body.encode(),
        )
        return "" if answer.status_code == httpx.codes.CREATED else str(answer.json()["message"])

    def close(self) -> None:
        self._client.close()


def documents(file: Path) -> list[str]:
    """The YAML documents of a file, comments and all."""
    return [text for text in file.read_text(encoding="utf-8").split("\n---\n") if text.strip()]
