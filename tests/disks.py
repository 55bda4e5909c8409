"""A disk that is really full, for the tests: a small tmpfs in a mount namespace that only one command sees."""

import os
from pathlib import Path


def small_disk(folder: Path, size: str, command: list[str]) -> list[str]:
    """The command that runs `command` with an empty tmpfs of `size` over `folder`; root or not."""
    namespace = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    return [
        *namespace,
        "sh",
        "-c",
        'mount -t tmpfs -o "size=$1" tmpfs "$0" && shift 1 && exec "$@"',
        str(folder),
        size,
        *command,
    ]
