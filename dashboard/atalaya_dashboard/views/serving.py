"""The serving page: latency, rates, errors and queue of every model, live and over the last half hour."""

from collections.abc import Sequence

import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.charts import latency_chart, queue_chart, rate_chart
from atalaya_dashboard.collector import HISTORY_SECONDS, Source
from atalaya_dashboard.metrics import Lately, ModelKey, Window, lately, windows
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
            f"{source.url}: {source.error}. Is the server running? `atalaya up` starts one; "
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
            model(key, now, windows(samples, key, max(4.0, minutes * 60 / POINTS)), source.url)


def model(key: ModelKey, now: Lately, history: Sequence[tuple[float, Window]], url: str) -> None:
    """One model: the last minute in numbers, and its history."""
    with st.container(border=True):
        st.markdown(f"#### {key}" if now.window.ready else f"#### {key} :orange-badge[not ready]")
        numbers(now)
        if not history:
            st.caption("The history begins in a few seconds.")
            return
        if not any(found.requests for _, found in history):
            st.caption("No request in this time; the charts begin with the first.")
            return
        name = f"{url}-{key}"
        left, right = st.columns([0.6, 0.4])
        left.altair_chart(latency_chart(history, height=330), key=f"latency-{name}")
        right.altair_chart(rate_chart(history, height=180), key=f"rate-{name}")
        right.altair_chart(queue_chart(history, height=135), key=f"queue-{name}")


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
    if latest.idle:
        st.caption(live.IDLE)
    elif now.errors:
        told = ", ".join(f"{code} {count:,.0f}" for code, count in sorted(now.errors.items()))
        st.warning(f"Not answered in the last minute: {told}", icon=":material/warning:")


if __name__ == "__main__":
    page()
