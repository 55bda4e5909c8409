"""Batching as TensorFlow Serving's parameters file says it; our own server reads the same file."""

import math

from atalaya_spec.inference_model import Batching

FILE = "batching.config"


def batching_parameters(batching: Batching) -> str:
    """The text proto."""
    lines = [f"max_batch_size {{ value: {batching.max_size} }}"]
    if batching.timeout:
        micros = math.ceil(batching.timeout.seconds * 1e6)
        lines.append(f"batch_timeout_micros {{ value: {micros} }}")
    return "\n".join(lines) + "\n"
