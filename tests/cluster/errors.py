"""What the test cluster says when it cannot do its work: one kind of error, whose message tells the next step."""

import os


class ClusterFault(Exception):
    """The thing, the fact, the next step, in one line; never retried."""


def is_continuous_integration() -> bool:
    """Whether a missing prerequisite fails the run (CI skips nothing) or only skips it."""
    return os.environ.get("CI") == "true"
