"""Many models in few lines: who fails and who is busy first. Pure."""

from atalaya_dashboard import markup
from atalaya_dashboard.metrics import Lately, ModelKey


def urgency(key: ModelKey, latest: Lately) -> tuple[float, bool, float, str]:
    """Sorts those with errors first, then those that are not ready, then the busiest."""
    now = latest.window
    return -now.errors_per_second, now.ready, -now.requests_per_second, str(key)


def row(key: ModelKey, latest: Lately) -> dict[str, str]:
    """A model in the list."""
    now = latest.window
    return {
        "Model": str(key),
        "Ready": "✓ yes" if now.ready else "✗ no",
        "p50": markup.milliseconds(now.p50),
        "p95": markup.milliseconds(now.p95),
        "p99": markup.milliseconds(now.p99),
        "requests/s": f"{now.requests_per_second:,.1f}",
        "errors/s": f"{now.errors_per_second:,.1f}",
        "in queue": markup.UNTOLD if now.queue_depth is None else f"{now.queue_depth:,.0f}",
        "Served by": now.server,
    }
