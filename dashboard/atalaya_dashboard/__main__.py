"""`python -m atalaya_dashboard --port 8501 --address 127.0.0.1` serves the pages until it is ended."""

import os
import sys

from atalaya_dashboard.command import command_from


def main() -> None:
    """Become the Streamlit process; this does not return."""
    command = command_from(sys.argv[1:])
    os.execv(command[0], command)  # noqa: S606 - our own interpreter, and no shell


if __name__ == "__main__":
    main()
