"""The server's flags that come from TensorFlow Serving, with its names and meanings."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from atalaya_serving.batching import Batching
from atalaya_serving.errors import SettingsError


@dataclass(frozen=True)
class TfsSettings:
    """What is told in TensorFlow Serving's terms. 0 threads are TensorFlow's own choice."""

    model_config_file: Path | None = None
    model_config_poll_seconds: float = 0.0
    allow_new_labels: bool = False
    monitoring_config_file: Path | None = None
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    batching: Batching | None = None
    derive_signatures: bool = True
    """Whether models without Examples in their graph get `classify` and `regress` from the server."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments, in a group of their own."""
    group = parser.add_argument_group("TensorFlow Serving's own (not in OVMS)")
    group.add_argument(
        "--model_config_file", type=Path, help="text proto: model_config_list with version policies and labels"
    )
    group.add_argument(
        "--model_config_file_poll_wait_seconds",
        type=_count,
        default=0,
        help="look at that file again; 0 is off (default)",
    )
    group.add_argument(
        "--allow_version_labels_for_unavailable_models",
        action="store_true",
        help="a new label may be given to a version that does not serve yet",
    )
    group.add_argument(
        "--monitoring_config_file", type=Path, help="text proto: prometheus_config with the path of /metrics"
    )
    group.add_argument("--enable_batching", action="store_true", help="gather waiting calls into one batch")
    group.add_argument(
        "--batching_parameters_file", type=Path, help="text proto: max_batch_size, batch_timeout_micros, …"
    )
    group.add_argument(
        "--tensorflow_intra_op_parallelism", type=_count, default=0, help="threads of one operation; 0 is automatic"
    )
    group.add_argument(
        "--tensorflow_inter_op_parallelism", type=_count, default=0, help="operations side by side; 0 is automatic"
    )


def tfs_settings(given: argparse.Namespace) -> TfsSettings:
    """The parsed arguments as settings."""
    return TfsSettings(
        model_config_file=given.model_config_file,
        model_config_poll_seconds=float(given.model_config_file_poll_wait_seconds),
        allow_new_labels=given.allow_version_labels_for_unavailable_models,
        monitoring_config_file=given.monitoring_config_file,
        intra_op_threads=given.tensorflow_intra_op_parallelism,
        inter_op_threads=given.tensorflow_inter_op_parallelism,
        batching=read_batching_flags(given.enable_batching, given.batching_parameters_file),
    )


def read_batching_flags(is_enabled: bool, file: Path | None) -> Batching | None:
    """What the two flags ask for. Raises SettingsError."""
    if file is None:
        return Batching() if is_enabled else None
    if not is_enabled:
        raise SettingsError("--batching_parameters_file without --enable_batching does nothing; give both.")
    from atalaya_serving.tfs.model_config import read_batching

    return read_batching(file)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count (0 or more)")
    return int(text)
