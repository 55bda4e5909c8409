"""`atalaya train`: labelled tiles to a calibrated model, judged by cross-validation."""

import argparse
from pathlib import Path

HELP = "train a model on labelled tiles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tiles in, a run's folder out."""
    parser.add_argument("tiles", type=Path, metavar="TILES", help=".npz with tiles and damaged, or a folder of images")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder, made here")
    parser.add_argument(
        "--network", default="symmetric", metavar="NAME", help="symmetric (default), compact or thesis2020"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same model (default 0)")
    parser.add_argument(
        "--epochs", type=int, help="rounds over the tiles, its teachers' in proportion; default: as the recipe says"
    )
    parser.add_argument("--folds", type=int, default=5, help="of the cross-validation (default 5)")
    parser.add_argument("--repeats", type=int, default=2, help="of the cross-validation, each dealt anew (default 2)")
    parser.add_argument("--jobs", type=int, help="fits at a time, one core each; default: all cores")
    begun = parser.add_mutually_exclusive_group()
    begun.add_argument("--resume", action="store_true", help="go on where a stopped run in --out ended")
    begun.add_argument("--overwrite", action="store_true", help="begin anew where --out is a run already")
    parser.add_argument("--json", action="store_true", help="print the scores as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Train, judge, calibrate; print the cross-validated scores."""
    import json

    from atalaya_serving.training.train import TrainRequest, train

    scores = train(
        TrainRequest(
            source=args.tiles,
            out=args.out,
            network=args.network,
            seed=args.seed,
            epochs=args.epochs,
            folds=args.folds,
            repeats=args.repeats,
            jobs=args.jobs,
            resume=args.resume,
            overwrite=args.overwrite,
        )
    )
    if args.json:
        print(json.dumps({"run": str(args.out), **scores.as_dict()}))
    else:
        from atalaya_serving.training.card import scores_table

        print(scores_table({"cross-validated": scores}))
        print(f"\nrun: {args.out}    next: atalaya export {args.out} --tiles {args.tiles}")
    return 0
