"""A real PostgreSQL from Debian for the tests: a cluster of its own in a temporary folder, on a free port.

PostgreSQL refuses to run as root, so as root it runs as the user `postgres` that the package makes.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a cluster and hand out the address of its maintenance database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert programs, "PostgreSQL is not installed: run tests/system-packages.sh"
    binaries = programs[-1].parent
    folder = Path(mkdtemp(prefix="atalaya-postgresql-"))
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")

    def run(*command: object) -> None:
        subprocess.run([*as_user, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd=folder)

    data = folder / "data"
    run(binaries / "initdb", "-D", data, "-U", "atalaya", "--auth=trust", "--no-sync", "--encoding=UTF8")
    port = free_port()
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off -c timezone=Asia/Tokyo"
    run(binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        yield f"postgresql://atalaya@127.0.0.1:{port}/postgres"
    finally:
        run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition, seconds: float = 60) -> None:
    """Wait for a fact outside this process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
