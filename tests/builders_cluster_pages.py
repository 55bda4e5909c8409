"""A cluster's API server for the dashboard's tests: real HTTPS, a token, InferenceModels and EndpointSlices."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from atalaya_operator.webhook.certificate import make_certificate
from atalaya_operator.webhook.trust import load

CREATED = "2026-11-20T12:00:00Z"


def an_inference_model(
    name: str, *, ready: bool = True, progressing: bool = True, namespace: str = "relief", **status: Any
) -> dict[str, Any]:
    """As an API server has it, with the status that the operator writes."""
    answer = f"{int(ready)} of 1 pods of {name}-0123456789 answer."
    told = {"reason": "Serving" if ready else "Starting", "message": answer, **status}
    held = {"Ready": ready, "Available": ready, "Progressing": progressing}
    conditions = [
        {"type": kind, "status": str(holds), "reason": told["reason"], "message": told["message"],
         "lastTransitionTime": "2026-11-20T12:01:00Z", "observedGeneration": 1}
        for kind, holds in held.items()
    ]  # fmt: skip
    return {
        "metadata": {"name": name, "namespace": namespace, "generation": 1, "creationTimestamp": CREATED},
        "spec": {"engine": told.pop("engine", "openvino")},
        "status": {"observedGeneration": 1, "ready": "1/1" if ready else "0/1", "device": "cpu", "version": "3",
                   "conditions": conditions, **told},
    }  # fmt: skip


def an_endpoint_slice(model: str, *addresses: str, namespace: str = "relief") -> dict[str, Any]:
    """Where a model's Service leads."""
    labels = {"serving.atalaya.dev/model": model, "kubernetes.io/service-name": model}
    endpoints = [
        {"addresses": [address], "conditions": {"ready": True}, "targetRef": {"name": f"{model}-{number}"}}
        for number, address in enumerate(addresses)
    ]
    return {"metadata": {"name": model, "namespace": namespace, "labels": labels}, "endpoints": endpoints}


class ApiServer:
    """Answers whoever brings the token; `status` is what it answers instead of 200."""

    def __init__(self, account: Path) -> None:
        self.models: list[dict[str, Any]] = []
        self.slices: list[dict[str, Any]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                may = self.headers["Authorization"] == "Bearer secret"
                items = outer.slices if "endpointslices" in self.path else outer.models
                message = 'inferencemodels is forbidden: User "atalaya-dashboard" cannot list'
                body = json.dumps({"items": items, "metadata": {}, "message": message}).encode()
                self.send_response(outer.status if may else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        made = make_certificate(("localhost",), datetime.now(UTC))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load(context, made)
        (account / "ca.crt").write_bytes(made.authority)
        (account / "token").write_text("secret")
        self._account = account
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def kubeconfig(self) -> Path:
        """A file that leads there."""
        file = self._account / "kubeconfig"
        cluster = {"server": f"https://localhost:{self.server.server_address[1]}",
                   "certificate-authority": str(self._account / "ca.crt")}  # fmt: skip
        told = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        file.write_text(json.dumps(told))
        return file

    @property
    def environment(self) -> dict[str, str]:
        """What a pod of its cluster has."""
        port = self.server.server_address[1]
        return {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(port)}

    def close(self) -> None:
        """End it, as a lost API server is."""
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def api_server(account: Path) -> Iterator[ApiServer]:
    """Running; `account` gets the token and the authority."""
    account.mkdir(parents=True, exist_ok=True)
    made = ApiServer(account)
    try:
        yield made
    finally:
        made.close()
