"""Runs a job of worker.py in a process of its own and hands on each result as it comes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atalaya_serving.benching.errors import NothingMeasured
from atalaya_serving.benching.processes import Launcher, end, last_line


def run_job(job: str, arguments: dict[str, Any], launcher: Launcher, log: Path) -> Iterator[dict[str, Any]]:
    """The job's results. Leaving early ends it. Raises NothingMeasured with its last words when it fails."""
    command = [*launcher.prefix, sys.executable, "-m", "atalaya_serving.benching.worker", job, json.dumps(arguments)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(  # noqa: S603 (our own interpreter, no shell)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, process_group=0
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
            code = process.wait()
        finally:
            end(process)
    if code:
        raise NothingMeasured(f"the job {job!r} ended with exit code {code}: {last_line(log)}")
