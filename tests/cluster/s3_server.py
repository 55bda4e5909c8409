"""A real S3 server over a folder (VersityGW), by itself or inside a cluster's network, and what puts models into it."""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.store import S3Store

from cluster.access import Cluster
from cluster.binaries import binaries
from cluster.errors import ClusterFault
from cluster.layout import NODE_ADDRESS

ACCESS_KEY, SECRET_KEY, REGION = "test-access", "test-secret", "us-east-1"
BUCKET = "models"
S3_PORT = 7070
_START_SECONDS = 60


@dataclass(frozen=True)
class S3Server:
    """One running server. `inner` is its address for those inside, where that is another."""

    endpoint: str
    folder: Path
    inner: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What a Secret holds."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "S3_ENDPOINT": self.inner or self.endpoint,
        }

    def put(self, prefix: str, files: Mapping[str, bytes]) -> None:
        """Upload files, in their order."""
        for path, content in files.items():
            obstore.put(self._bucket(), f"{prefix}/{path}", content)

    def remove(self, prefix: str) -> None:
        """Delete all objects below a prefix."""
        bucket = self._bucket()
        paths = [one["path"] for page in obstore.list(bucket, prefix) for one in page]
        obstore.delete(bucket, paths)

    def _bucket(self) -> S3Store:
        return S3Store(
            BUCKET,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
        )


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server for one test, on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = int(listening.getsockname()[1])
    log = folder / "versitygw.log"
    with log.open("wb") as out, subprocess.Popen(_command(folder, f"127.0.0.1:{port}"), stdout=out, stderr=out) as one:
        try:
            _wait(f"http://127.0.0.1:{port}", log)
            yield S3Server(f"http://127.0.0.1:{port}", folder / "buckets" / BUCKET)
        finally:
            one.terminate()


@contextmanager
def s3_server_inside(cluster: Cluster, folder: Path) -> Iterator[S3Server]:
    """A server on the node's address, for pods; the test reaches it through a forwarded port."""
    inside = f"{NODE_ADDRESS}:{S3_PORT}"
    cluster.spawn("versitygw", _command(folder, inside))
    try:
        endpoint = f"http://127.0.0.1:{cluster.forward(NODE_ADDRESS, S3_PORT)}"
        _wait(endpoint, cluster.processes.log("versitygw"))
        yield S3Server(endpoint, folder / "buckets" / BUCKET, f"http://{inside}")
    finally:
        cluster.processes.stop("versitygw")


def _command(folder: Path, address: str) -> list[str]:
    (folder / "buckets" / BUCKET).mkdir(parents=True)
    program = str(binaries().path("versitygw"))
    login = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--region", REGION]
    return [program, "--port", address, *login, "posix", str(folder / "buckets")]


def _wait(endpoint: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(endpoint, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it answers, and refuses who does not sign
        except OSError as error:
            if time.monotonic() > deadline:
                raise ClusterFault(f"VersityGW does not answer: {error}; see {log}") from error
            time.sleep(0.05)
