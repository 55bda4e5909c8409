"""Whose an object is, and whether the cluster already has what we would apply: what keeps a quiet cluster quiet.

Server-side apply keeps, in `managedFields`, which fields each manager has set. Whoever changes a field of ours takes it
over there. So an object needs no call when our entry has exactly the fields that are wanted, with these values: a field
that another changed, one that we want no longer and one whose value is new all show, and fields of others never do.
"""

import json
from collections.abc import Mapping
from typing import Any

from atalaya_operator.names import FIELD_MANAGER
from atalaya_operator.revision import Manifest
from atalaya_spec.problems import Refused
from atalaya_spec.units import read_cpu, read_memory

Fields = Mapping[str, Any]
_IDENTITY = ("apiVersion", "kind")
_IDENTITY_METADATA = ("name", "namespace", "uid")


def is_applied(wanted: Manifest, live: Manifest, subresource: str = "") -> bool:
    """Whether applying `wanted` would change nothing."""
    fields = our_fields(live, subresource)
    return fields is not None and _matches(_without_identity(wanted), live, fields)


def our_fields(live: Manifest, subresource: str = "") -> Fields | None:
    """What we have applied, as `fieldsV1` says it; None when we never did."""
    for entry in live["metadata"].get("managedFields") or ():
        is_ours = entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
        if is_ours and entry.get("subresource", "") == subresource:
            fields: Fields = entry.get("fieldsV1") or {}
            return fields
    return None


def owns(live: Manifest, *path: str) -> bool:
    """Whether we have applied the field at a path of keys."""
    fields: Any = our_fields(live) or {}
    for key in path:
        fields = fields.get(f"f:{key}")
        if fields is None:
            return False
    return True


def controller_uid(live: Manifest) -> str:
    """The uid of what an object belongs to; empty when it belongs to nobody."""
    for owner in live["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner.get("uid", ""))
    return ""


def is_leaving(live: Manifest) -> bool:
    """Whether it was deleted and is still there for a while."""
    return bool(live["metadata"].get("deletionTimestamp"))


def _without_identity(wanted: Manifest) -> Manifest:
    rest = {key: value for key, value in wanted.items() if key not in (*_IDENTITY, "metadata")}
    metadata = {key: value for key, value in wanted["metadata"].items() if key not in _IDENTITY_METADATA}
    return rest | ({"metadata": metadata} if metadata else {})


def _matches(wanted: Any, live: Any, fields: Fields) -> bool:
    inner = {key: value for key, value in fields.items() if key != "."}
    if not inner:
        return _is_part(wanted, live)
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        if {f"f:{key}" for key in wanted} != set(inner):
            return False
        return all(key in live and _matches(value, live[key], inner[f"f:{key}"]) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(inner):
        return all(_item_matches(key, wanted, live, inner[key]) for key in inner)
    return False


def _item_matches(key: str, wanted: list[Any], live: list[Any], fields: Fields) -> bool:
    """One item of a list that has keys (`k:{"name":"a"}`) or is a set (`v:"a"`)."""
    told = json.loads(key[2:])
    if key.startswith("v:"):
        return told in wanted and told in live
    ours, theirs = _item(wanted, told), _item(live, told)
    return ours is not None and theirs is not None and _matches(ours, theirs, fields)


def _item(items: list[Any], keys: Mapping[str, Any]) -> Any:
    return next((one for one in items if all(one.get(key) == value for key, value in keys.items())), None)


def _is_part(wanted: Any, live: Any) -> bool:
    """Whether `live` says what is wanted, whatever the API server filled in beside it."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(key in live and _is_part(wanted[key], live[key]) for key in wanted)
    if isinstance(wanted, list):
        same = isinstance(live, list) and len(wanted) == len(live)
        return same and all(_is_part(ours, theirs) for ours, theirs in zip(wanted, live, strict=True))
    return bool(wanted == live) or _is_same_amount(wanted, live)


def _is_same_amount(wanted: object, live: object) -> bool:
    """The API server writes amounts in its own way: `0.5` as `500m`."""
    for read in (read_cpu, read_memory):
        try:
            return isinstance(wanted, str) and isinstance(live, str) and read(wanted).value == read(live).value
        except Refused:
            continue
    return False
