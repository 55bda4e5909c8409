"""Definitions of KEDA and of the Prometheus operator, as their own Go modules ship them, without what serves them."""

import json
import shutil
import subprocess
from pathlib import Path

from cluster.access import Cluster
from cluster.fixtures import do_without

KEDA = "github.com/kedacore/keda/v2@v2.20.2"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
DEFINITIONS = (
    (KEDA, "config/crd/bases/keda.sh_scaledobjects.yaml", "scaledobjects.keda.sh"),
    (
        PROMETHEUS_OPERATOR,
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "podmonitors.monitoring.coreos.com",
    ),
)


def install_foreign_crds(cluster: Cluster) -> None:
    """Apply them; Go fetches a module once into its own cache."""
    for module, path, name in DEFINITIONS:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(_folder(module) / path))
        cluster.wait(f"crd/{name}", "condition=Established")


def _folder(module: str) -> Path:
    if shutil.which("go") is None:
        do_without("Go is not here: install Go 1.26 or newer to fetch the definitions of KEDA and Prometheus")
    done = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, check=False)
    told = json.loads(done.stdout or "{}")
    if "Dir" not in told:
        do_without(f"{module} could not be fetched: {told.get('Error', done.stderr)}")
    return Path(told["Dir"])
