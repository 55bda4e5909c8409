"""What a log's end says: its last line, and what the servers' own words mean.

The words were read in the sources of OpenVINO Model Server 2025-2026 and TensorFlow Serving 2.16-2.20, and in our own
server, whose words its two faces print where the originals have theirs. Words of the stores' SDKs are the same for all.
"""

import json
import re
from collections.abc import Iterator

from atalaya_operator.explain.reasons import (
    BAD_CREDENTIALS,
    DEVICE_UNUSABLE,
    DIGEST_MISMATCH,
    FETCH_FAILED,
    MODEL_FILE_CORRUPT,
    MODEL_FILES_REFUSED,
    MODEL_PATH_NOT_FOUND,
    MODEL_TOO_LARGE,
    NO_SPACE_LEFT,
    STORE_UNREACHABLE,
    STORE_UNREADABLE,
    Reason,
)

LONGEST_LINE = 600
_STORES = (
    (r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|Access Denied|InvalidAccess|Invalid access rights"
     r"|Unable to locate credentials|No credentials|Forbidden|\b40[13]\b.*(?:credential|denied|unauthor)",
     BAD_CREDENTIALS),
    (r"Couldn't resolve host|Could not resolve|curlCode: ?(?:6|7|28)\b|Connection refused|Name or service not known"
     r"|No route to host|Network is unreachable|connect(?:ion)? tim", STORE_UNREACHABLE),
    (r"(?:S3|GCS|AS) (?:Bucket|Container|Share|File or directory) not found|NoSuchBucket|NoSuchKey",
     MODEL_PATH_NOT_FOUND),
)  # fmt: skip
_OURS = (
    (r"is for other model files \(it says", DIGEST_MISMATCH),
    (r"lacks the version asked for|has no integer version folder|holds no (?:model|saved_model\.pb)"
     r"|cannot be read: No such file or directory", MODEL_PATH_NOT_FOUND),
    (r"cannot run on \w+: ", DEVICE_UNUSABLE),
    (r"is not a model that|cannot be read|contradicts the model|breaks its schema|SavedModel", MODEL_FILE_CORRUPT),
)  # fmt: skip
_OPENVINO = (
    (r"base path is invalid or doesn't exist|No version found for model in path|Not a single model version directory"
     r"|File not found or cannot open|path provided .* does not exist|Could not find file for model",
     MODEL_PATH_NOT_FOUND),
    (r"Cannot (?:load network|compile model) into target device", DEVICE_UNUSABLE),
    (r"Error while loading a (?:network|model)|Unable to read the model|Cannot load model|Empty weights data"
     r"|cannot parse|Error parsing|Incorrect weights in bin file|Could not perform shape inference",
     MODEL_FILE_CORRUPT),
)  # fmt: skip
_TENSORFLOW = (
    (r"Could not find base path|No versions of servable|was requested .* not found in the file system"
     r"|Could not find SavedModel", MODEL_PATH_NOT_FOUND),
    (r"cannot be loaded|did not become available|Data loss|DATA_LOSS|Can't parse|Could not find meta graph",
     MODEL_FILE_CORRUPT),
)  # fmt: skip
_WORDS = {
    "openvino": (*_OURS, *_STORES, *_OPENVINO),
    "tensorflow": (*_OURS, *_STORES, *_TENSORFLOW),
    "atalaya": (*_OURS, *_STORES, *_OPENVINO, *_TENSORFLOW),
}
_FETCH_WORD = re.compile(r"^(?:[\w ]+: error: |error: )?(?P<word>[A-Z][A-Za-z]+): (?P<rest>.*)")
FETCHERS_WORDS = {
    one.word: one
    for one in (
        MODEL_PATH_NOT_FOUND,
        MODEL_FILE_CORRUPT,
        DIGEST_MISMATCH,
        BAD_CREDENTIALS,
        STORE_UNREACHABLE,
        STORE_UNREADABLE,
        MODEL_FILES_REFUSED,
        MODEL_TOO_LARGE,
        NO_SPACE_LEFT,
    )
}


def last_line(text: str) -> str:
    """The last line that says something; one that is JSON as its event and its reason."""
    return next(_lines(text), "")


def engines_word(engine: str, text: str) -> tuple[Reason, str] | None:
    """The newest line whose words are known, and what they mean."""
    for line in _lines(text):
        for words, why in _WORDS[engine]:
            if re.search(words, line, re.IGNORECASE):
                return why, line
    return None


def fetchers_word(text: str) -> tuple[Reason, str]:
    """The fetch container ends with a line that begins with the reason.

    It need not be the last of its log: what came from its two outputs may stand there in either order.
    """
    for line in _lines(text):
        found = _FETCH_WORD.match(line)
        why = FETCHERS_WORDS.get(found["word"]) if found else None
        if found and why:
            return why, found["rest"]
    return FETCH_FAILED, last_line(text)


def _lines(text: str) -> Iterator[str]:
    """From the last to the first, each one as people read it."""
    for line in reversed(text.splitlines()):
        told = " ".join(_plain(line.strip()).split())
        if told:
            yield told[:LONGEST_LINE]


def _plain(line: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        told = json.loads(line)
    except ValueError:
        return line
    said = [str(told[key]) for key in ("event", "reason", "exception") if told.get(key)]
    return ": ".join(said) or line
