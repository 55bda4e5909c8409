"""Fixtures that every kind of test shares."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

# A shell starts background jobs with SIGINT ignored; what the tests start would inherit that, and ctrl-C do nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def haiti_data() -> Path:
    """The folder of real tiles. It lies beside the checkout and is never committed."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "haiti-tiles.npz").is_file():
        message = f"{folder} has no haiti-tiles.npz: lay the shared data folder beside the checkout to run this test"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder
