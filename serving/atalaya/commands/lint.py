"""`atalaya lint`: checks InferenceModel files offline and lists every problem, so that a cluster never has to."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

HELP = "check InferenceModel files, every error at once"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="YAML of one or more documents")
    parser.add_argument("--local", action="store_true", help="check for `atalaya up` instead of a cluster")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print every problem and note; 1 when there is a problem."""
    from atalaya.local_serving import check_local_files, devices_here
    from atalaya_spec.model_files import check_files, problems_of

    checked = check_local_files(args.files, devices_here()) if args.local else check_files(args.files)
    problems = problems_of(checked)
    notes = [note for document in checked for note in document.notes]
    models = [document.model.name for document in checked if document.model]
    if args.json:
        print(json.dumps(_report(models, problems, notes), indent=2))
        return 1 if problems else 0
    for problem in problems:
        print(f"error: {problem}")
    for note in notes:
        print(f"note: {note}")
    print(f"{len(problems)} problem{'s' * (len(problems) != 1)}; valid: {', '.join(models) or 'none'}")
    return 1 if problems else 0


def _report(models: list[str], problems: list[Any], notes: list[Any]) -> dict[str, Any]:
    return {
        "valid": models,
        "problems": [asdict(problem) for problem in problems],
        "notes": [asdict(note) for note in notes],
    }
