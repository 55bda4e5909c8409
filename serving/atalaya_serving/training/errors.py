"""What can go wrong between tiles and a served model.

AtalayaError
├── InvalidTiles        labelled tiles cannot be read or cannot be learnt from: exit code 2
├── InvalidRun          a training run's folder is missing, unfinished, or made by another plan: exit code 2
├── UnreadableModel     a model file cannot be evaluated: exit code 2
└── OutputExists        the output is there already and --overwrite was not given: exit code 2
"""

from atalaya_spec.errors import UsageError


class InvalidTiles(UsageError):
    """Labelled tiles that cannot be read, or from which nothing can be learnt."""


class InvalidRun(UsageError):
    """A training run that cannot be resumed or exported."""


class UnreadableModel(UsageError):
    """A model that cannot be loaded, or that does not map uint8 tiles to one probability."""


class OutputExists(UsageError):
    """The output is there already."""
