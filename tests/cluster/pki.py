"""The cluster's certificates and kubeconfigs, from an authority of its own that lives as long as the cluster.

openssl makes them: it is on every machine, and the keys never leave the run's folder.
"""

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_OPENSSL_CONFIG = "[req]\ndistinguished_name = subject\n[subject]\n"
_DAYS = "30"


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """A self-signed authority in a folder; one for the cluster, one for the aggregation layer's front proxy."""

    folder: Path
    name: str

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.crt"

    @property
    def key(self) -> Path:
        return self.folder / f"{self.name}.key"

    def create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / "openssl.cnf").write_text(_OPENSSL_CONFIG)
        extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
        self._request(self.name, f"/CN={self.name}", extensions, [])

    def issue(self, name: str, subject: str, alternative_names: Sequence[str] = ()) -> Certificate:
        """A certificate for servers and clients alike; `subject` like `/O=system:nodes/CN=system:node:a`."""
        extensions = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth,clientAuth",
        ]
        if alternative_names:
            extensions.append("subjectAltName=" + ",".join(alternative_names))
        return self._request(name, subject, extensions, ["-CA", str(self.certificate), "-CAkey", str(self.key)])

    def _request(self, name: str, subject: str, extensions: list[str], signer: list[str]) -> Certificate:
        made = Certificate(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        command = ["openssl", "req", "-x509", "-config", str(self.folder / "openssl.cnf"), "-nodes", "-days", _DAYS]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", subject]
        command += ["-keyout", str(made.key), "-out", str(made.certificate), *signer]
        for extension in extensions:
            command += ["-addext", extension]
        subprocess.run(command, check=True, capture_output=True)
        return made


def signing_key(path: Path) -> None:
    """The key that signs service account tokens, in the one form that the API server reads a public key from, too."""
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)


def write_kubeconfig(path: Path, server: str, authority: Path, client: Certificate) -> None:
    """One file with all in it, so that it can be copied anywhere. JSON is YAML."""

    def inline(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "atalaya",
        "clusters": [
            {"name": "atalaya", "cluster": {"server": server, "certificate-authority-data": inline(authority)}}
        ],
        "users": [
            {
                "name": "user",
                "user": {
                    "client-certificate-data": inline(client.certificate),
                    "client-key-data": inline(client.key),
                },
            }
        ],
        "contexts": [{"name": "atalaya", "context": {"cluster": "atalaya", "user": "user"}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1))
