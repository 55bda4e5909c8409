"""The serving page: latency, rates, errors and queue of every model, live and over the last half hour."""

from collections.abc import Sequence

import streamlit as st

from atalaya_dashboard import markup
from atalaya_dashboard.charts import distribution_chart, latency_chart, queue_chart, rate_chart
from atalaya_dashboard.collector import HISTORY_SECONDS
from atalaya_dashboard.metrics import Lately, ModelKey, Window
from atalaya_dashboard.model_words import duration
from atalaya_dashboard.overview import row, urgency
from atalaya_dashboard.views import live, resources
from atalaya_dashboard.watched import Watched

SPANS = {5: "5 minutes", 15: "15 minutes", int(HISTORY_SECONDS / 60): "30 minutes"}
POINTS = 90
NAMED = 10
APART = 6  # more models than these are a list, and one of them in full
OUTSIDE = (
    "The cluster's pods can be asked from inside it only; set ATALAYA_PROMETHEUS_URL to a Prometheus that asks them."
)


def page() -> None:
    """The whole page; everything below the title refreshes by itself."""
    st.html(markup.STYLE)
    left, right = st.columns([0.75, 0.25], vertical_alignment="bottom")
    left.markdown("## Serving")
    minutes = right.selectbox("History", list(SPANS), format_func=lambda span: SPANS[span], key="history")
    servers(minutes)


@st.fragment(run_every=2.0)
def servers(minutes: int) -> None:
    """Everything that is watched."""
    sources = resources.watched()
    of_the_cluster()
    if not sources and resources.cluster_watch() is None:
        st.info(live.NO_SERVER, icon=":material/cloud_off:")
        st.markdown(
            "To watch a server that runs elsewhere, start these pages with "
            "`ATALAYA_METRICS_URLS=http://HOST:8000/metrics` (several with commas), or with "
            "`ATALAYA_PROMETHEUS_URL=http://HOST:9090` where a Prometheus watches them."
        )
    if sum(len(source.models()) for source in sources) > APART:
        many(sources, minutes)
    else:
        for source in sources:
            server(source, minutes)


def many(sources: Sequence[Watched], minutes: int) -> None:
    """A list of all models, what needs a look first, and one of them in full."""
    for source in [one for one in sources if one.error][:NAMED]:
        failing(source)
    at = {(key, source.name): source for source in sources for key in source.models()}
    found = [(where, now) for where, source in at.items() if (now := source.lately(where[0], live.WINDOW_SECONDS))]
    if not found:
        st.info("waiting for a second reading …")
        return
    ordered = sorted(found, key=lambda one: urgency(one[0][0], one[1]))
    st.caption(f"{len(ordered)} models: those with errors first, then the busiest")
    st.dataframe([row(where[0], now) for where, now in ordered], hide_index=True, width="stretch")
    told = {f"{where[0]}, {where[1]}": (where, now) for where, now in sorted(found, key=lambda one: str(one[0]))}
    picked = st.selectbox("Look at one model", list(told), key="serving-looked-at")
    if picked in told:
        (key, name), now = told[picked]
        model(at[key, name], key, now, minutes)


def failing(source: Watched) -> None:
    """What is wrong with a source."""
    st.error(f"{source.name}: {markup.plain(source.error)}. {source.advice}", icon=":material/error:")


def of_the_cluster() -> None:
    """What of the cluster is not shown here, and why."""
    watch = resources.cluster_watch()
    if watch is None:
        return
    state = watch.state()
    for error in filter(None, (state.error, state.pods_error)):
        st.error(markup.plain(error), icon=":material/cloud_off:")
    if not watch.with_pods:
        if not resources.settings().prometheus_url:
            st.info(OUTSIDE)
        return
    if state.at is None or state.error or state.pods_error:
        return
    answering = {(pod.namespace, pod.model) for pod in state.pods}
    silent = [str(one) for one in state.models if (one.namespace, one.name) not in answering]
    if silent:
        more = f" and {len(silent) - NAMED} more" if len(silent) > NAMED else ""
        st.info(f"No pod answers for {', '.join(silent[:NAMED])}{more}; the page Models says why.")
    elif not state.models:
        st.info("The cluster has no InferenceModel yet; the page Models says how to make one.")
    if left_out := watch.not_asked():
        st.warning(f"{left_out} more pods are not asked. Set ATALAYA_PROMETHEUS_URL: a Prometheus reads them all.")


def server(source: Watched, minutes: int) -> None:
    """One source: what is wrong with it, and each of its models."""
    if source.error:
        failing(source)
    if source.waiting:
        st.info(f"{source.name}: {source.waiting}")
        return
    st.caption(source.about)
    for key in source.models():
        now = source.lately(key, live.WINDOW_SECONDS)
        if now is None:
            st.info(f"{key}: waiting for a second reading …")
        else:
            model(source, key, now, minutes)


def model(source: Watched, key: ModelKey, now: Lately, minutes: int) -> None:
    """One model: the last minute in numbers, and its history, or all there was before."""
    name = f"{source.name}-{key}"
    with st.container(border=True):
        st.markdown(f"#### {key}" if now.window.ready else f"#### {key} :orange-badge[not ready]")
        numbers(now)
        history = source.history(key, minutes * 60, POINTS)
        if any(found.requests for _, found in history):
            charts(history, name)
        else:
            before(source, key, name)


def charts(history: Sequence[tuple[float, Window]], name: str) -> None:
    """The history of one model."""
    left, right = st.columns([0.6, 0.4])
    left.altair_chart(latency_chart(history, height=330), key=f"latency-{name}")
    right.altair_chart(rate_chart(history, height=180), key=f"rate-{name}")
    if any(found.queue_depth is not None for _, found in history):
        right.altair_chart(queue_chart(history, height=135), key=f"queue-{name}")


def before(source: Watched, key: ModelKey, name: str) -> None:
    """Nothing was asked while these pages watched: what the server counted since it started, and how to get history."""
    whole = source.whole(key)
    if whole is None:
        st.caption(f"No request in this time. {how_to_ask()}")
        return
    if not whole.window.requests:
        st.caption(f"No request since the server started. {how_to_ask()}")
        return
    st.markdown(
        f"**{whole.window.requests:,.0f} requests** since the server started, "
        f"{sum(whole.window.errors.values()):,.0f} of them not answered. How long they took:"
    )
    if whole.buckets:
        st.altair_chart(distribution_chart(whole.buckets, height=170), key=f"distribution-{name}")
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
    """The last minute. What the server does not tell is named, not shown as nothing."""
    now = latest.window
    shown = {
        "p50": markup.milliseconds(now.p50),
        "p95": markup.milliseconds(now.p95),
        "p99": markup.milliseconds(now.p99),
        "requests/s": f"{now.requests_per_second:,.1f}",
        "images/s": None if now.images_per_second is None else f"{now.images_per_second:,.1f}",
        "errors/s": f"{now.errors_per_second:,.1f}",
        "in queue": None if now.queue_depth is None else f"{now.queue_depth:,.0f}",
        "in flight": None if now.in_flight is None else f"{now.in_flight:,.0f}",
    }
    for column, (name, value) in zip(st.columns(len(shown)), shown.items(), strict=True):
        column.metric(name, markup.UNTOLD if value is None else value)
    if untold := [name for name, value in shown.items() if value is None]:
        st.caption(f"Not told by {now.server}: {', '.join(untold)}.")
    if latest.idle and not latest.never_asked:
        st.caption(live.IDLE)
    elif now.errors:
        told = ", ".join(f"{code} {count:,.0f}" for code, count in sorted(now.errors.items()))
        st.warning(f"Not answered in the last {duration(now.seconds)}: {told}", icon=":material/warning:")


if __name__ == "__main__":
    page()
