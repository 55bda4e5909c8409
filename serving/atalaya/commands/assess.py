"""`atalaya assess`: scenes in, a row a tile out. Parses and prints; the work is in atalaya_serving.scoring."""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from atalaya.assess_report import as_json, as_text, progress_teller, tell_warnings
from atalaya_spec.errors import UsageError

if TYPE_CHECKING:
    from atalaya_serving.scoring.assessment import AssessRequest, AssessResult
    from atalaya_serving.scoring.outputs import Output
    from atalaya_serving.store import Store

HELP = "Assess scenes tile by tile: GeoTIFF in, a map of damage out"
_DEFAULT_MODEL = "haiti-damage"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `atalaya assess`."""
    parser.add_argument("scene", nargs="+", type=Path, metavar="SCENE", help="a GeoTIFF")
    parser.add_argument("--model", default=_DEFAULT_MODEL, metavar="NAME", help="a model's name, or a version's folder")
    parser.add_argument("--endpoint", metavar="HOST:PORT", help="ask a KServe v2 server over gRPC instead")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="the manifest of what the endpoint serves")
    parser.add_argument("--area", type=Path, metavar="FILE", help="assess only inside (polygons or a raster)")
    parser.add_argument("--mask", type=Path, metavar="FILE", help="do not assess below, as cloud or water")
    parser.add_argument("--scale", type=_scale, metavar="LO,HI", help="the values that become black and white")
    parser.add_argument("--bands", type=_bands, metavar="R,G,B", help="band numbers to use: three, or one for grey")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write .parquet, .gpkg, .geojson or .csv")
    parser.add_argument("--footprints", choices=("scene", "wgs84"), help="coordinates of --out (default: scene)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out")
    parser.add_argument("--partial", action="store_true", help="assess nothing; write what there is, marked partial")
    parser.add_argument("--progress", choices=("auto", "json", "none"), default="auto", help="how progress is shown")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--threads", type=_positive, metavar="N", help="threads of inference (default: all cores)")
    parser.add_argument("--readers", type=_positive, metavar="N", help="threads that read the scene")
    parser.add_argument("--batch", type=_positive, metavar="N", help="tiles a batch (default: 32)")


def run(args: argparse.Namespace) -> int:
    """Assess every scene, then write --out. Ctrl-C leaves a journal that the same command goes on with."""
    import os

    from atalaya_serving.paths import Paths, shipped_repository
    from atalaya_serving.scoring.outputs import Output, check_output
    from atalaya_serving.store import Store

    _refuse_contradictions(args)
    output = args.out and Output(args.out, args.overwrite, args.partial, args.footprints or "scene")
    if output:
        check_output(output)
    paths = Paths.from_env(os.environ)
    repository = Path(os.environ.get("ATALAYA_MODEL_REPO") or shipped_repository())
    requests = [_request(args, scene, repository, paths.scenes) for scene in args.scene]
    with Store.open(paths.store_url) as store:
        if args.partial:
            return _write_partial(args, requests, store, output)
        try:
            results = _assess_all(args, requests, store, output)
        except KeyboardInterrupt:
            print("\nstopped; the rows so far are kept, and the same command goes on from there", file=sys.stderr)
            raise
        written = _write(store, results, output)
    _report(args, results, written)
    return 0


def _refuse_contradictions(args: argparse.Namespace) -> None:
    """Raise UsageError for options that mean nothing together, before anything is opened."""
    if args.out is None:
        for option, given, meaning in (
            ("--partial", args.partial, "writes what there is into a file"),
            ("--overwrite", args.overwrite, "replaces a file of results"),
            ("--footprints", args.footprints, "chooses the coordinates of a file of results"),
        ):
            if given:
                raise UsageError(f"{option} {meaning}; name the file with --out.")
    if args.manifest is not None and args.endpoint is None:
        raise UsageError("--manifest tells what an endpoint serves; give --endpoint, or a version's folder as --model.")
    seen: dict[Path, Path] = {}
    for scene in args.scene:
        first = seen.setdefault(scene.resolve(), scene)
        if first is not scene:
            same = "" if str(first) == str(scene) else f" (it is {first})"
            raise UsageError(f"{scene} is given twice{same}; name each scene once.")


def _request(args: argparse.Namespace, scene: Path, repository: Path, scenes_folder: Path) -> "AssessRequest":
    from atalaya_serving.scoring.assessment import AssessRequest
    from atalaya_serving.scoring.models import DEFAULT_BATCH, ModelChoice
    from atalaya_serving.scoring.planning import SceneChoice

    model = ModelChoice(args.model, repository, args.endpoint, args.manifest, args.threads, args.batch or DEFAULT_BATCH)
    looked_at = SceneChoice(scene, args.area, args.mask, args.scale, args.bands)
    return AssessRequest(looked_at, model, scenes_folder, args.readers)


def _assess_all(
    args: argparse.Namespace, requests: "list[AssessRequest]", store: "Store", output: "Output | None"
) -> "list[AssessResult]":
    from atalaya_serving.scoring.assessment import assess_with
    from atalaya_serving.scoring.models import open_model
    from atalaya_serving.scoring.outputs import check_output
    from atalaya_serving.scoring.planning import plan_scene

    results: list[AssessResult] = []
    with open_model(requests[0].model) as model:
        # All plans first: the tenth scene is refused before the first is worked on.
        plans = [plan_scene(request.scene, model.manifest) for request in requests]
        if output is not None:
            check_output(output, sum(plan.read.grid.tiles for plan in plans))
        tell_warnings((warning for plan in plans for warning in plan.warnings), args.progress)
        for request, plan in zip(requests, plans, strict=True):
            with ExitStack() as stack:
                tell = progress_teller(args.progress, request.scene.path.name, stack)
                results.append(assess_with(model, request, store, tell, plan))
    return _each_once(args, requests, results)


def _each_once(
    args: argparse.Namespace, requests: "list[AssessRequest]", results: "list[AssessResult]"
) -> "list[AssessResult]":
    """Two files of the same content are one scene: it is counted and written once."""
    first: dict[str, tuple[Path, AssessResult]] = {}
    for request, result in zip(requests, results, strict=True):
        path, _ = first.setdefault(result.assessment.id, (request.scene.path, result))
        if path != request.scene.path:
            tell_warnings([f"{request.scene.path} has the content of {path}: it is counted once"], args.progress)
    return [result for _, result in first.values()]


def _write(store: "Store", results: "list[AssessResult]", output: "Output | None") -> int | None:
    from atalaya_serving.scoring.outputs import write_output

    if output is None:
        return None
    return write_output(store, [result.assessment.id for result in results], output)


def _write_partial(args: argparse.Namespace, requests: "list[AssessRequest]", store: "Store", output: "Output") -> int:
    from atalaya_serving.scoring.assessment import find_assessment
    from atalaya_serving.scoring.outputs import write_output

    found = [find_assessment(request, store) for request in requests]
    for scene, assessment in zip(args.scene, found, strict=True):
        if assessment is None:
            raise UsageError(f"{scene} has no rows under this model and these options; run without --partial first.")
    known = list({assessment.id: assessment for assessment in found if assessment is not None}.values())
    rows = write_output(store, [assessment.id for assessment in known], output)
    total = sum(assessment.tiles_total for assessment in known)
    if args.json:
        print(json.dumps({"out": str(output.path), "rows": rows, "tiles_total": total, "partial": rows < total}))
    else:
        print(f"{output.path}: {rows:,} of {total:,} tiles{' (partial)' if rows < total else ''}")
    return 0


def _report(args: argparse.Namespace, results: "list[AssessResult]", written: int | None) -> None:
    told = [as_json(result) for result in results]
    if args.json:
        whole = told[0] if len(told) == 1 else {"scenes": told}
        print(json.dumps(whole | ({"out": str(args.out), "rows": written} if args.out else {})))
        return
    for result in results:
        print(as_text(result))
    if written is not None:
        print(f"wrote {args.out}: {written:,} rows")


def _scale(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers LO,HI") from None
    if not (low < high and abs(low) != float("inf") and abs(high) != float("inf")):
        raise argparse.ArgumentTypeError(f"{text!r}: LO must be below HI")
    return low, high


def _bands(text: str) -> tuple[int, ...]:
    try:
        bands = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not band numbers, as 3,2,1 or 1") from None
    if len(bands) not in {1, 3} or min(bands) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give one band or three, counted from 1")
    return bands


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
