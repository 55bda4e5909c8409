"""The serving page's charts. Pure: history in, figure out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from atalaya_dashboard.metrics import Window


def latency_chart(history: Sequence[tuple[float, Window]], height: int = 200) -> alt.Chart:
    """p50, p95 and p99 in milliseconds over time; gaps where nothing was asked."""
    rows = [
        {"time": at, "quantile": name, "ms": value * 1000}
        for at, found in history
        for name, value in (("p50", found.p50), ("p95", found.p95), ("p99", found.p99))
    ]
    chart: alt.Chart = (
        alt.Chart(_frame(rows, ("time", "quantile", "ms")), height=height)
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=14))
        .encode(
            x=_time_axis(),
            y=alt.Y("ms:Q", title="milliseconds (log)", scale=alt.Scale(type="log", nice=True)),
            color=alt.Color(
                "quantile:N",
                title=None,
                scale=alt.Scale(domain=["p50", "p95", "p99"], range=["#7aa6c2", "#2c718e", "#440154"]),
                legend=alt.Legend(orient="top", direction="horizontal", offset=2),
            ),
            tooltip=[alt.Tooltip("time:T", format="%H:%M:%S"), "quantile:N", alt.Tooltip("ms:Q", format=".2f")],
        )
    )
    return chart


def distribution_chart(buckets: Mapping[float, float], height: int = 180) -> alt.Chart:
    """How many requests took how long: cumulative `buckets` (upper bound in seconds -> count) as bars."""
    bounds = sorted(buckets)
    rows, below, started = [], 0.0, False
    for lower, bound in zip((0.0, *bounds), bounds, strict=False):
        count, below = buckets[bound] - below, buckets[bound]
        started = started or count > 0
        if started:
            rows.append({"latency": bucket_words(lower, bound), "requests": count})
    while rows and not rows[-1]["requests"]:
        rows.pop()
    chart: alt.Chart = (
        alt.Chart(pd.DataFrame(rows, columns=["latency", "requests"]), height=height)
        .mark_bar(color="#2c718e")
        .encode(
            x=alt.X("latency:N", title=None, sort=None, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("requests:Q", title="requests", axis=_NUMBERS),
            tooltip=["latency:N", alt.Tooltip("requests:Q", format=",")],
        )
    )
    return chart


def bucket_words(lower: float, bound: float) -> str:
    """A bucket of latencies in milliseconds."""
    return f"over {lower * 1000:g} ms" if math.isinf(bound) else f"{lower * 1000:g}–{bound * 1000:g} ms"


def rate_chart(history: Sequence[tuple[float, Window]], height: int = 140) -> alt.Chart:
    """Requests answered and requests failed, per second, over time."""
    rows = [
        {"time": at, "kind": kind, "per second": value}
        for at, found in history
        for kind, value in (
            ("answered", found.requests_per_second - found.errors_per_second),
            ("failed", found.errors_per_second),
        )
    ]
    chart: alt.Chart = (
        alt.Chart(_frame(rows, ("time", "kind", "per second")), height=height)
        .mark_area(interpolate="step-after", opacity=0.85)
        .encode(
            x=_time_axis(),
            y=alt.Y("per second:Q", title="requests/s", stack=True, axis=_NUMBERS),
            color=alt.Color(
                "kind:N",
                title=None,
                scale=alt.Scale(domain=["answered", "failed"], range=["#7aa6c2", "#d35400"]),
                legend=alt.Legend(orient="top", direction="horizontal", offset=2),
            ),
            tooltip=[alt.Tooltip("time:T", format="%H:%M:%S"), "kind:N", alt.Tooltip("per second:Q", format=".1f")],
        )
    )
    return chart


def queue_chart(history: Sequence[tuple[float, Window]], height: int = 140) -> alt.Chart:
    """Requests waiting for a free inference, over time."""
    rows = [{"time": at, "waiting": found.queue_depth} for at, found in history if found.queue_depth is not None]
    peak = max([1.0, *(row["waiting"] for row in rows)])
    chart: alt.Chart = (
        alt.Chart(_frame(rows, ("time", "waiting")), height=height)
        .mark_area(interpolate="step-after", color="#2c718e", opacity=0.7)
        .encode(
            x=_time_axis(),
            y=alt.Y("waiting:Q", title="waiting", scale=alt.Scale(domain=[0, peak]), axis=_NUMBERS),
            tooltip=[alt.Tooltip("time:T", format="%H:%M:%S"), "waiting:Q"],
        )
    )
    return chart


_NUMBERS = alt.Axis(format=",~f", tickCount=4)


def _time_axis() -> alt.X:
    return alt.X("time:T", title=None, axis=alt.Axis(format="%H:%M:%S", labelOverlap=True, tickCount=6))


def _frame(rows: Sequence[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(columns))
    frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True)
    return frame
