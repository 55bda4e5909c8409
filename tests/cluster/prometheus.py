"""A real Prometheus inside a test cluster that scrapes its models' pods, and what it answers.

Debian's is built without Kubernetes' discovery, so a thread here finds the pods as that would: by the annotations that
a pod carries, with the namespace and the pod's name as labels.
"""

import json
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import kubernetes
import urllib3

from cluster.access import Cluster
from cluster.errors import ClusterFault
from cluster.fixtures import do_without
from cluster.layout import NODE_ADDRESS

PROGRAM = "prometheus"
PORT = 9090
FIGURES_PORT = 9091
_ANNOTATION = "prometheus.io/"
_LOOK_SECONDS = 0.5


class Prometheus:
    """`url` is its address inside, for KEDA; questions of a test go through a forwarded port."""

    url = f"http://{NODE_ADDRESS}:{PORT}"

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._outside = f"http://127.0.0.1:{cluster.forward(NODE_ADDRESS, PORT)}"
        self._figures = folder / "figures"

    def answer(self, query: str) -> list[float]:
        """Every element of an instant query's answer."""
        told = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": query}))
        if told["data"]["resultType"] != "vector":
            raise ClusterFault(f"{query} answers a {told['data']['resultType']}")
        return [float(one["value"][1]) for one in told["data"]["result"]]

    def tell(self, **figures: float) -> None:
        """Gauges of something else than models, such as a queue of jobs."""
        _write(self._figures / "metrics", "".join(f"{name} {value:g}\n" for name, value in figures.items()))

    def is_ready(self) -> None:
        self._get("/api/v1/status/buildinfo")

    def _get(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(self._outside + path, timeout=10) as answer:
                return dict(json.load(answer))
        except OSError as error:
            told = error.read().decode() if isinstance(error, urllib.error.HTTPError) else ""
            raise ClusterFault(f"Prometheus does not answer {path}: {error} {told}") from error


@contextmanager
def prometheus(cluster: Cluster, folder: Path) -> Iterator[Prometheus]:
    """Prometheus until the end of the block, with a server of figures beside it."""
    program = shutil.which(PROGRAM)
    if program is None:
        do_without("Prometheus is not installed: run tests/system-packages.sh")
    (folder / "figures").mkdir()
    _write(folder / "figures" / "metrics", "")
    targets, ended = folder / "targets.json", threading.Event()
    _write(targets, "[]")
    follower = threading.Thread(target=_follow_pods, args=(cluster, targets, ended), daemon=True)
    figures = ["busybox", "httpd", "-f", "-p", f"{NODE_ADDRESS}:{FIGURES_PORT}", "-h", str(folder / "figures")]
    cluster.spawn("figures", figures)
    cluster.spawn(PROGRAM, [str(program), *_flags(folder, targets)])
    try:
        follower.start()
        made = Prometheus(cluster, folder)
        cluster.until("Prometheus answers", made.is_ready)
        yield made
    finally:
        ended.set()
        follower.join(30)
        for name in (PROGRAM, "figures"):
            cluster.processes.stop(name)


def _flags(folder: Path, targets: Path) -> list[str]:
    scrapes = [
        {"job_name": "pods", "file_sd_configs": [{"files": [str(targets)]}]},
        {"job_name": "figures", "static_configs": [{"targets": [f"{NODE_ADDRESS}:{FIGURES_PORT}"]}]},
    ]
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": scrapes}))  # JSON is YAML
    return [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={NODE_ADDRESS}:{PORT}",
    ]


def _follow_pods(cluster: Cluster, targets: Path, ended: threading.Event) -> None:
    core, known = kubernetes.client.CoreV1Api(cluster.api_client()), ""
    while not ended.wait(_LOOK_SECONDS):
        with suppress(kubernetes.client.ApiException, urllib3.exceptions.HTTPError):  # the next look tells
            listed = core.list_pod_for_all_namespaces(_preload_content=False)
            found = json.dumps([group for pod in json.loads(listed.data)["items"] for group in _target(pod)])
            if found != known:
                _write(targets, found)
                known = found


def _target(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """As Kubernetes' discovery and the usual relabelling make it of a pod that asks to be scraped."""
    metadata, address = pod["metadata"], pod["status"].get("podIP")
    told = {key.removeprefix(_ANNOTATION): value for key, value in (metadata.get("annotations") or {}).items()}
    is_over = pod["status"].get("phase") in ("Succeeded", "Failed")
    if told.get("scrape") != "true" or not address or is_over or pod["spec"].get("nodeName", "").startswith("fake-"):
        return
    labels = {"namespace": metadata["namespace"], "pod": metadata["name"], "__metrics_path__": told["path"]}
    yield {"targets": [f"{address}:{told['port']}"], "labels": labels}


def _write(file: Path, text: str) -> None:
    """At once, for a reader at any moment."""
    unfinished = file.with_suffix(".part")
    unfinished.write_text(text)
    unfinished.replace(file)
