"""The serving page: latency, rates, errors and queue of every model, live and over the last half hour."""

from collections.abc import Sequence

import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.charts import distribution_chart, latency_chart, queue_chart, rate_chart
from atalaya_dashboard.collector import HISTORY_SECONDS, Source
from atalaya_dashboard.metrics import (
    REQUEST_SECONDS,
    Lately,
    ModelKey,
    Sample,
    Window,
    lately,
    since_start,
    windows,
)
from atalaya_dashboard.views import live, resources

SPANS = {5: "5 minutes", 15: "15 minutes", int(HISTORY_SECONDS / 60): "30 minutes"}
POINTS = 90


def page() -> None:
    """The whole page; everything below the title refreshes by itself."""
    st.html(markup.STYLE)
    left, right = st.columns([0.75, 0.25], vertical_alignment="bottom")
    left.markdown("## Serving")
    minutes = right.selectbox("History", list(SPANS), format_func=lambda span: SPANS[span], key="history")
    servers(minutes)


@st.fragment(run_every=2.0)
def servers(minutes: int) -> None:
    """Every server that is watched."""
    sources = resources.collector().sources()
    if not sources:
        st.info(live.NO_SERVER, icon=":material/cloud_off:")
        st.markdown(
            "To watch a server that runs elsewhere, start these pages with "
            "`ATALAYA_METRICS_URLS=http://HOST:8000/metrics` (several with commas)."
        )
    for source in sources:
        server(source, minutes)


def server(source: Source, minutes: int) -> None:
    """One server: what is wrong with it, and each of its models."""
    if source.error:
        st.error(
            f"{source.url}: {markup.plain(source.error)}. Is the server running? `atalaya up` starts one; "
            "ATALAYA_METRICS_URLS says where these pages look.",
            icon=":material/error:",
        )
    if not source.samples:
        if not source.error:
            st.info(f"{source.url}: waiting for the first reading …")
        return
    latest = source.samples[-1]
    st.caption(" · ".join([source.url, *(f"{name} {value}" for name, value in sorted(latest.info.items()))]))
    if not latest.models:
        st.info("This server has no model loaded; load one, or start it with `atalaya up -f MODEL.yaml`.")
    since = latest.at - minutes * 60
    samples = [sample for sample in source.samples if sample.at >= since]
    for key in sorted(latest.models):
        now = lately(samples, key, live.WINDOW_SECONDS)
        if now is None:
            st.info(f"{key}: waiting for a second reading …")
        else:
            model(key, now, samples, f"{source.url}-{key}", max(4.0, minutes * 60 / POINTS))


def model(key: ModelKey, now: Lately, samples: Sequence[Sample], name: str, step_seconds: float) -> None:
    """One model: the last minute in numbers, and its history, or all there was before."""
    with st.container(border=True):
        st.markdown(f"#### {key}" if now.window.ready else f"#### {key} :orange-badge[not ready]")
        numbers(now)
        history = windows(samples, key, step_seconds)
        if any(found.requests for _, found in history):
            charts(history, name)
        elif now.never_asked:
            st.caption(f"No request since the server started. {how_to_ask()}")
        else:
            before(samples[-1], key, name)


def charts(history: Sequence[tuple[float, Window]], name: str) -> None:
    """The history of one model."""
    left, right = st.columns([0.6, 0.4])
    left.altair_chart(latency_chart(history, height=330), key=f"latency-{name}")
    right.altair_chart(rate_chart(history, height=180), key=f"rate-{name}")
    right.altair_chart(queue_chart(history, height=135), key=f"queue-{name}")


def before(latest: Sample, key: ModelKey, name: str) -> None:
    """Nothing was asked while these pages watched: what the server counted since it started, and how to get history."""
    whole = since_start(latest, key)
    st.markdown(
        f"**{whole.requests:,.0f} requests** since the server started, {sum(whole.errors.values()):,.0f} of them not "
        "answered. How long they took:"
    )
    buckets = latest.models[key].buckets.get(REQUEST_SECONDS, {})
    st.altair_chart(distribution_chart(buckets, height=170), key=f"distribution-{name}")
    st.caption(f"These pages have seen no request in this time. {how_to_ask()}")


def how_to_ask() -> str:
    """How requests come to a server, in words."""
    endpoint = resources.settings().endpoint
    if not endpoint:
        return "History begins with the next one."
    return (
        "History begins with the next one: on the Assess page choose to compute by the running server, or run "
        f"`atalaya assess SCENE.tif --endpoint {endpoint}`."
    )


def numbers(latest: Lately) -> None:
    """The last minute."""
    now = latest.window
    columns = st.columns(8)
    shown = (
        ("p50", markup.milliseconds(now.p50)),
        ("p95", markup.milliseconds(now.p95)),
        ("p99", markup.milliseconds(now.p99)),
        ("requests/s", f"{now.requests_per_second:,.1f}"),
        ("images/s", f"{now.images_per_second:,.1f}"),
        ("errors/s", f"{now.errors_per_second:,.1f}"),
        ("in queue", f"{now.queue_depth:,.0f}"),
        ("in flight", f"{now.in_flight:,.0f}"),
    )
    for column, (name, value) in zip(columns, shown, strict=True):
        column.metric(name, value)
    if latest.idle and not latest.never_asked:
        st.caption(live.IDLE)
    elif now.errors:
        told = ", ".join(f"{code} {count:,.0f}" for code, count in sorted(now.errors.items()))
        st.warning(f"Not answered in the last minute: {told}", icon=":material/warning:")


if __name__ == "__main__":
    page()
