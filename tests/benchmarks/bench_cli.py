"""How long `atalaya --help` takes, beside an interpreter that does nothing. Target: < 0.3 s."""

import statistics
import subprocess
import sys
import time

RUNS = 15
TARGET_SECONDS = 0.3


def seconds(*command: str) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Interleave both, print medians, fail past the target."""
    runs = [(seconds("-c", "pass"), seconds("-m", "atalaya", "--help")) for _ in range(RUNS)]
    bare, command = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"python -c pass {bare:.3f} s; atalaya --help {command:.3f} s (median of {RUNS}; target {TARGET_SECONDS} s)")
    return 0 if command < TARGET_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
