"""What a status says of the versions that `latest` and `all` mean: which, and whether the store could be asked."""

from collections.abc import Mapping
from typing import Any

from atalaya_operator.names import listing_pod_name
from atalaya_operator.version_lookup import Lookup
from atalaya_spec.inference_model import InferenceModel
from atalaya_spec.inference_model_status import Resolved, ResolvedVersion

VERSIONS_KNOWN = "VersionsKnown"
VERSIONS_LISTED = "VersionsListed"


def doing(model: InferenceModel) -> str:
    """What is told while nothing is known yet."""
    return f"pod {listing_pod_name(model.name)} asks {model.spec.model.uri} which versions there are."


def verdict(known: Lookup | None) -> tuple[bool, str, str] | None:
    """Whether the store could be asked last, the reason and the message; what serves does not hang on it."""
    if known is None or not known.question:
        return None
    if known.failure:
        return False, known.failure.reason, f"{known.failure.fact}; {known.failure.step}."
    if known.versions is None:
        return None
    named = ", ".join(str(one.number) for one in known.versions)
    more = f", the highest; there are {known.more} more" if known.more else ""
    return True, VERSIONS_LISTED, f"the store has {named}{more}."


def resolved(known: Lookup | None, before: Mapping[str, Any]) -> Resolved | None:
    """The versions, to be kept in the status; what is not known better stays as it was told."""
    if known and known.versions:
        versions = tuple(ResolvedVersion(one.number, one.digest or None) for one in known.versions)
        return Resolved(known.question, versions) if known.question else None
    kept = before.get("resolved")
    if not kept:
        return None
    return Resolved(kept["question"], tuple(ResolvedVersion(**one) for one in kept["versions"]))
