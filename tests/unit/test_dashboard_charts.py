"""The serving page's charts, from data alone."""

import numpy as np

from atalaya_dashboard.charts import distribution_chart, latency_chart, queue_chart, rate_chart
from atalaya_dashboard.metrics import Window


def a_window(p50: float = 0.005) -> Window:
    return Window(10, 100, {"UNAVAILABLE": 5.0}, 10, 40, p50, 0.02, 0.03, 3, 1, True)


def test_charts_hold_the_history() -> None:
    history = [(1000.0, a_window()), (1010.0, a_window(float("nan")))]
    latency = latency_chart(history).data
    assert latency.loc[(latency["quantile"] == "p95"), "ms"].tolist() == [20.0, 20.0]
    assert np.isnan(latency.loc[(latency["quantile"] == "p50"), "ms"].iloc[1])
    rate = rate_chart(history).data
    assert rate.loc[rate["kind"] == "failed", "per second"].tolist() == [0.5, 0.5]
    assert queue_chart(history).data["waiting"].tolist() == [3, 3]
    for chart in (latency_chart(history), rate_chart(history), queue_chart(history)):
        assert chart.to_dict()["mark"]


def test_the_distribution_shows_each_bucket_once_and_no_empty_ends() -> None:
    buckets = {0.001: 0.0, 0.005: 30.0, 0.01: 30.0, 0.05: 36.0, 0.1: 36.0, float("inf"): 36.0}
    found = distribution_chart(buckets).data
    assert found["latency"].tolist() == ["1–5 ms", "5–10 ms", "10–50 ms"]
    assert found["requests"].tolist() == [30, 0, 6]
    beyond = distribution_chart({0.1: 0.0, float("inf"): 2.0}).data
    assert beyond["latency"].tolist() == ["over 100 ms"]
