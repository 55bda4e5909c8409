"""`atalaya up`: serves models and the dashboard on one machine from the same files as a cluster, until ctrl-C."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atalaya.local_services import Addresses, Services
    from atalaya_serving.paths import Paths

HELP = "serve models and the dashboard on this machine, without a cluster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "-f", "--file", dest="files", action="append", default=[], type=Path, metavar="FILE",
        help="an InferenceModel file; may be repeated. Without it every model of the shipped repository is served",
    )  # fmt: skip
    add_address_arguments(parser)
    parser.add_argument("--no-dashboard", action="store_true", help="serve the models only")


def add_address_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the services listen."""
    parser.add_argument("--port", type=_port, default=9000, help="port of gRPC (default 9000)")
    parser.add_argument("--rest-port", type=_port, default=8000, help="port of REST and /metrics (default 8000)")
    parser.add_argument("--dashboard-port", type=_port, default=8501, help="port of the dashboard (default 8501)")
    parser.add_argument(
        "--address", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine only)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal asks for the end."""
    from atalaya.local_services import LocalRun, refuse_taken_ports
    from atalaya.supervise import Stopped
    from atalaya_serving.paths import Paths

    services = _services(args, addresses_of(args), Paths.from_env(os.environ))
    refuse_taken_ports(services.addresses)
    for note in services.notes:
        say(f"note: {note}")
    warn_of_open_doors(services.addresses)
    with LocalRun(services, say) as local:
        try:
            local.start_server()
            if services.addresses.dashboard_port:
                local.start_dashboard()
            say_where(services)
            local.supervisor.watch()
        except Stopped:
            pass
        say("ending what was started")
    return 0


def addresses_of(args: argparse.Namespace) -> "Addresses":
    """The addresses that the arguments name."""
    from atalaya.local_services import Addresses

    return Addresses(args.address, args.port, args.rest_port, 0 if args.no_dashboard else args.dashboard_port)


def say(line: str) -> None:
    """One line for a person. On stderr, because stdout is for what a program may read."""
    print(line, file=sys.stderr, flush=True)


def say_where(services: "Services") -> None:
    """Print where everything is, on stdout."""
    from atalaya.local_services import loaded_versions

    addresses = services.addresses
    rows = [(one, "failed; see above" if why else "ready") for one, why in loaded_versions(services).items()]
    rows += [
        ("gRPC (KServe v2, TensorFlow Serving)", addresses.grpc),
        ("REST (KServe v2)", f"{addresses.rest}/v2"),
        ("REST (TensorFlow Serving)", f"{addresses.rest}/v1"),
        ("metrics", f"{addresses.rest}/metrics"),
        ("logs", str(services.paths.home / "logs")),
    ]
    if addresses.dashboard_port:
        rows.append(("dashboard", addresses.dashboard))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    print("ctrl-C ends all of it", flush=True)


def warn_of_open_doors(addresses: "Addresses") -> None:
    """Say what an address beyond this machine means: nothing here asks for a password."""
    if addresses.host not in ("127.0.0.1", "::1", "localhost"):
        say(f"note: {addresses.host} can be reached from other machines, and nothing here asks for a key or password")


def _services(args: argparse.Namespace, addresses: "Addresses", paths: "Paths") -> "Services":
    from atalaya.local_services import Services
    from atalaya.local_serving import devices_here, models_of_files, models_of_repository
    from atalaya_serving.paths import shipped_repository
    from atalaya_spec.errors import UsageError
    from atalaya_spec.problems import InvalidInferenceModel

    if not args.files:
        root = Path(os.environ.get("ATALAYA_MODEL_REPO") or shipped_repository())
        return Services(tuple(models_of_repository(root)), (), addresses, paths)
    problems, local = models_of_files(args.files, devices_here())
    if problems:
        raise InvalidInferenceModel(problems)
    if not local.models:
        raise UsageError("every model of these files asks for replicas: 0; raise replicas to serve one.")
    return Services(local.models, local.notes, addresses, paths)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; write a number from 1 to 65535")
    return int(text)
