"""Definitions of KEDA and of the Prometheus operator, as their own Go modules ship them, without what serves them."""

import json
import shutil
import subprocess
from pathlib import Path

from cluster.access import Cluster
from cluster.fixtures import do_without

KEDA = "keda-crd-keda.sh_scaledobjects.yaml"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
POD_MONITORS = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"


def install_foreign_crds(cluster: Cluster) -> None:
    """Apply them; Go fetches the Prometheus operator's module once into its own cache."""
    definitions = {
        "scaledobjects.keda.sh": cluster.binaries.path(KEDA),
        "podmonitors.monitoring.coreos.com": _folder(PROMETHEUS_OPERATOR) / POD_MONITORS,
    }
    for name, file in definitions.items():
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(file))
        cluster.wait(f"crd/{name}", "condition=Established")


def _folder(module: str) -> Path:
    if shutil.which("go") is None:
        do_without("Go is not here: install Go 1.26 or newer to fetch the definitions of the Prometheus operator")
    done = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, check=False)
    told = json.loads(done.stdout or "{}")
    if "Dir" not in told:
        do_without(f"{module} could not be fetched: {told.get('Error', done.stderr)}")
    return Path(told["Dir"])
