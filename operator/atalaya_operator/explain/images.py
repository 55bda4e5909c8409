"""Images that cannot be pulled or started, told apart by the words of the node's container runtime."""

import re

from atalaya_operator.explain.case import Case
from atalaya_operator.explain.finding import Finding, finding
from atalaya_operator.explain.pods import Container, Pod
from atalaya_operator.explain.reasons import (
    IMAGE_ARCHITECTURE,
    IMAGE_CANNOT_RUN,
    IMAGE_MISSING_ON_NODE,
    IMAGE_NAME_INVALID,
    IMAGE_NOT_FOUND,
    IMAGE_PULL_DENIED,
    IMAGE_PULL_FAILED,
    REGISTRY_UNREACHABLE,
    Reason,
)

_PULLING = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
            "RegistryUnavailable", "SignatureValidationFailed")  # fmt: skip
_BY_WORDS: tuple[tuple[str, Reason], ...] = (
    (r"no match for platform|no matching manifest|image platform .* does not match", IMAGE_ARCHITECTURE),
    (r"unauthorized|denied|forbidden|authentication|40[13]\b|no basic auth|insufficient_scope", IMAGE_PULL_DENIED),
    (r"not found|manifest unknown|name unknown|404\b", IMAGE_NOT_FOUND),
    (r"dial tcp|no such host|i/o timeout|connection refused|no route|x509|tls:|context deadline|server misbehaving"
     r"|HTTP response to HTTPS|50[0234]\b|EOF", REGISTRY_UNREACHABLE),
)  # fmt: skip
_ARCHITECTURE = re.compile(r"exec format error", re.IGNORECASE)
_CANNOT_RUN = re.compile(
    r"executable file not found|exec: \"|exec .*: no such file or directory|exec .*: permission denied"
    r"|no such file or directory: unknown|permission denied: unknown|no command specified|not a directory: unknown",
    re.IGNORECASE,
)
_STARTING = ("StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError")
_OUR_IMAGE_WORDS = re.compile(r'^(?:Back-off pulling image "[^"]*"(?:: )?)?(?:\w+: )?', re.DOTALL)


def image_not_pulled(one: Pod, case: Case) -> Finding | None:
    """A container that waits for its image."""
    for container in one.containers:
        if container.waits_for in _PULLING:
            why = _why_not_pulled(container)
            said = _runtime_words(container.waits_because)
            message = f"{one.where} has no image {container.image} for its container {container.name}: {said}"
            return finding(why, message, container.image, **case.words(one, container))
    return None


def image_does_not_run(one: Pod, case: Case) -> Finding | None:
    """A container whose program could not be started."""
    for container in one.containers:
        end = container.failure
        words = f"{end.message if end else ''} {container.waits_because}"
        was_started = container.waits_for not in _STARTING and (end is None or end.reason not in _STARTING)
        is_architecture = bool(_ARCHITECTURE.search(words))
        if is_architecture or (not was_started and _CANNOT_RUN.search(words)):
            why = IMAGE_ARCHITECTURE if is_architecture else IMAGE_CANNOT_RUN
            said = " ".join((end.message if end and end.message else container.waits_because).split())
            message = f"{one.where} cannot start its container {container.name} from {container.image}: {said}"
            return finding(why, message, container.image, **case.words(one, container))
    return None


def _why_not_pulled(container: Container) -> Reason:
    if container.waits_for == "InvalidImageName":
        return IMAGE_NAME_INVALID
    if container.waits_for == "ErrImageNeverPull":
        return IMAGE_MISSING_ON_NODE
    for words, why in _BY_WORDS:
        if re.search(words, container.waits_because.replace(container.image, ""), re.IGNORECASE):
            return why
    return REGISTRY_UNREACHABLE if container.waits_for == "RegistryUnavailable" else IMAGE_PULL_FAILED


def _runtime_words(text: str) -> str:
    """The same words while it is tried and while it is waited for the next try."""
    return " ".join(_OUR_IMAGE_WORDS.sub("", text, count=1).split()) or "it is not told why."
