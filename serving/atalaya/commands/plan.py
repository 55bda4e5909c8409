"""`atalaya plan`: shows the objects that the operator would make of InferenceModel files, and what would change.

Objects, or with `--diff` the difference, go to standard output; what was assumed, and a summary, to standard error.
"""

import argparse
import json
import os
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

HELP = "show the objects that a cluster would get, and what would change"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="InferenceModel files")
    parser.add_argument(
        "--version", type=_version, action="append", default=[], metavar="N",
        help="version of the model that `latest` or `all` is taken for; may be repeated",
    )  # fmt: skip
    parser.add_argument("--device", help="device that is taken to be had (default: the first that the model names)")
    parser.add_argument("--diff", action="store_true", help="compare with the cluster, by a dry run on its API server")
    parser.add_argument("--context", help="context of the kubeconfig, with --diff")
    parser.add_argument("--namespace", help="for models that name none (default: default)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print plans or differences. Raises AtalayaError."""
    from atalaya_operator.plan import Wanted, in_namespace, known_versions, live_model, plan, serving_device
    from atalaya_operator.platform import OPTIONAL_KINDS, Platform
    from atalaya_operator.revision import PinnedVersion
    from atalaya_spec.model_files import check_files, problems_of
    from atalaya_spec.problems import InvalidInferenceModel

    checked = check_files(args.files)
    if problems := problems_of(checked):
        raise InvalidInferenceModel(problems)
    models = [document.model for document in checked if document.model]
    _refuse_unknown_device(models, args.device)
    cluster = _cluster(args.context) if args.diff else None
    offers = cluster.offers() if cluster else frozenset(OPTIONAL_KINDS)
    platform = replace(Platform.from_environment(os.environ), offers=offers)
    plans = []
    for model in (in_namespace(one, args.namespace) if args.namespace else one for one in models):
        live = live_model(cluster, model) if cluster else None
        versions = tuple(map(PinnedVersion, args.version)) or known_versions(live, model)
        wanted = Wanted(versions, args.device or serving_device(live, model))
        plans.append(plan(model, platform, wanted, (live or {}).get("metadata", {}).get("uid", "")))
    return _compare(plans, cluster, args.json) if cluster else _show(plans, args.json)


def _show(plans: list[Any], as_json: bool) -> int:
    from atalaya_operator.yaml_text import as_yaml

    if as_json:
        print(json.dumps({"models": [_report(one) | {"objects": one.objects} for one in plans]}, indent=2))
        return 0
    sys.stdout.write(as_yaml(manifest for one in plans for manifest in one.objects))
    for one in plans:
        _tell(one, f"{len(one.objects)} objects")
    return 0


def _compare(plans: list[Any], cluster: Any, as_json: bool) -> int:
    from atalaya_operator.plan import changes

    reports = []
    for one in plans:
        found = list(changes(one, cluster))
        reports.append(_report(one) | {"changes": [asdict(change) for change in found]})
        if as_json:
            continue
        for change in found:
            print(f"{change.verdict}: {change.kind}/{change.name}")
            sys.stdout.write(change.difference)
        counted = Counter(change.verdict for change in found)
        _tell(one, ", ".join(f"{count} {verdict}" for verdict, count in counted.items()))
    if as_json:
        print(json.dumps({"models": reports}, indent=2))
    return 0


def _tell(one: Any, what: str) -> None:
    for note in one.notes:
        print(f"note: {one.model.name}: {note}", file=sys.stderr)
    versions = ", ".join(str(version.number) for version in one.revision.versions)
    told = f"{one.model.name}: version {versions} on {one.revision.device} by {one.revision.image}"
    print(f"{told}, revision {one.revision.name}: {what}", file=sys.stderr)


def _report(one: Any) -> dict[str, Any]:
    from atalaya_operator.schema import plain

    return {
        "name": one.model.name,
        "revision": one.revision.name,
        "image": one.revision.image,
        "device": one.revision.device,
        "versions": [version.number for version in one.revision.versions],
        "endpoints": plain(one.endpoints),
        "notes": [asdict(note) for note in one.notes],
    }


def _cluster(context: str | None) -> Any:
    from atalaya_operator.cluster import Cluster

    return Cluster.from_kubeconfig(context)


def _refuse_unknown_device(models: list[Any], device: str | None) -> None:
    from atalaya_spec.errors import UsageError

    for model in models:
        if device is not None and device not in model.spec.devices:
            named = ", ".join(model.spec.devices)
            raise UsageError(f"--device {device} is none that {model.name} names; it names {named}.")


def _version(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no version of a model; write a whole number from 1")
    return int(text)
