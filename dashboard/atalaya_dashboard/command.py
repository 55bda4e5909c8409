"""The command line that starts Streamlit with our pages. Everything is a flag, so no file of the user changes it.

Nothing here imports Streamlit: `python -m atalaya_dashboard` becomes the Streamlit process by exec, so that whoever
supervises it ends the pages by ending the process it started.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

APP = Path(__file__).with_name("app.py")
MAX_UPLOAD_MB = 4096

THEME = {
    "base": "light",
    "primaryColor": "#0b6e99",
    "backgroundColor": "#ffffff",
    "secondaryBackgroundColor": "#eef2f5",
    "textColor": "#15212b",
    "borderColor": "#d5dde3",
    "showWidgetBorder": "true",
    "baseRadius": "small",
    "headingFontWeights": "[700,650,600]",
}

OPTIONS = {
    "browser.gatherUsageStats": "false",  # nothing leaves the machine
    "client.showErrorDetails": "none",  # no stack trace reaches a user; the log has it
    "client.toolbarMode": "minimal",
    "global.developmentMode": "false",
    "logger.level": "warning",
    "server.fileWatcherType": "none",
    "server.headless": "true",
    "server.maxUploadSize": str(MAX_UPLOAD_MB),
    **{f"theme.{name}": value for name, value in THEME.items()},
}


def parser() -> argparse.ArgumentParser:
    """The flags of `python -m atalaya_dashboard`."""
    made = argparse.ArgumentParser(
        prog="python -m atalaya_dashboard",
        description="The pages of Atalaya: the map of damage, live latency, and assessing a new scene.",
    )
    made.add_argument("--port", type=int, default=8501, help="port of the pages (default 8501)")
    made.add_argument(
        "--address",
        default="127.0.0.1",
        help="address to listen on (default 127.0.0.1: this machine only; the pages have no password)",
    )
    return made


def streamlit_command(port: int, address: str) -> list[str]:
    """The whole command. The address is always given: without it Streamlit asks the internet for its own."""
    options = {"server.port": str(port), "server.address": address, **OPTIONS}
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", str(APP), *flags]


def command_from(arguments: Sequence[str]) -> list[str]:
    """The Streamlit command for our own flags."""
    given = parser().parse_args(arguments)
    return streamlit_command(given.port, given.address)
