"""What a thousand models cost: the operator on a real API server, with KWOK's pods, counted from the audit log by user.

Run: .venv/bin/python tests/benchmarks/bench_operator.py [--models 1000] [--quiet-seconds 300] [--controller-qps 20]
(as root)

The models are created in one namespace by eight callers; the clock starts with the first. The real node is cordoned,
so that every pod lands on a node that KWOK plays and becomes Ready as soon as it is bound. Everything of the cluster
runs on the same cores. After all are Ready: the quiet time, one changed field of one model, and a killed and restarted
operator. Kubernetes' own controllers make a Deployment's pods, and each may ask so many requests a second
(kube-controller-manager's `--kube-api-qps`, 20 by default); what they ask is counted beside ours, for it decides how
soon all are Ready. Writes build/bench/operator.json and operator.md (operator-qps-N with another limit). KServe's
figures beside ours are of two such cores, measured once (controller built from source, August 2026), not in this run.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes
import urllib3

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from atalaya_operator.names import MODEL_LABEL  # noqa: E402
from cluster import lifecycle  # noqa: E402
from cluster.access import Cluster  # noqa: E402
from cluster.crd import install_crds  # noqa: E402
from cluster.fake_nodes import FakeNode  # noqa: E402
from cluster.layout import CHECKOUT, NODE_NAME  # noqa: E402
from cluster.operator_process import USER, OperatorProcess  # noqa: E402
from cluster.slots import take_test_slot  # noqa: E402

CONTROLLERS = ("deployment-controller", "replicaset-controller", "endpointslice-controller", "disruption-controller")
DEFAULT_QPS = 20
GROUP = ("serving.atalaya.dev", "v1alpha1")
PLURAL = "inferencemodels"
NAMESPACE = "bench"
READS = ("get", "list", "watch")
CALLERS = 8
POD_NODES = 4
TICK = os.sysconf("SC_CLK_TCK")
PEER = {"all_ready_s": 241, "median_ready_s": 212, "writes": 13, "requests": 45, "cpu_s": 63, "memory_mb": 159}


@dataclass
class Watched:
    """When each model, its pod or a Service of it was ready for the first time, by the API server's own watch."""

    ready: dict[str, float] = field(default_factory=dict)

    def follow(self, ask: Any, *about: str) -> None:
        with contextlib.suppress(
            urllib3.exceptions.HTTPError
        ):  # the cluster ends; a watch lost before is told by a wait
            for change in kubernetes.watch.Watch().stream(ask, *about, timeout_seconds=3600):
                found = change["raw_object"]
                name = found["metadata"].get("labels", {}).get(MODEL_LABEL, found["metadata"]["name"])
                if name not in self.ready and _is_ready(found):
                    self.ready[name] = time.monotonic()


def watch(ask: Any, *about: str) -> Watched:
    """Begin to watch. Each watch takes a client of its own."""
    watched = Watched()
    threading.Thread(target=watched.follow, args=(ask, *about), daemon=True).start()
    return watched


def _is_ready(found: dict[str, Any]) -> bool:
    """A model or a pod by its condition, an EndpointSlice by having an endpoint that is ready."""
    if "endpoints" in found:
        return any(one["conditions"]["ready"] for one in found["endpoints"] or ())
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def model(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "/".join(GROUP),
        "kind": "InferenceModel",
        "metadata": {"name": f"m{number:04}"},
        "spec": {"engine": "openvino", "model": {"uri": "s3://models/m", "versions": {"specific": [3]}}},
    }


def calls(cluster: Cluster, since: int = 0, user: str = USER) -> tuple[Counter[str], int]:
    """A user's requests by verb and resource, without watches, from a byte of the audit log on; and its end."""
    told: Counter[str] = Counter()
    with cluster.layout.audit_log.open("rb") as log:
        log.seek(since)
        for line in log:
            if f'"username":"{user}"'.encode() not in line:
                continue
            event = json.loads(line)
            if event["verb"] == "watch" or event["stage"] != "ResponseComplete":
                continue
            about = event.get("objectRef") or {}
            resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
            told[f"{event['verb']} {resource}" + (" dry-run" if "dryRun=" in event["requestURI"] else "")] += 1
        return told, log.tell()


def controller_calls(cluster: Cluster, since: int, name: str) -> Counter[str]:
    """The same of one of Kubernetes' own controllers."""
    return calls(cluster, since, f"system:serviceaccount:kube-system:{name}")[0]


def written(told: Counter[str]) -> int:
    return sum(count for call, count in told.items() if call.split(" ")[0] not in READS)


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def quantile(metrics: str, share: float) -> float:
    """The upper bound of the bucket of reconcile times that holds a share of them."""
    name = "atalaya_operator_reconcile_seconds_bucket"
    buckets = [line for line in metrics.splitlines() if line.startswith(name)]
    counts = [(line.split('le="')[1].split('"')[0], float(line.split()[-1])) for line in buckets]
    total = counts[-1][1]
    return next(float(bound) for bound, count in counts if count >= share * total)


def wait_until(what: str, seconds: float, holds: Any) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def is_up(operator: OperatorProcess) -> bool:
    try:
        return operator.health() == 200
    except OSError:
        return False


def measure(cluster: Cluster, operator: OperatorProcess, models: int, quiet_seconds: float) -> dict[str, Any]:
    custom = kubernetes.client.CustomObjectsApi(cluster.api_client())
    watching = kubernetes.client.CustomObjectsApi(cluster.api_client())
    watched = watch(watching.list_namespaced_custom_object, *GROUP, NAMESPACE, PLURAL)
    pods = watch(kubernetes.client.CoreV1Api(cluster.api_client()).list_namespaced_pod, NAMESPACE)
    slices = watch(kubernetes.client.DiscoveryV1Api(cluster.api_client()).list_namespaced_endpoint_slice, NAMESPACE)
    operator.start()
    wait_until("the operator answers", 60, lambda: is_up(operator))
    _, begin = calls(cluster)
    cpu_before = cpu_seconds(operator.pid)
    start = time.monotonic()

    def create(number: int) -> float:
        custom.create_namespaced_custom_object(*GROUP, NAMESPACE, PLURAL, model(number))
        return time.monotonic()

    with ThreadPoolExecutor(CALLERS) as callers:
        created = dict(zip(map("m{:04}".format, range(models)), callers.map(create, range(models)), strict=True))
    wait_until("every model is Ready", 60 + models, lambda: len(watched.ready) >= models)
    wait_until("every Service leads to a pod", 60 + models, lambda: len(slices.ready) >= models)
    result: dict[str, Any] = {
        "models": models,
        "created_s": max(created.values()) - start,
        "all_ready_s": max(watched.ready.values()) - start,
        "median_ready_s": statistics.median(watched.ready.values()) - start,
        "all_pods_ready_s": max(pods.ready.values()) - start,
        "all_endpoints_ready_s": max(slices.ready.values()) - start,
        "median_behind_endpoint_s": statistics.median(at - slices.ready[name] for name, at in watched.ready.items()),
        "median_behind_pod_s": statistics.median(at - pods.ready[name] for name, at in watched.ready.items()),
        "median_own_s": statistics.median(watched.ready[name] - made for name, made in created.items()),
        "operator_cpu_s": cpu_seconds(operator.pid) - cpu_before,
    }
    time.sleep(5)
    told, end = calls(cluster, begin)
    result |= {"calls": dict(told.most_common()), "writes": written(told) / models, "requests": told.total() / models}
    result["controllers"] = {name: dict(controller_calls(cluster, begin, name).most_common()) for name in CONTROLLERS}
    metrics = operator.metrics()
    result |= {"reconcile_p50_s": quantile(metrics, 0.5), "reconcile_p99_s": quantile(metrics, 0.99)}
    time.sleep(quiet_seconds)
    told, end = calls(cluster, end)
    result |= {"quiet_s": quiet_seconds, "quiet_writes": written(told), "quiet_requests": told.total()}
    body = {"spec": {"model": {"versions": {"specific": [4]}}}}
    custom.patch_namespaced_custom_object(*GROUP, NAMESPACE, PLURAL, "m0000", body)
    time.sleep(30)
    told, end = calls(cluster, end)
    result |= {"change_writes": written(told), "change_requests": told.total(), "memory_mb": peak_mb(operator.pid)}
    operator.kill()
    again = time.monotonic()
    operator.start()
    wait_until("the operator is back", 120, lambda: is_up(operator))
    result["restart_answers_s"] = time.monotonic() - again
    looked = "atalaya_operator_reconcile_seconds_count"
    wait_until("all are looked at", 300, lambda: _value(operator.metrics(), looked) >= models)
    result["restart_s"] = time.monotonic() - again
    told, _ = calls(cluster, end)
    return result | {"restart_requests": told.total(), "restart_writes": written(told)}


def _value(metrics: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(f"{name} "))


def table(result: dict[str, Any]) -> str:
    models = result["models"]
    asked = ", ".join(f"{name} {sum(told.values()) / models:.1f}" for name, told in result["controllers"].items())
    ours = {name: result[name] for name in ("all_ready_s", "median_ready_s", "writes", "requests", "memory_mb")}
    ours["cpu_s"] = result["operator_cpu_s"]
    named = {
        "all_ready_s": "all Ready, s",
        "median_ready_s": "median Ready, s",
        "writes": "writes a model",
        "requests": "requests a model",
        "cpu_s": "CPU of the operator, s",
        "memory_mb": "memory, MB",
    }
    lines = [
        f"{models:,} models, created in {result['created_s']:.0f} s; Kubernetes' controllers are held to "
        f"{result['controller_qps']} requests a second each",
        "",
        "| | KServe, at 1,000 | ours |",
    ]
    lines += ["|---|---|---|", *(f"| {named[key]} | {PEER[key]} | {value:.1f} |" for key, value in ours.items())]
    lines += [
        "",
        f"Median from a model's own creation to Ready: {result['median_own_s']:.1f} s. One look: half within "
        f"{result['reconcile_p50_s']} s, 99% within {result['reconcile_p99_s']} s (bounds of buckets). "
        f"{result['quiet_s']:.0f} quiet seconds: {result['quiet_writes']} writes, {result['quiet_requests']} requests. "
        f"One changed field: {result['change_requests']} requests, {result['change_writes']} of them writes. "
        f"Killed and started again: all looked at after {result['restart_s']:.1f} s, with "
        f"{result['restart_requests']} requests, {result['restart_writes']} of them writes.",
        "",
        f"The last pod was Ready after {result['all_pods_ready_s']:.1f} s, the last Service led to it after "
        f"{result['all_endpoints_ready_s']:.1f} s; a model said so {result['median_behind_pod_s']:.1f} s (median) "
        f"after its pod, {result['median_behind_endpoint_s']:.1f} s after its Service. Requests a model of Kubernetes' "
        f"controllers: {asked}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--quiet-seconds", type=float, default=300)
    parser.add_argument("--controller-qps", type=int, default=DEFAULT_QPS, help="of each of Kubernetes' controllers")
    args = parser.parse_args()
    layout, lock = take_test_slot(CHECKOUT)
    nodes = [FakeNode(f"many-{number}", cpu="2000", memory="4Ti") for number in range(POD_NODES)]
    try:
        qps = args.controller_qps
        running = lifecycle.start(layout, nodes, [f"--kube-api-qps={qps}", f"--kube-api-burst={qps + qps // 2}"])
        try:
            install_crds(running.cluster)
            running.cluster.kubectl("cordon", NODE_NAME)
            running.cluster.kubectl("create", "namespace", NAMESPACE)
            with tempfile.TemporaryDirectory() as folder:
                operator = OperatorProcess(running.cluster, Path(folder))
                try:
                    result = measure(running.cluster, operator, args.models, args.quiet_seconds)
                    result |= {"defects": operator.defects(), "controller_qps": qps}
                finally:
                    operator.kill()
        finally:
            running.end()
    finally:
        lock.release()
    out = ROOT / "build" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    name = "operator" if qps == DEFAULT_QPS else f"operator-qps-{qps}"
    (out / f"{name}.json").write_text(json.dumps(result, indent=1))
    (out / f"{name}.md").write_text(table(result))
    print(table(result))


if __name__ == "__main__":
    main()
