"""`python -m atalaya_serving fetch`: brings versions into a folder, or tells which there are; ends with one clear line.

The line is the last of the log, and in a pod also its termination message, where the operator reads it: the reason in
the first word, the next step after the semicolon.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

from atalaya_serving.errors import SettingsError
from atalaya_serving.fetching.admission import Bounds
from atalaya_serving.fetching.errors import FetchError
from atalaya_serving.fetching.listing import LONGEST_BYTES, MOST_VERSIONS, listing
from atalaya_serving.fetching.store import open_store
from atalaya_serving.fetching.version_folder import Fetch, clear_aside, fetch_version, is_digest
from atalaya_serving.flag_values import positive
from atalaya_spec.errors import AtalayaError

TERMINATION_LOG = Path("/dev/termination-log")


@dataclass(frozen=True)
class FetchSettings:
    """What one run is told. Without a target it lists."""

    source: str
    target: Path | None
    versions: tuple[int, ...]
    digests: dict[int, str]
    bounds: Bounds
    most: int


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see python -m atalaya_serving fetch --help.")


def main(arguments: Sequence[str], termination_log: Path = TERMINATION_LOG) -> int:
    """Fetch or list; 0 when all is there, 1 when the store or the files are at fault, 2 for wrong use."""
    try:
        settings = parse_settings(arguments)
        told = _list(settings) if settings.target is None else _fetch(settings, settings.target)
    except AtalayaError as error:
        told = str(error) if isinstance(error, FetchError) else f"WrongUse: {error}"
        _say(told, termination_log, sys.stderr)
        return error.exit_code
    _say(told, termination_log, sys.stdout)
    return 0


def parse_settings(arguments: Sequence[str]) -> FetchSettings:
    """Read a command line. Raises SettingsError in one line; prints help and exits on --help."""
    given = _flags().parse_args(arguments)
    digests = dict(map(_digest, given.digest))
    if given.list == (given.to is not None):
        raise SettingsError("one of --to and --list says what to do; give exactly one of them.")
    if not given.list and not given.versions:
        raise SettingsError("--to needs --versions, such as --versions=3,4.")
    if unknown := sorted(set(digests) - set(given.versions)):
        raise SettingsError(f"--digest speaks of version {unknown[0]}, which --versions does not name.")
    target = None if given.list else Path(given.to)
    bounds = Bounds(given.max_files, given.max_bytes)
    return FetchSettings(given.source, target, given.versions, digests, bounds, given.most)


def _flags() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m atalaya_serving fetch",
        description="Brings versions of a model from a store into a folder, each whole or not at all.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--from", dest="source", required=True, metavar="URI", help="s3, gs, az, https, oci or a folder of versions"
    )
    parser.add_argument("--to", metavar="FOLDER", help="where a folder a version appears")
    parser.add_argument("--versions", type=_versions, default=(), metavar="3,4", help="which versions to bring")
    parser.add_argument(
        "--digest", action="append", default=[], metavar="3=sha256:…", help="what a version must be; repeat"
    )
    parser.add_argument("--max_files", type=positive, default=Bounds.files, help="most files of a version")
    parser.add_argument("--max_bytes", type=positive, default=Bounds.total_bytes, help="most bytes of a version")
    parser.add_argument("--list", action="store_true", help="bring nothing; tell which versions there are, as JSON")
    parser.add_argument(
        "--most",
        type=positive,
        default=MOST_VERSIONS,
        help=f"most versions to list (default {MOST_VERSIONS})",
    )
    return parser


def _versions(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of versions, such as 3,4")
    return tuple(sorted(set(map(int, parts))))


def _digest(text: str) -> tuple[int, str]:
    number, _, digest = text.partition("=")
    if not (number.isdecimal() and is_digest(digest)):
        raise SettingsError(f"--digest={text} is not VERSION=sha256: and 64 hex digits.")
    return int(number), digest


def _list(settings: FetchSettings) -> str:
    return listing(open_store(settings.source, os.environ), min(settings.most, MOST_VERSIONS)).text()


def _fetch(settings: FetchSettings, target: Path) -> str:
    store = open_store(settings.source, os.environ)
    total = 0
    for number in settings.versions:
        total += fetch_version(Fetch(store, target, number, settings.digests.get(number, ""), settings.bounds))
    clear_aside(target)
    named = ", ".join(map(str, settings.versions))
    return f"{settings.source}: version {named} is whole in {target}; {total:,} bytes were fetched."


def _say(told: str, termination_log: Path, stream: TextIO) -> None:
    line = " ".join(told.split())
    print(line, file=stream, flush=True)  # its one line
    if termination_log.is_file():
        with termination_log.open("wb") as opened:
            opened.write(line.encode()[:LONGEST_BYTES])
