"""`atalaya bench`: parses, shows progress and prints; the work is in atalaya_serving.benching."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atalaya_spec.errors import UsageError

if TYPE_CHECKING:
    from atalaya_serving.benching.load import LoadRequest
    from atalaya_serving.benching.processes import Launcher

HELP = "measure servers and engines under load, and the thesis' tables again"
_PROTOCOLS = ("v2-grpc", "v2-rest", "tfs-grpc", "tfs-rest")
_PRECISIONS = ("auto", "f32", "bf16", "f16", "int8")
_ENGINES = ("openvino", "tensorflow")
_PARTS = ("training", "serving", "paths")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two benchmarks, each with its own arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="load | thesis", required=True)
    _add_load(
        kinds.add_parser("load", help="images/s, latency, CPU and memory of a server under load", allow_abbrev=False)
    )
    _add_thesis(kinds.add_parser("thesis", help="the thesis' seven tables, with both engines", allow_abbrev=False))


def _add_load(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what is measured")
    what.add_argument("--model", default="haiti-damage", metavar="NAME", help="default haiti-damage")
    what.add_argument("--version", default="", metavar="N", help="default: the one that the server chooses")
    what.add_argument(
        "--against", action="append", default=[], metavar="[NAME=]H:P[,H:P]",
        help="another v2 or TFS server, by one port or by its gRPC and its REST port; repeatable",
    )  # fmt: skip
    what.add_argument("--with-ours", action="store_true", help="start our server beside those of --against")
    what.add_argument("--engine", type=_choices(_ENGINES), default=("openvino",), help="of ours: openvino,tensorflow")
    what.add_argument(
        "--precision", type=_choices(_PRECISIONS), default=("auto",), help="of ours: auto,f32,bf16,f16,int8"
    )
    what.add_argument("--repository", type=Path, metavar="FOLDER", help="our models (default: those shipped)")
    what.add_argument(
        "--protocol", type=_choices(_PROTOCOLS), default=_PROTOCOLS, help=f"default: {','.join(_PROTOCOLS)}"
    )
    what.add_argument(
        "--input", action="append", default=[], metavar="NAME:DATATYPE:DIMS",
        help="an input that the server does not tell, or leaves open: tiles:FP32:-1,128,128,1",
    )  # fmt: skip
    load = parser.add_argument_group("how much")
    load.add_argument(
        "--concurrency", type=_counts, default=(1, 8), metavar="N,…", help="calls in flight (default 1,8)"
    )
    load.add_argument("--batch", type=_counts, default=(1, 16), metavar="N,…", help="images a call (default 1,16)")
    load.add_argument("--rate", type=_rates, default=(None,), metavar="R,…",
                      help="calls a second whatever the answers do (open loop); without it, a closed loop")  # fmt: skip
    load.add_argument("--rounds", type=_count, default=3, metavar="N", help="each measures everything once (default 3)")
    load.add_argument("--seconds", type=_seconds, default=3.0, metavar="S", help="a measurement lasts (default 3)")
    load.add_argument("--requests", type=_count, metavar="N", help="or ends after so many calls, if that is sooner")
    load.add_argument("--timeout", type=_seconds, default=30.0, metavar="S", help="of one call (default 30)")
    _add_output(parser)


def _add_thesis(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what is measured")
    what.add_argument(
        "--tiles", type=Path, required=True, metavar="FILE", help="labelled tiles, as `atalaya train` takes"
    )
    what.add_argument(
        "--model", type=_words, default=("thesis2020", "haiti-damage"), metavar="NAME,…",
        help="default thesis2020 (what is fitted here) and haiti-damage",
    )  # fmt: skip
    what.add_argument("--repository", type=Path, metavar="FOLDER", help="our models (default: those shipped)")
    what.add_argument("--protocol", type=_choices(_PROTOCOLS), default=_PROTOCOLS, help="the web layers (default: all)")
    what.add_argument(
        "--precision", choices=_PRECISIONS[:-1], default="f32", help="OpenVINO's (default f32, as TensorFlow computes)"
    )
    what.add_argument("--cores", type=_counts, default=(), metavar="N,…", help="of the server (default: 1, and all)")
    what.add_argument("--without", type=_choices(_PARTS), default=(), help=f"leave out: {','.join(_PARTS)}")
    what.add_argument("--recorded", type=Path, metavar="CSV", help="the recording of 2020, to lay beside")
    load = parser.add_argument_group("how much")
    load.add_argument("--epochs", type=_counts, default=(100, 175, 200), metavar="N,…", help="default 100,175,200")
    load.add_argument("--seed", type=_whole, default=0, help="of the fits (default 0)")
    load.add_argument("--inferences", type=_count, default=4000, metavar="N",
                      help="a model and engine (default 4000; the thesis made 32000)")  # fmt: skip
    load.add_argument("--concurrency", type=_count, default=8, metavar="N", help="uploads at a time (default 8)")
    load.add_argument("--rounds", type=_count, default=4, metavar="N", help="in which all take turns (default 4)")
    load.add_argument("--path-seconds", type=_seconds, default=2.0, metavar="S", help="a path and round (default 2)")
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    told = parser.add_argument_group("what comes out")
    told.add_argument("--out", type=Path, default=Path("bench"), metavar="FOLDER", help="default: bench")
    told.add_argument("--json", action="store_true", help="print the report as JSON instead of the table")
    told.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Measure and write; ctrl-C leaves a report of what was measured."""
    return _run_load(args) if args.kind == "load" else _run_thesis(args)


def _run_load(args: argparse.Namespace) -> int:
    from atalaya_serving.benching.charts import load_charts
    from atalaya_serving.benching.load import LoadRun
    from atalaya_serving.benching.reports import load_markdown
    from atalaya_serving.benching.writing import results_in, write

    with results_in(args.out), tempfile.TemporaryDirectory(prefix="atalaya-bench-") as logs:
        run = LoadRun(_load_request(args, Path(logs)))
        try:
            run.measure(_tell(args))
        finally:
            if run.samples:
                report = run.report()
                markdown = load_markdown(report)
                files = write(args.out, "load", report, markdown, lambda: load_charts(report.rows, args.out))
                _print(args, report, markdown, files)
    return 0


def _load_request(args: argparse.Namespace, logs: Path) -> "LoadRequest":
    from atalaya_serving.benching.inputs import parse_input
    from atalaya_serving.benching.load import LoadRequest
    from atalaya_serving.benching.plans import LoadPlan
    from atalaya_serving.benching.targets import Foreign, OwnPlan, variants

    if args.version and not args.version.isdecimal():
        raise UsageError(f"--version {args.version!r} is no whole number; name one of the model's versions.")
    plan = LoadPlan(args.concurrency, args.batch, args.rate, args.rounds, args.seconds, args.requests, args.timeout)
    own = None
    if args.with_ours or not args.against:
        own = OwnPlan(_repository(args), variants(args.engine, args.precision), _launcher(), logs)
    inputs = tuple(map(parse_input, args.input))
    against = tuple(map(Foreign.parse, args.against))
    return LoadRequest(args.model, plan, args.protocol, own, against, args.version, inputs)


def _run_thesis(args: argparse.Namespace) -> int:
    from atalaya_serving.benching.charts import thesis_charts
    from atalaya_serving.benching.thesis import ThesisRequest, ThesisRun
    from atalaya_serving.benching.thesis_tables import thesis_markdown
    from atalaya_serving.benching.writing import results_in, write

    with results_in(args.out), tempfile.TemporaryDirectory(prefix="atalaya-bench-") as work:
        run = ThesisRun(
            ThesisRequest(
                tiles=args.tiles,
                repository=_repository(args),
                work=Path(work),
                launcher=_launcher(),
                models=args.model,
                parts=tuple(part for part in _PARTS if part not in args.without),
                epochs=args.epochs,
                seed=args.seed,
                inferences=args.inferences,
                cores=args.cores,
                precision=args.precision,
                protocols=args.protocol,
                concurrency=args.concurrency,
                rounds=args.rounds,
                path_seconds=args.path_seconds,
                recorded=args.recorded,
            )
        )
        try:
            run.measure(_tell(args))
        finally:
            if run.has_results:
                report = run.report()
                markdown = thesis_markdown(report)
                files = write(args.out, "thesis", report, markdown, lambda: thesis_charts(report, args.out))
                _print(args, report, markdown, files)
    return 0


def _repository(args: argparse.Namespace) -> Path:
    from atalaya_serving.paths import shipped_repository

    return Path(args.repository or os.environ.get("ATALAYA_MODEL_REPO") or shipped_repository())


def _launcher() -> "Launcher":
    """Children end with us, even by SIGKILL."""
    from atalaya import tie
    from atalaya_serving.benching.processes import Launcher

    return Launcher((sys.executable, "-m", tie.__name__, str(os.getpid())))


def _tell(args: argparse.Namespace) -> Callable[[str], None]:
    def tell(line: str) -> None:
        if not args.quiet:
            print(line, file=sys.stderr, flush=True)

    return tell


def _print(args: argparse.Namespace, report: Any, markdown: str, files: list[Path]) -> None:
    from dataclasses import asdict

    wrote = "wrote " + ", ".join(map(str, files))
    if not args.json:
        print(f"{markdown}\n{wrote}")
    elif report.complete:
        print(json.dumps(asdict(report)))
    else:  # stdout is for what ended it
        print(wrote, file=sys.stderr)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _choices(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        words = _words(text)
        if strange := [word for word in words if word not in known]:
            raise argparse.ArgumentTypeError(f"{strange[0]!r} is none of {', '.join(known)}")
        if not words or len(set(words)) < len(words):
            raise argparse.ArgumentTypeError(f"{text!r}: name one or several of {', '.join(known)}, each once")
        return words

    return parse


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(word) for word in _words(text))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _rates(text: str) -> tuple[float, ...]:
    return tuple(_seconds(word) for word in _words(text))
