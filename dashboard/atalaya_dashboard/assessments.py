"""Words by which a person tells assessments apart, and their order in the lists. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

from atalaya_dashboard.data import is_synthetic
from atalaya_serving.store import Assessment


def by_scene(found: Sequence[Assessment]) -> dict[str, list[Assessment]]:
    """Assessments by the digest of their scene, in the order given."""
    scenes: dict[str, list[Assessment]] = {}
    for assessment in found:
        scenes.setdefault(assessment.scene_digest, []).append(assessment)
    return scenes


def scene_labels(scenes: Mapping[str, Sequence[Assessment]]) -> dict[str, str]:
    """By digest, the scene's name, said to be synthetic where it is; equal names get a part of their digest."""
    names = {digest: _scene_name(each[0]) for digest, each in scenes.items()}
    often = Counter(names.values())
    return {
        digest: name + (f" ({digest.removeprefix('sha256:')[:6]})" if often[name] > 1 else "")
        for digest, name in names.items()
    }


def _scene_name(assessment: Assessment) -> str:
    mark = "synthetic: " if is_synthetic(assessment) and not assessment.scene_name.startswith("synthetic") else ""
    return mark + assessment.scene_name


def labels(found: Sequence[Assessment]) -> dict[str, str]:
    """By id, words that no two assessments of a scene share: Streamlit tells choices apart by what they show."""
    words = {assessment.id: label(assessment) for assessment in found}
    often = Counter(words.values())
    return {key: text + (f" ({key[:6]})" if often[text] > 1 else "") for key, text in words.items()}


def label(assessment: Assessment) -> str:
    """Model, version, when, how many tiles, and what was asked for."""
    state = "" if assessment.state == "complete" else f" ({assessment.state})"
    parts = [
        f"{assessment.model} v{assessment.version}{state}",
        f"{assessment.created_at:%d %b %H:%M}",
        f"{assessment.tiles_done:,} tiles",
        *options_of(assessment),
    ]
    return " · ".join(parts)


def options_of(assessment: Assessment) -> list[str]:
    """The choices of this assessment that others of its scene may not have made."""
    told = assessment.parameters
    parts = []
    if bands := told.get("bands"):
        parts.append(f"bands {','.join(map(str, bands))}")
    if scale := told.get("scale"):
        parts.append(f"values {scale[0]:g} to {scale[1]:g}")
    if told.get("area"):
        parts.append("only an area")
    if told.get("mask"):
        parts.append("masked")
    return parts
