"""What the dashboard is told by its environment, read once at start into one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atalaya_serving.paths import Paths, shipped_repository


@dataclass(frozen=True)
class Settings:
    """Where the dashboard reads from. `endpoint` is the gRPC host:port of a running server, empty without one."""

    paths: Paths
    model_repository: Path
    endpoint: str
    metrics_urls: tuple[str, ...]
    prometheus_url: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Read the ATALAYA_* variables; docs/dashboard.md lists them."""
        urls = env.get("ATALAYA_METRICS_URLS", "")
        return cls(
            paths=Paths.from_env(env),
            model_repository=Path(env.get("ATALAYA_MODEL_REPO") or shipped_repository()),
            endpoint=env.get("ATALAYA_ENDPOINT", "").strip(),
            metrics_urls=tuple(url.strip() for url in urls.split(",") if url.strip()),
            prometheus_url=env.get("ATALAYA_PROMETHEUS_URL", "").strip(),
        )
