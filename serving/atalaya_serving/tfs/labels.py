"""Version labels: names that a config gives to versions, and that move while calls run.

The table is replaced whole, so that a call sees the labels before a move or after it, never between.
"""

from collections.abc import Collection, Mapping

from atalaya_serving.errors import InvalidRequest, PreconditionFailed

Labels = Mapping[str, Mapping[str, int]]


class LabelTable:
    """Model, then label, to version."""

    def __init__(self, labels: Labels | None = None) -> None:
        self._labels: Labels = {model: dict(one) for model, one in (labels or {}).items()}

    def version(self, model: str, label: str) -> int:
        """The version of a label. Raises InvalidRequest."""
        try:
            return self._labels[model][label]
        except KeyError:
            raise InvalidRequest(f"Unrecognized servable version label: {label}") from None

    def replace(self, labels: Labels) -> None:
        """Put other labels in place of all there were."""
        self._labels = {model: dict(one) for model, one in labels.items()}

    def check(self, labels: Labels, available: Mapping[str, Collection[int]], *, allow_new: bool) -> None:
        """Whether every label stands on a version that serves; `allow_new` lets a new label wait for its version.

        Raises PreconditionFailed.
        """
        for model, one in labels.items():
            for label, version in one.items():
                is_moved = self._labels.get(model, {}).get(label, version) != version
                if version not in available.get(model, ()) and (is_moved or not allow_new):
                    raise PreconditionFailed(
                        f"Request to assign label to version {version} of model {model},"
                        " which is not currently available for inference"
                    )
