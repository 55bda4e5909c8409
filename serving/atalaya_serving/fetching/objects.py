"""Buckets: S3 and what is like it, Google Cloud Storage, Azure Blob Storage, through obstore.

Credentials are the variables that the vendors' own programs read, and those that OpenVINO Model Server reads, so that
one Secret serves whoever reads the store.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore import exceptions

from atalaya_serving.fetching.errors import (
    BadCredentials,
    FileChanged,
    Interrupted,
    ModelFilesRefused,
    ModelPathNotFound,
    StoreUnreachable,
)
from atalaya_serving.fetching.store import StoredFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket
    from obstore.store import RetryConfig

_PART_BYTES, _CHUNK_BYTES = 32 * 1024 * 1024, 1024 * 1024
_RETRIES: "RetryConfig" = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_STATUS = re.compile(r"status code: (\d{3})")
_REFUSED_WORDS = re.compile(
    r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|AuthenticationFailed|AuthorizationFailure|"
    r"InvalidAuthenticationInfo|UserNotFound|invalid_grant|invalid_client"
)
# Where the clouds' machines are asked for an identity, when nothing else was given.
_NO_LOGIN = re.compile(r"169\.254\.|metadata\.google\.internal|/latest/api/token|/computeMetadata/|/metadata/identity")


class ObjectStore:
    """A model's prefix in a bucket."""

    def __init__(self, uri: str, environment: Mapping[str, str]) -> None:
        self.uri = uri
        scheme, _, rest = uri.partition("://")
        with self._told():
            self._bucket, path = _OPENERS[scheme](rest, environment)
        self._prefix = path.strip("/")

    def folders(self) -> Iterator[str]:
        with self._told():
            found = obstore.list_with_delimiter(self._bucket, self._prefix or None)
        for prefix in found["common_prefixes"]:
            yield prefix.rstrip("/").rpartition("/")[2]

    def files(self, version: str) -> Iterator[StoredFile]:
        root = self._path(version)
        with self._told():
            for page in obstore.list(self._bucket, root):
                for one in page:
                    path = one["path"].removeprefix(f"{root}/")
                    if path != root and not _is_folder_marker(path, one["size"]):
                        yield StoredFile(path, one["size"], one["e_tag"] or "")

    def read(self, version: str, file: StoredFile, offset: int) -> Iterator[bytes]:
        """In parts, so that a slow connection makes each request end before its time is over."""
        path = self._path(f"{version}/{file.path}")
        while offset < file.size:
            end = min(offset + _PART_BYTES, file.size)
            options: Any = {"range": (offset, end), **({"if_match": file.tag} if file.tag else {})}
            try:
                with self._told():
                    part = obstore.get(self._bucket, path, options=options)
                    if part.meta["size"] != file.size or (file.tag and part.meta["e_tag"] != file.tag):
                        raise FileChanged
                    for chunk in part.stream(min_chunk_size=_CHUNK_BYTES):
                        offset += len(chunk)
                        yield bytes(chunk)
            except ModelPathNotFound:
                raise FileChanged from None
            except StoreUnreachable as error:
                raise Interrupted(str(error)) from error
            if offset < end:
                raise Interrupted("the connection ended early")

    def _path(self, rest: str) -> str:
        return f"{self._prefix}/{rest}" if self._prefix else rest

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The library's errors as ours."""
        try:
            yield
        except (exceptions.PreconditionError, exceptions.NotModifiedError):
            raise FileChanged from None
        except exceptions.InvalidPathError as error:
            told = f"{self.uri} has an object whose name is no path ({_first_line(error)})"
            raise ModelFilesRefused(f"{told}; remove or rename it.") from error
        except (FileNotFoundError, exceptions.BaseError, ValueError) as error:
            raise _as_ours(self.uri, error) from error


def _as_ours(uri: str, error: Exception) -> Exception:
    told = _first_line(error)
    status = found[1] if (found := _STATUS.search(told)) else ""
    if _NO_LOGIN.search(told):
        step = "put them into a Secret and name it in spec.model.credentialsSecret"
        return BadCredentials(f"{uri} needs credentials, and there are none that can be used; {step}.")
    denied = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    if isinstance(error, denied) or status in ("401", "403") or _REFUSED_WORDS.search(str(error)):
        code = found[1] if (found := re.search(r"<Code>(\w+)</Code>", str(error))) else f"status {status or 'unknown'}"
        step = "correct the Secret that spec.model.credentialsSecret names"
        return BadCredentials(f"{uri} refuses these credentials ({code}); {step}.")
    if status == "404" or isinstance(error, FileNotFoundError):
        return ModelPathNotFound(f"{uri}: there is no such bucket; correct spec.model.uri.")
    return StoreUnreachable(f"{uri} cannot be read ({told}); check the store and its address.")


def _first_line(error: Exception) -> str:
    """Without the library's own rendering of itself, and without what stands in a query, which may be a signature."""
    text = str(error).partition("\n\nDebug source")[0]
    return " ".join(re.sub(r"\?\S+", "", text).split())[:300]


def _is_folder_marker(path: str, size: int) -> bool:
    """What browsers of buckets make for an empty folder: an empty object; its `/` at the end is not told to us."""
    return size == 0 and "." not in path.rpartition("/")[2]


def _s3(rest: str, environment: Mapping[str, str]) -> "tuple[Bucket, str]":
    """`bucket/path`, or as OpenVINO Model Server and Triton have it `host:port/bucket/path`."""
    from obstore.store import S3Store

    place, _, path = rest.partition("/")
    names = ("S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = next((environment[name] for name in names if environment.get(name)), "")
    if ":" in place:
        endpoint = place
        place, _, path = path.partition("/")
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    config: Any = {"region": region, "virtual_hosted_style_request": not endpoint}
    if endpoint:
        config["endpoint"] = (endpoint if "://" in endpoint else f"http://{endpoint}").rstrip("/")
    return S3Store(place, config=config, client_options=_options(config), retry_config=_RETRIES), path


def _gs(rest: str, environment: Mapping[str, str]) -> "tuple[Bucket, str]":
    from obstore.store import GCSStore

    bucket, _, path = rest.partition("/")
    config: Any = {}
    if file := environment.get("GOOGLE_APPLICATION_CREDENTIALS"):
        config["application_credentials"] = file
    if emulator := environment.get("STORAGE_EMULATOR_HOST"):  # the variable of Google's own SDKs
        base = emulator if "://" in emulator else f"http://{emulator}"
        config |= {"base_url": base.rstrip("/"), "skip_signature": True}
    made = GCSStore(bucket, config=config, client_options=_options(config), retry_config=_RETRIES)
    return made, path


def _az(rest: str, environment: Mapping[str, str]) -> "tuple[Bucket, str]":
    from obstore.store import AzureStore

    container, _, path = rest.partition("/")
    config: Any = connection_string(environment.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    made = AzureStore(container, config=config, client_options=_options(config), retry_config=_RETRIES)
    return made, path


def connection_string(text: str) -> dict[str, str]:
    """Azure's `AccountName=…;AccountKey=…;EndpointSuffix=…` as settings; values may have `=` within."""
    given = {key.strip().lower(): value.strip() for key, _, value in (part.partition("=") for part in text.split(";"))}
    names = {"accountname": "account_name", "accountkey": "account_key", "sharedaccesssignature": "sas_key"}
    config = {ours: given[theirs] for theirs, ours in names.items() if given.get(theirs)}
    if endpoint := given.get("blobendpoint"):
        config["endpoint"] = endpoint.rstrip("/")
    elif (suffix := given.get("endpointsuffix")) and "account_name" in config:
        protocol = given.get("defaultendpointsprotocol") or "https"
        config["endpoint"] = f"{protocol}://{config['account_name']}.blob.{suffix}"
    return config


def _options(config: Mapping[str, Any]) -> Any:
    plain = any(str(config.get(key, "")).startswith("http://") for key in ("endpoint", "base_url"))
    return {"timeout": timedelta(seconds=120), "connect_timeout": timedelta(seconds=5), "allow_http": plain}


_OPENERS = {"s3": _s3, "gs": _gs, "az": _az}
