"""Ties a program's life to its parent's: `python -m atalaya.tie PARENT PROGRAM…` becomes the program.

On Linux the kernel then ends it when the parent is gone, even by SIGKILL, so that no server is left behind. Elsewhere
that cannot be promised. A step of its own, because code between fork and exec is not safe in a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; it holds across exec


def main(arguments: list[str]) -> None:
    """Become the program; this does not return."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed before we could ask
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 (our own interpreter, no shell)


if __name__ == "__main__":
    main(sys.argv[1:])
