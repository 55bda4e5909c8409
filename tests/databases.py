"""A real PostgreSQL from Debian for the tests: a cluster of its own in a temporary folder, on a free port.

PostgreSQL refuses to run as root, so as root it runs as the user `postgres` that the package makes.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp


@dataclass(frozen=True)
class Access:
    """Where a PostgreSQL is started and who may reach it; by default this machine's programs, without a password."""

    host: str = "127.0.0.1"
    clients: str = ""
    """Addresses from which the user comes with the password, as 198.18.0.0/17."""
    password: str = "none"
    inside: Callable[[Sequence[str]], list[str]] = list
    """From a command to one that runs it elsewhere, as in another network namespace."""


@contextmanager
def postgresql(access: Access = Access()) -> Iterator[str]:
    """Start a cluster and hand out the address of its maintenance database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert programs, "PostgreSQL is not installed: run tests/system-packages.sh"
    binaries = programs[-1].parent
    folder = Path(mkdtemp(prefix="atalaya-postgresql-"))
    (folder / "password").write_text(access.password)
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")
        shutil.chown(folder / "password", "postgres")

    def run(*command: object) -> None:
        words = access.inside([*as_user, *map(str, command)])
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=folder)

    data = folder / "data"
    trusted = ("--auth=trust", f"--pwfile={folder / 'password'}", "--no-sync", "--encoding=UTF8")
    run(binaries / "initdb", "-D", data, "-U", "atalaya", *trusted)
    if access.clients:
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {access.clients} scram-sha-256\n")
    port = free_port()
    options = f"-p {port} -h {access.host} -k {folder} -c fsync=off -c timezone=Asia/Tokyo"
    run(binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    login = f"atalaya:{access.password}" if access.clients else "atalaya"
    try:
        yield f"postgresql://{login}@{access.host}:{port}/postgres"
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
