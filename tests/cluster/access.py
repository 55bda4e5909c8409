"""A living cluster in a program's hands: kubectl, the Python client, images, ports, waiting. Starts and ends nothing.

Waiting is the API server's watch (`kubectl wait`, an event watch), so no caller needs a loop that sleeps.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import kubernetes

from cluster.binaries import binaries
from cluster.errors import ClusterFault
from cluster.images import Image, ImageStore
from cluster.layout import API_PORT, DEVELOPER_SLOT, Layout
from cluster.namespace import Namespace
from cluster.pki import Authority, Certificate
from cluster.processes import Processes
from cluster.real_node import CONTAINERD_SOCKET, REGISTRY_ADDRESS
from cluster.slots import State

FORWARDER = Path(__file__).parent / "forwarder.py"
POLL_SECONDS = 0.2
Manifest = Mapping[str, Any]


class Cluster:
    """One cluster. `started` says how many seconds each step of its start took; empty when attached to."""

    def __init__(self, layout: Layout, namespace: Namespace) -> None:
        self.layout = layout
        self.namespace = namespace
        self.processes = Processes(layout.logs)
        self.binaries = binaries(layout.checkout)
        self.images = ImageStore(layout.checkout)
        self.started: dict[str, float] = {}
        self._clients: list[Any] = []

    @classmethod
    def attach(cls, layout: Layout) -> "Cluster":
        """The cluster that `make cluster-up` left running."""
        state = State.read(layout.state_file)
        if state is None or not state.ready or not state.init.is_alive():
            raise ClusterFault(f"no cluster runs in slot {layout.slot} of {layout.checkout}: run make cluster-up")
        return cls(layout, Namespace(state.init))

    # --- kubectl and the API ---------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """For programs outside the namespace: KUBECONFIG, and our kubectl and helm first on PATH."""
        folders = os.pathsep.join(str(folder) for folder in self.binaries.folders)
        path = f"{folders}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, "KUBECONFIG": str(self.layout.kubeconfig), "PATH": path}

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 120) -> str:
        """The standard output; a failure raises with what kubectl said."""
        done = self.try_kubectl(*arguments, stdin=stdin, timeout_seconds=timeout_seconds)
        if done.returncode != 0:
            raise ClusterFault(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def try_kubectl(
        self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(self.binaries.path("kubectl")), *arguments],
            input=stdin,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
        )

    def apply(self, *manifests: Manifest, namespace: str | None = None) -> None:
        """Server-side apply of plain dicts."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        scope = ["--namespace", namespace] if namespace else []
        self.kubectl("apply", "--server-side", "--force-conflicts", *scope, "--filename=-", stdin=document)

    def get(self, resource: str, namespace: str | None = None) -> dict[str, Any]:
        """One object, by `kind/name`, or a list, by `kind`."""
        scope = ["--namespace", namespace] if namespace else []
        return dict(json.loads(self.kubectl("get", resource, *scope, "--output=json")))

    def api_client(self) -> Any:
        """A client of the official library (kubernetes.client.ApiClient); closed with the cluster."""
        client = kubernetes.config.new_client_from_config(str(self.layout.kubeconfig))  # type: ignore[no-untyped-call]
        self._clients.append(client)
        return client

    # --- waiting ---------------------------------------------------------------------------------------------------

    def wait(self, resource: str, condition: str, namespace: str | None = None, timeout_seconds: float = 60) -> None:
        """Until `condition` as `kubectl wait --for` knows it: `condition=Available`, `jsonpath={…}=…`, `delete`."""
        scope = ["--namespace", namespace] if namespace else []
        limit = f"--timeout={timeout_seconds:.0f}s"
        if condition != "delete":
            self.kubectl("wait", resource, *scope, "--for=create", limit, timeout_seconds=timeout_seconds + 30)
        self.kubectl("wait", resource, *scope, f"--for={condition}", limit, timeout_seconds=timeout_seconds + 30)

    def wait_for_event(self, namespace: str, matches: Callable[[Any], bool], timeout_seconds: int = 60) -> Any:
        """The first event (CoreV1Event) of a namespace, past or coming, that `matches`."""
        core = kubernetes.client.CoreV1Api(self.api_client())
        watch: Any = kubernetes.watch.Watch
        with closing(watch().stream(core.list_namespaced_event, namespace, timeout_seconds=timeout_seconds)) as changes:
            for change in changes:
                if matches(change["object"]):
                    return change["object"]
        seen = self.try_kubectl("get", "events", "--namespace", namespace).stdout
        raise ClusterFault(f"no such event within {timeout_seconds} s in namespace {namespace}; there were:\n{seen}")

    def until(self, what: str, attempt: Callable[[], object], timeout_seconds: float = 60) -> None:
        """Until an attempt raises no ClusterFault, for what no watch tells. A component's end is told at once."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                attempt()
            except ClusterFault as fault:
                self.processes.check()
                if time.monotonic() > deadline:
                    raise ClusterFault(f"not within {timeout_seconds:.0f} s: {what}") from fault
                time.sleep(POLL_SECONDS)
            else:
                return

    def wait_for_api_server(self) -> None:
        self.until("the API server is ready", lambda: self.kubectl("get", "--raw=/readyz"), timeout_seconds=120)

    # --- images ----------------------------------------------------------------------------------------------------

    def load_image(self, image: Image) -> str:
        """Put an image on the real node, for `imagePullPolicy: Never` or `IfNotPresent`; returns its reference."""
        if image.archive is None:
            raise ClusterFault(f"{image.reference} has no archive: push it, or build it with ImageStore.build")
        importing = ["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "import"]
        self.namespace.run([*importing, image.archive])
        return image.reference

    def push_image(self, image: Image, repository: str) -> None:
        """Push to the cluster's registry as `name:tag`. Every pull of `any.host/name:tag` then finds it."""
        self.namespace.run(self.images.push(image, f"{REGISTRY_ADDRESS}/{repository}"))

    # --- ports and processes ---------------------------------------------------------------------------------------

    def forward(self, host: str, port: int) -> int:
        """A port on 127.0.0.1 that reaches an address inside (a Service, a pod, the node) until the cluster ends."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            descriptor = listening.fileno()
            command = [sys.executable, "-I", str(FORWARDER), str(descriptor), host, str(port)]
            local = int(listening.getsockname()[1])
            name = f"forward-{local}-to-{host}-{port}"
            self.processes.start(name, self.namespace.command(command), pass_fds=[descriptor])
        return local

    def forward_api(self) -> str:
        return f"https://127.0.0.1:{self.forward('127.0.0.1', API_PORT)}"

    @contextmanager
    def port_forward(self, resource: str, port: int, namespace: str) -> Iterator[int]:
        """`kubectl port-forward`, as a user outside the cluster does it; yields the local port."""
        command = [str(self.binaries.path("kubectl")), "port-forward", "--namespace", namespace, resource, f":{port}"]
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            try:
                line = process.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> PORT
                if not line:
                    assert process.stderr is not None
                    raise ClusterFault(f"kubectl port-forward {resource} failed: {process.stderr.read().strip()}")
                yield int(line.split(" -> ")[0].rpartition(":")[2])
            finally:
                process.terminate()

    def spawn(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start a long-running program inside; its output goes to the cluster's logs. Ends with the cluster."""
        self.processes.start(name, self.namespace.command(command), environment)

    def detach(self) -> None:
        """Leave a cluster that goes on: end what was started in it through this object."""
        self.close()
        for name in self.processes.names:
            self.processes.stop(name)

    def certificate(self, name: str, address: str) -> Certificate:
        """For a server of a test's own that listens inside, such as a webhook; the cluster's authority signs it."""
        return self.authority.issue(name, f"/CN={name}", [f"IP:{address}"])

    @property
    def authority(self) -> Authority:
        return Authority(self.layout.pki, "ca")

    def restart_api_server(self) -> None:
        self.processes.restart("kube-apiserver")
        self.wait_for_api_server()

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()


def developer_cluster() -> Cluster:
    return Cluster.attach(Layout(DEVELOPER_SLOT))
