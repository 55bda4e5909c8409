"""A cluster for those who follow a kind by a list and a watch: it answers what a test has put in."""

import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from atalaya_operator.kinds import Kind

Manifest = dict[str, Any]
SECONDS = 5.0


class Followed:
    """A cluster whose lists are given, and whose watches say what the test puts into `said`."""

    def __init__(self, *lists: list[list[Manifest]] | Exception | threading.Event) -> None:
        """Each is pages; a list without a page is of a kind that is not served. An event among them is waited for."""
        self.lists = iter(lists)
        self.said: queue.Queue[Manifest | Exception | None] = queue.Queue()
        self.asked: set[tuple[Kind, tuple[tuple[str, str], ...]]] = set()
        self.versions: list[str] = []
        self.listed = 0

    def pages(self, kind: Kind, selection: Mapping[str, str]) -> Iterator[Manifest]:
        self.asked.add((kind, tuple(selection.items())))
        self.listed += 1
        told = next(self.lists)
        if isinstance(told, threading.Event):
            assert told.wait(SECONDS)
            told = next(self.lists)
        if isinstance(told, Exception):
            raise told
        assert isinstance(told, list)
        for page in told:
            yield {"metadata": {"resourceVersion": str(100 * self.listed)}, "items": page}

    def changes(self, kind: Kind, selection: Mapping[str, str], version: str) -> Iterator[Manifest]:
        self.asked.add((kind, tuple(selection.items())))
        self.versions.append(version)
        while (told := self.said.get(timeout=SECONDS)) is not None:
            if isinstance(told, Exception):
                raise told
            yield told
