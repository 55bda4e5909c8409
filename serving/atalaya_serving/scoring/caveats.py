"""What has to be said beside a figure of ours, in one place, so that every command and page says it alike."""

from __future__ import annotations

INTERVAL_CAVEAT = (
    "The interval assumes a scene like those the model was trained on (same sensor, resolution and kind of damage); "
    "on other scenes the error can be larger than it says."
)
