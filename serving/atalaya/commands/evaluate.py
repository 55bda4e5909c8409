"""`atalaya evaluate`: the figures of any model on labelled tiles."""

import argparse
from pathlib import Path

HELP = "measure a model on labelled tiles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A model and tiles."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="IR, ONNX, SavedModel, .keras, or a version's folder")
    parser.add_argument("tiles", type=Path, metavar="TILES", help=".npz with tiles and damaged, or a folder of images")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="OpenVINO's arithmetic")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print accuracy, AUROC, Brier score, calibration and reliability, each with its interval."""
    import json

    from atalaya_serving.training.card import reliability_table, scores_table
    from atalaya_serving.training.dataset import load_examples
    from atalaya_serving.training.evaluate import evaluate

    scores = evaluate(args.model, load_examples(args.tiles), precision=args.precision)
    if args.json:
        print(json.dumps({"model": str(args.model), "tiles": str(args.tiles), **scores.as_dict()}))
    else:
        print(scores_table({args.model.name: scores}), reliability_table(scores), sep="\n\n")
    return 0
