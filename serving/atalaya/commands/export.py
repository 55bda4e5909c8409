"""`atalaya export`: a training run to the formats that servers load, with manifests and model cards."""

import argparse
from pathlib import Path

HELP = "write a trained model in the formats that servers load"
FORMATS = ("ir-fp16", "ir-fp32", "ir-int8", "saved-model")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run in, versions of a model repository out."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a folder that `atalaya train` made")
    parser.add_argument("--tiles", type=Path, required=True, help="the tiles of that training; int8 is fitted to them")
    parser.add_argument("--formats", default=",".join(FORMATS), help=f"comma-separated (default {','.join(FORMATS)})")
    parser.add_argument("--repository", type=Path, default=Path("model-repo"), help="default ./model-repo")
    parser.add_argument("--name", default="haiti-damage", help="of the model; -fp32, -int8, -tf are appended")
    parser.add_argument("--version", type=int, default=1, help="folder of the version (default 1)")
    parser.add_argument("--data", type=Path, metavar="YAML", help="describes the training data, for the model card")
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="a run of thesis2020, to stand in the model card")
    parser.add_argument("--overwrite", action="store_true", help="replace a version that is there")
    parser.add_argument("--json", action="store_true", help="print what was written as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Write the versions; print where they are."""
    import json

    from atalaya_serving.training.card import write_cards
    from atalaya_serving.training.dataset import load_examples
    from atalaya_serving.training.deliver import ExportRequest, checked_formats, deliver, read_data_note

    request = ExportRequest(
        run=args.run,
        examples=load_examples(args.tiles),
        formats=checked_formats(args.formats),
        repository=args.repository,
        name=args.name,
        version=args.version,
        data=read_data_note(args.data, args.tiles),
        data_file=args.data,
        baseline=args.baseline,
        overwrite=args.overwrite,
    )
    delivered = deliver(request)
    write_cards(request, delivered)
    if args.json:
        print(json.dumps({"versions": [{"format": one.format, "folder": str(one.folder)} for one in delivered]}))
    else:
        for one in delivered:
            print(f"{one.format:12} {one.folder}")
    return 0
