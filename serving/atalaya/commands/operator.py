"""`atalaya operator`: the controller, as it runs in its pod, set by the environment variables that the chart sets."""

import argparse
import os

HELP = "run the controller that serves a cluster's InferenceModels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None: what it is told is the same for every model, and stands in the environment (docs/operator.md)."""


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - every command is given its arguments
    """Work until told to end. Raises AtalayaError."""
    from atalaya_operator.__main__ import run

    run(os.environ)
    return 0
