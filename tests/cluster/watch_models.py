"""Runs in the dashboard's pod: prints what its pages know of the cluster's models, and of the latency of their pods."""

import json
import os

from atalaya_dashboard.cluster_models import ClusterModels
from atalaya_dashboard.cluster_watch import ClusterWatch
from atalaya_dashboard.collector import Collector

watch = ClusterWatch(lambda: ClusterModels.from_env(os.environ), with_pods=True)
watch.look_once()
collector = Collector(watch.targets)
collector.collect_once()
state, live = watch.state(), {}
for source in collector.sources():
    for key in source.models():
        whole = source.whole(key)
        if whole is not None:
            now = whole.window
            live[key.name] = {"server": now.server, "requests": now.requests, "p95": now.p95, "queue": now.queue_depth}
told = {
    "models": [[one.name, one.state.name, one.reason] for one in state.models],
    "live": live,
    "errors": [state.error, state.pods_error, *(source.error for source in collector.sources())],
}
print(json.dumps(told))
