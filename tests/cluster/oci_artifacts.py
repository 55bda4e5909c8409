"""Versions of a model in a container registry, pushed as `oras push` does it: a layer a file, named by its title."""

import hashlib
import json
from collections.abc import Mapping

import urllib3

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER, _EMPTY = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.empty.v1+json"


class Repository:
    """One repository of a registry that wants no login and speaks plain HTTP."""

    def __init__(self, host: str, name: str) -> None:
        self.host, self.name, self._pool = host, name, urllib3.PoolManager()

    @property
    def uri(self) -> str:
        return f"oci://{self.host}/{self.name}"

    def push(self, tag: str, files: Mapping[str, bytes], **annotations: str) -> None:
        layers = [
            {
                "mediaType": _LAYER,
                "digest": self._blob(content),
                "size": len(content),
                "annotations": {"org.opencontainers.image.title": path, **annotations},
            }
            for path, content in files.items()
        ]
        empty = {"mediaType": _EMPTY, "digest": self._blob(b"{}"), "size": 2}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": layers}
        self._put(f"manifests/{tag}", json.dumps(manifest).encode(), MANIFEST)

    def _blob(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = self._pool.request("POST", f"http://{self.host}/v2/{self.name}/blobs/uploads/")
        place = begun.headers["Location"]
        rest = place.partition(f"/v2/{self.name}/")[2]  # whatever host it takes itself for
        self._put(f"{rest}{'&' if '?' in rest else '?'}digest={digest}", content, "application/octet-stream")
        return digest

    def _put(self, path: str, body: bytes, kind: str) -> None:
        url = f"http://{self.host}/v2/{self.name}/{path}"
        answer = self._pool.request("PUT", url, body=body, headers={"Content-Type": kind})
        assert answer.status == 201, answer.data
