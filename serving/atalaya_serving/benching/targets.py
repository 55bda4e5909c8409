"""What is measured: our server in the variants that were asked for, or any other by its address."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from atalaya_serving.benching.calling import Client
from atalaya_serving.benching.errors import CallFailed, InvalidPlan, UnknownModel
from atalaya_serving.benching.finding import Found, Wanted, client, find, host_and_port
from atalaya_serving.benching.inputs import InputSpec, settled, tensors
from atalaya_serving.benching.processes import Launcher, OwnServer, RunningServer, Tree, listeners
from atalaya_serving.benching.records import PROTOCOLS, Audit, Protocol, Start, cores_of
from atalaya_serving.benching.rest_clients import Http
from atalaya_spec.manifest import versions

OPENVINO, TENSORFLOW = "openvino", "tensorflow"
ENGINES = (OPENVINO, TENSORFLOW)
PRECISIONS = ("auto", "f32", "bf16", "f16", "int8")


@dataclass(frozen=True)
class Foreign:
    """Another server: its port, or its gRPC and its REST port, as HOST:PORT. `name` is how tables call it."""

    addresses: tuple[str, ...]
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "Foreign":
        """[NAME=]HOST:PORT[,HOST:PORT]. Raises InvalidPlan."""
        name, _, listed = text.rpartition("=")
        addresses = tuple(one.strip() for one in listed.split(","))
        for address in addresses:
            host_and_port(address)
        return cls(addresses, name.strip() or addresses[0])


@dataclass
class Target:
    """A server under measurement; `tree` and `metrics_address` are None where we cannot look."""

    name: str
    model: str
    clients: Mapping[Protocol, Client]
    inputs: list[InputSpec]
    tree: Tree | None = None
    metrics_address: str | None = None
    start: Start | None = None
    sent_requests: int = 0
    sent_images: int = 0
    _counted_before: tuple[int, int] | None = field(default=None)

    def request(self, protocol: Protocol, batch: int) -> bytes:
        """The bytes of one request of seeded values."""
        return self.clients[protocol].request(tensors(self.inputs, batch, self.model))

    def warm_up(self, protocol: Protocol, batch: int, calls: int = 3) -> None:
        """Some calls before the clock, whose answers are looked at. Raises CallFailed."""
        caller, request = self.clients[protocol].caller(), self.request(protocol, batch)
        try:
            for _ in range(calls):
                if not self.clients[protocol].outputs(caller.call(request)):
                    raise CallFailed("OK", f"{self.name} answers without outputs over {protocol}; see its log.")
                self.count(1, batch)
        finally:
            caller.close()

    def count(self, requests: int, batch: int) -> None:
        """Keep book of what was answered."""
        self.sent_requests += requests
        self.sent_images += requests * batch

    def begin_audit(self) -> None:
        """Note what the server has counted before; a server without our metrics is not audited."""
        self._counted_before = counted(self.metrics_address, self.model) if self.metrics_address else None

    def audit(self) -> Audit | None:
        """What the server counted since, beside what we sent."""
        if self._counted_before is None or self.metrics_address is None:
            return None
        now = counted(self.metrics_address, self.model)
        if now is None:
            return None
        requests, images = (after - before for after, before in zip(now, self._counted_before, strict=True))
        return Audit(self.name, self.sent_requests, self.sent_images, requests, images)


def counted(address: str, model: str) -> tuple[int, int] | None:
    """Calls answered OK and images computed, as our server's /metrics tells; None for any other server."""
    told = metric_values(address, model, {"atalaya_requests_total", "atalaya_inferences_total"})
    return None if told is None else (int(told["atalaya_requests_total"]), int(told["atalaya_inferences_total"]))


def metric_values(address: str, model: str, names: set[str]) -> dict[str, float] | None:
    """Sums of samples of a model by name, leaving out calls that failed; None where /metrics has none of them."""
    from prometheus_client.parser import text_string_to_metric_families

    connection = Http(address, 10.0)
    try:
        text = connection.ask("GET", "/metrics").partition(b"\n")[2].decode(errors="replace")
    except CallFailed:
        return None
    finally:
        connection.close()
    if "atalaya_info" not in text:
        return None
    found = dict.fromkeys(names, 0.0)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in names and sample.labels.get("model") == model:
                found[sample.name] += sample.value if sample.labels.get("code", "OK") == "OK" else 0.0
    return found


def _precision(address: str, model: str) -> str:
    """What our server says that the model computes in."""
    connection = Http(address, 10.0)
    try:
        told = json.loads(connection.ask("GET", f"/v2/models/{model}/config").partition(b"\n")[2])
        return str(told["parameters"]["precision"]["string_value"])
    except (CallFailed, ValueError, KeyError, TypeError):
        return "unknown"
    finally:
        connection.close()


@dataclass(frozen=True)
class Variant:
    """Our server with one engine at one precision."""

    engine: str
    precision: str

    @property
    def name(self) -> str:
        """As it is told in tables."""
        return f"atalaya {self.engine}" + (f" {self.precision}" if self.engine == OPENVINO else "")


def variants(engines: Sequence[str], precisions: Sequence[str]) -> list[Variant]:
    """Engines by precisions; TensorFlow computes as its graph says, so it comes once."""
    made = [Variant(OPENVINO, precision) for precision in precisions if OPENVINO in engines]
    return made + ([Variant(TENSORFLOW, "auto")] if TENSORFLOW in engines else [])


def model_folder(repository: Path, model: str, variant: Variant) -> Path:
    """The folder of the model in the variant's form: NAME-int8 for int8, NAME-tf for TensorFlow where NAME is IR.

    Raises UnknownModel.
    """
    suffix = "-int8" if variant.precision == "int8" and not model.endswith("-int8") else ""
    if variant.engine == TENSORFLOW and not _is_saved_model(repository / model):
        suffix = "-tf"
    folder = repository / f"{model}{suffix}"
    if not folder.is_dir() or not versions(folder):
        there = (
            ", ".join(sorted(one.name for one in repository.iterdir() if one.is_dir())) if repository.is_dir() else ""
        )
        raise UnknownModel(
            f"{repository} has no model {folder.name!r}, which {variant.name} needs; it has {there or 'none'}."
        )
    return folder


def _is_saved_model(folder: Path) -> bool:
    numbers = versions(folder) if folder.is_dir() else []
    return bool(numbers) and any((folder / str(numbers[-1])).rglob("saved_model.pb"))


@dataclass(frozen=True)
class OwnPlan:
    """What of our own server is started."""

    repository: Path
    variants: Sequence[Variant]
    launcher: Launcher
    logs: Path


def own_server(plan: OwnPlan, variant: Variant, model: str, cores: tuple[int, ...] | None = None) -> OwnServer:
    """How the variant is started; it serves the model under `model`, whatever its folder is called."""
    folder = model_folder(plan.repository, model, variant)
    flags = ["--model_name", model, "--model_path", str(folder), "--backend", variant.engine, "--log_level", "WARNING"]
    if variant.precision not in ("auto", "int8"):
        flags += ["--precision", variant.precision]
    name = variant.name if cores is None else f"{variant.name}, {cores_of(len(cores))}"
    return OwnServer(name, (*flags, "--queue_size", "4096"), cores)


def open_own(server: OwnServer, wanted: Wanted, plan: OwnPlan, stack: ExitStack) -> Target:
    """Start our server, wait for its first answer, and note how long that took. Raises ServerNotStarted."""
    import time

    log = plan.logs / f"{server.name.replace(', ', '-').replace(' ', '-')}.log"
    running = stack.enter_context(RunningServer(server, log, plan.launcher))
    running.wait_until_ready(wanted.model)
    addresses = {"grpc": f"127.0.0.1:{running.grpc_port}", "rest": f"127.0.0.1:{running.rest_port}"}
    clients: dict[Protocol, Client] = {}
    for protocol in wanted.protocols:
        address = addresses[protocol.rpartition("-")[2]]
        clients[protocol] = client(protocol, address, wanted.model, wanted.version, wanted.timeout_seconds)
        stack.callback(clients[protocol].close)
    told = next(iter(clients.values())).inputs()
    made = Target(server.name, wanted.model, clients, told, running.tree, addresses["rest"])
    made.inputs = settled(told, (), wanted.model)
    made.begin_audit()
    made.warm_up(next(iter(clients)), 1, calls=1)
    seconds = time.perf_counter() - running.started
    made.start = Start(server.name, seconds, running.tree.memory_mib(), _precision(addresses["rest"], wanted.model))
    return made


def open_against(server: Foreign, wanted: Wanted, given: Sequence[InputSpec], stack: ExitStack) -> Target:
    """Find what another server speaks, its inputs and its processes. Raises NoServer, UnknownModel, InvalidPlan."""
    found: dict[Protocol, Found] = {}
    pids: set[int] = set()
    rest: str | None = None
    for address in server.addresses:
        here = find(address, replace(wanted, protocols=PROTOCOLS))
        for protocol, one in here.items():
            stack.callback(one.client.close)
            found.setdefault(protocol, one)
        pids |= set(listeners(*host_and_port(address)))
        rest = address if any(protocol.endswith("-rest") for protocol in here) else rest
    told = next((one.inputs for one in found.values() if one.inputs), [])
    clients = {protocol: found[protocol].client for protocol in wanted.protocols if protocol in found}
    if not clients:
        raise InvalidPlan(
            f"{' and '.join(server.addresses)} speak {', '.join(found)}, not {', '.join(wanted.protocols)}; ask for"
            " what they speak with --protocol, or add the server's other port."
        )
    made = Target(server.name or server.addresses[0], wanted.model, clients, settled(told, given, wanted.model))
    made.tree = Tree(sorted(pids)) if pids else None
    made.metrics_address = rest
    made.begin_audit()
    return made


def check_unique(names: Sequence[str]) -> None:
    """Raises InvalidPlan where two servers would have one name."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidPlan(f"{twice[0]} is to be measured twice; name it once.")
