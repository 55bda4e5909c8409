"""`python -m atalaya_serving bridge`: read the flags, bridge until SIGTERM."""

import sys
from collections.abc import Sequence

from atalaya_serving.bridge.settings import parse_settings
from atalaya_serving.errors import SettingsError


def main(arguments: Sequence[str]) -> int:
    """Bridge; 0 after an orderly end, 2 for wrong use, 75 where accepted calls were not answered in time."""
    try:
        settings = parse_settings(arguments)
        from atalaya_serving import logs
        from atalaya_serving.bridge.server import Bridge
        from atalaya_serving.server import keep_freed_memory

        keep_freed_memory()
        logs.set_up(settings.listen.log_level, settings.listen.log_format)
        bridge = Bridge(settings)
    except SettingsError as error:
        print(f"atalaya_serving bridge: error: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return error.exit_code
    return bridge.run()
