"""Lets `python -m atalaya` be the command, for child processes that must use this very interpreter."""

import sys

from atalaya.cli import main

if __name__ == "__main__":
    sys.exit(main())
