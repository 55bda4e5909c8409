"""`python -m atalaya_serving`: read the flags, serve until SIGTERM; as another server by faces/start.py."""

import os
import signal
import sys
from collections.abc import Sequence

from atalaya_serving.errors import SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; 0 after an orderly end, 2 for wrong use, 75 where accepted calls were not answered in time."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # before it serves, from when on ctrl-C is an orderly end
        return 128 + signal.SIGINT


def _run(given: Sequence[str]) -> int:
    if given and given[0] == "bridge":
        from atalaya_serving.bridge.command import main as bridge

        return bridge(given[1:])
    if given and given[0] == "fetch":
        from atalaya_serving.fetching.command import main as fetch

        return fetch(given[1:])
    return _serve(given)


def _serve(given: Sequence[str]) -> int:
    from atalaya_serving.faces.start import face_of, run  # takes five times as long as all that fetching needs
    from atalaya_serving.settings import parse_settings

    try:
        if (face := face_of(given, os.environ)) is not None:
            return run(face, os.environ)
        settings = parse_settings(given)
        from atalaya_serving import logs
        from atalaya_serving.engines.choice import Engines
        from atalaya_serving.server import Server, keep_freed_memory

        keep_freed_memory()
        logs.set_up(settings.log_level, settings.log_format)
        tfs = settings.tfs
        server = Server(settings, Engines(tfs.intra_op_threads, tfs.inter_op_threads))
    except SettingsError as error:
        print(f"atalaya_serving: error: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return error.exit_code
    return server.run()


if __name__ == "__main__":
    sys.exit(main())
