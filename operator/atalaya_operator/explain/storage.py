"""A model that does not come to its server, or is none: told by the fetch container, the server, or the node."""

import re

from atalaya_operator import names
from atalaya_operator.explain.case import Case
from atalaya_operator.explain.containers import words_of
from atalaya_operator.explain.finding import Finding, finding
from atalaya_operator.explain.log_lines import engines_word, fetchers_word
from atalaya_operator.explain.pods import Pod
from atalaya_operator.explain.reasons import (
    CLAIM_NOT_FOUND,
    CLAIM_UNBOUND,
    CREDENTIALS_MISSING,
    MODEL_PATH_NOT_FOUND,
    VOLUME_NOT_MOUNTED,
)

_SECRET_MISSING = re.compile(r"secret \"[^\"]+\" not found|couldn't find key|references non-existent secret key")
_SUBPATH = re.compile(r"subPath", re.IGNORECASE)
_MOUNTING = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
_CLAIM_NOT_FOUND = re.compile(r'persistentvolumeclaim "(?P<name>[^"]+)" (?:not found|is being deleted)')


def model_not_fetched(one: Pod, case: Case) -> Finding | None:
    """The fetch container failed; its last line begins with the reason."""
    fetch = one.container(names.FETCH_CONTAINER)
    if fetch is None or fetch.failure is None:
        return None
    why, said = fetchers_word(words_of(fetch))
    return finding(why, f"{one.where} did not get the model: {said}", case.uri, **case.words(one, fetch))


def model_not_loaded(one: Pod, case: Case) -> Finding | None:
    """The server said why, in its end or, while it runs on without its model, in its log."""
    server = one.container(names.SERVER_CONTAINER)
    if server is None or server.is_started or server.is_ready:
        return None
    said = words_of(server) or case.asked.logs.get((one.name, names.SERVER_CONTAINER), "")
    known = engines_word(case.engine, said)
    if known is None:
        return None
    why, line = known
    return finding(why, f"the server of {one.where} says: {line}", case.uri, **case.words(one, server))


def secret_missing(one: Pod, case: Case) -> Finding | None:
    """The credentials are not there."""
    for container in one.containers:
        if _SECRET_MISSING.search(container.waits_because):
            message = f"container {container.name} of {one.where} is not made: {container.waits_because}"
            return finding(CREDENTIALS_MISSING, message, case.uri, **case.words(one, container))
    return None


def folder_missing(one: Pod, case: Case) -> Finding | None:
    """A claim's folder: the node refuses to mount what is not there."""
    for container in one.containers:
        if container.waits_for == "CreateContainerConfigError" and _SUBPATH.search(container.waits_because):
            message = f"{one.where} finds no such folder in the claim: {container.waits_because}"
            return finding(MODEL_PATH_NOT_FOUND, message, case.uri, **case.words(one, container))
    return None


def volume_not_mounted(one: Pod, case: Case) -> Finding | None:
    """Told by no status, only by a warning; and only while the pod waits for its containers."""
    if not any(container.waits_for in ("ContainerCreating", "PodInitializing") for container in one.containers):
        return None
    if any(container.running_since or container.ended for container in one.containers):
        return None
    for warned in case.asked.warnings.get(one.uid, ()):
        if warned.reason in _MOUNTING:
            why = CREDENTIALS_MISSING if _SECRET_MISSING.search(warned.message) else VOLUME_NOT_MOUNTED
            message = f"{one.where} waits for a volume: {warned.message}"
            return finding(why, message, case.uri, **case.words(one))
    return None


def claim_missing(one: Pod, case: Case) -> Finding | None:
    """The scheduler waits for the claim."""
    if found := _CLAIM_NOT_FOUND.search(one.not_scheduled):
        message = f"pod {one.name} waits for PersistentVolumeClaim {found['name']}, which is not there."
        return finding(CLAIM_NOT_FOUND, message, found["name"], **case.words(one))
    if "unbound immediate PersistentVolumeClaims" in one.not_scheduled:
        message = f"pod {one.name} waits for a PersistentVolumeClaim that has no volume yet."
        return finding(CLAIM_UNBOUND, message, case.uri, **case.words(one))
    return None
