"""How things are called: Kubernetes names, images, versions, devices, and where a model lies."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from atalaya_spec.problems import Refused, did_you_mean
from atalaya_spec.server_versions import DEVICES, NVIDIA_MIG_PREFIX
from atalaya_spec.units import type_name

# A revision's objects are `<model>-<ten hex digits>`, and their names are labels, which end at 63 characters.
DIGEST_SUFFIX_LENGTH = 11
MAX_NAME_LENGTH = 63 - DIGEST_SUFFIX_LENGTH
MAX_URI_LENGTH = 1024
MAX_IMAGE_LENGTH = 512
MAX_QUERY_LENGTH = 1024

# What the names of a model's own objects end with; another model of such a name would be taken for one of them.
RESERVED_ENDING = "-(headless|[0-9a-f]{10})"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_IMAGE = re.compile(
    r"[a-z0-9]([-._a-z0-9]*[a-z0-9])?(:\d+)?(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][-.A-Za-z0-9_]{0,127})?(@sha256:[a-f0-9]{64})?",
    re.ASCII,
)
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}(\.\d{1,4})?", re.ASCII)
_MIG = re.compile(r"nvidia\.com/mig-\d{1,2}g\.\d{1,4}gb(\.me)?(\.shared)?", re.ASCII)

REMOTE_SCHEMES = ("s3", "gs", "az", "https", "pvc", "oci")
SCHEMES_WITHOUT_SECRET = ("", "file", "pvc")
_SCHEME_ALIASES = {"azure": "az", "azfs": "az", "gcs": "gs", "s3a": "s3", "http": "https", "docker": "oci"}


@dataclass(frozen=True)
class ModelUri:
    """Where a model's folder of versions lies. `scheme` is empty for a plain path."""

    text: str
    scheme: str
    path: str

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine, which only `atalaya up` can serve."""
        return self.scheme in ("", "file")

    def __str__(self) -> str:
        return self.text


def read_model_name(value: object) -> str:
    """A name that its Service and every revision's objects can carry: RFC 1123, and a letter first (RFC 1035)."""
    name = _read_label(value, MAX_NAME_LENGTH, "each revision adds a digest to it")
    if name[0].isdigit():
        raise Refused(f"{name!r} starts with a digit, which the name of a Service may not", f"write 'm{name}'")
    if re.search(f"{RESERVED_ENDING}$", name, re.ASCII):
        ending = name.rpartition("-")[2]
        raise Refused(f"{name!r} ends as an object of a model {name.removesuffix(f'-{ending}')!r} does",
                      "choose another name")  # fmt: skip
    return name


def read_namespace(value: object) -> str:
    """The name of a namespace."""
    return _read_label(value, 63, "that is the longest a label may be")


def _read_label(value: object, longest: int, why: str) -> str:
    name = _text(value)
    if not _LABEL.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        step = f"write {better!r}" if better else "write lower-case letters, digits and '-'"
        raise Refused(f"{name!r} is not a name: only lower-case letters, digits and '-' within", step)
    if len(name) > longest:
        raise Refused(f"the name has {len(name)} characters", f"use at most {longest}, because {why}")
    return name


def read_secret_name(value: object) -> str:
    """The name of a Secret in the model's namespace."""
    name = _text(value)
    if not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        raise Refused(f"{name!r} is not the name of a Secret", "write its lower-case name, without its namespace")
    return name


def read_image(value: object) -> str:
    """A container image: `registry/name:tag` or with a digest."""
    image = _text(value)
    if not _IMAGE.fullmatch(image) or len(image) > MAX_IMAGE_LENGTH:
        raise Refused(f"{image!r} is not a container image", "write it as registry/name:tag, in lower case")
    return image


def read_version(value: object) -> str:
    """A server's version. YAML reads 2026.10 without quotes as the number 2026.1: so it must be a text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Refused(f"{value} is read as a number, which loses digits", f"write it in quotes, as '{value}'")
    version = _text(value)
    if not _VERSION.fullmatch(version):
        raise Refused(f"{version!r} is not a version", "write it as '2026.3' or '2.20.0'; for any other tag set image")
    return version


def read_device(value: object) -> str:
    """A device class: `cpu`, or the resource name under which a device plugin offers an accelerator."""
    device = _text(value)
    if device in DEVICES or _MIG.fullmatch(device):
        return device
    listed = f"write one of {', '.join(DEVICES)}, or a slice such as {NVIDIA_MIG_PREFIX}1g.5gb"
    nicknames = {"gpu": "gpu.intel.com/xe' or 'nvidia.com/gpu", "npu": "npu.intel.com/accel", "intel": DEVICES[1]}
    nicknames |= {"nvidia": "nvidia.com/gpu", "cuda": "nvidia.com/gpu", "xe": DEVICES[1], "i915": DEVICES[2]}
    nickname = nicknames.get(device.lower())
    step = f"did you mean '{nickname}'?" if nickname else did_you_mean(device, DEVICES) or listed
    raise Refused(f"there is no device {device!r}", step)


def read_query(value: object) -> str:
    """A PromQL query; whether Prometheus understands it, only Prometheus can tell."""
    query = _text(value)
    if not query.strip() or len(query) > MAX_QUERY_LENGTH:
        step = f"write PromQL of at most {MAX_QUERY_LENGTH} characters, such as sum(jobs_waiting)"
        raise Refused(f"{query[:20]!r} is no query", step)
    return query


def read_uri(value: object) -> ModelUri:
    """Where the model lies: `s3://bucket/prefix`, `pvc://claim/folder`, …, `file://` or a plain path."""
    text = _text(value)
    if not text.strip() or any(character.isspace() and character != " " for character in text):
        raise Refused(f"{text!r} is not a location", "write where the model's folder of versions lies")
    if len(text) > MAX_URI_LENGTH:
        raise Refused(f"the location has {len(text)} characters", f"use at most {MAX_URI_LENGTH}")
    if "://" not in text:
        return ModelUri(text, "", text)
    scheme = text.partition("://")[0]
    if scheme == "file":
        return _file_uri(text)
    if scheme not in REMOTE_SCHEMES:
        better = _SCHEME_ALIASES.get(scheme.lower())
        suggestion = f"did you mean '{better}://'?" if better else did_you_mean(scheme, (*REMOTE_SCHEMES, "file"))
        listed = f"write one of {', '.join(f'{known}://' for known in (*REMOTE_SCHEMES, 'file'))}"
        raise Refused(f"{scheme}:// is not a scheme that is known here", suggestion or listed)
    return _remote_uri(text, scheme)


def _file_uri(text: str) -> ModelUri:
    path = text.removeprefix("file://")
    if not path.startswith("/"):
        raise Refused(f"{text!r} has no absolute path", "write file:///folder, or a plain relative path")
    return ModelUri(text, "file", path)


def _remote_uri(text: str, scheme: str) -> ModelUri:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Refused(f"{text!r} is not a URI: {error}", f"write {scheme}://place/folder") from None
    place = {"s3": "bucket", "gs": "bucket", "az": "container", "pvc": "claim", "oci": "registry"}.get(scheme, "host")
    if not host:
        raise Refused(f"{text!r} names no {place}", f"write {scheme}://{place}/folder")
    if scheme == "pvc" and not _SUBDOMAIN.fullmatch(parts.netloc):
        raise Refused(f"{parts.netloc!r} is not the name of a claim", "write pvc://claim/folder, in lower case")
    if "@" in parts.netloc:
        raise Refused("the URI carries a user or password", "put them into a Secret and name it in credentialsSecret")
    if parts.query or parts.fragment:
        raise Refused("the URI has a query or a fragment", "leave out what follows '?' or '#'")
    if ".." in parts.path.split("/"):
        raise Refused(f"{text!r} climbs out of its folder", "write the folder itself, without '..'")
    if scheme in ("https", "oci") and not parts.path.strip("/"):
        raise Refused(f"{text!r} names no folder", f"write {scheme}://{place}/folder")
    return ModelUri(text, scheme, parts.netloc + parts.path)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused(f"{value!r} is {type_name(value)}, not a text", "write it in quotes")
    return value
