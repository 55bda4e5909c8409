"""What the operator measures of itself, on `/metrics`."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILE_SECONDS = Histogram(
    "atalaya_operator_reconcile_seconds",
    "Time of one look at a model, with all its requests.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 10),
)
RECONCILE_ERRORS = Counter("atalaya_operator_reconcile_errors_total", "Looks that ended early, by cause.", ["cause"])
REQUESTS = Counter("atalaya_operator_requests_total", "Requests to the API server, without watches.", ["verb", "kind"])
QUEUE_LENGTH = Gauge("atalaya_operator_queue_length", "Models that wait to be looked at, now or later.")
ADMISSIONS = Counter("atalaya_operator_admissions_total", "Questions to the webhook, by verdict.", ["verdict"])
