"""What can go wrong in the dashboard, each in one line that a person can act on.

AtalayaError
├── DashboardError          exit code 1
│   ├── ClusterUnreadable   the cluster's API server does not tell its models
│   ├── MetricsUnreadable   an address answers, but not with metrics of a model server
│   ├── PixelsUnavailable   the store does not know where a tile's scene lies
│   ├── PrometheusUnreadable  the Prometheus that was named does not answer our queries
│   └── UploadRejected      an uploaded file is empty or is no TIFF
└── UsageError              (shared) a flag or an environment variable is wrong: exit code 2
"""

from atalaya_spec.errors import AtalayaError


class DashboardError(AtalayaError):
    """The dashboard cannot show or do what was asked."""


class ClusterUnreadable(DashboardError):
    """The cluster's API server does not answer, or not us; it may the next time."""


class MetricsUnreadable(DashboardError):
    """An address answers, but what it says is not a Prometheus exposition."""


class PixelsUnavailable(DashboardError):
    """A tile's pixels cannot be read; the answers about it stay."""


class PrometheusUnreadable(DashboardError):
    """Prometheus does not answer, or refuses a query; it may answer the next."""


class UploadRejected(DashboardError):
    """The uploaded file cannot be a scene; the same file will be rejected again."""
