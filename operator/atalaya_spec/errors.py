"""The root of every error that a user may see. A message names the object, the fact and the next step.

AtalayaError                 failed: exit code 1
├── UsageError               the request itself is wrong: exit code 2
├── InvalidManifest          a model manifest breaks its schema or contradicts its model
└── (each package adds its own below AtalayaError, in its own errors.py)
"""


class AtalayaError(Exception):
    """What a person can understand and act on: printed in one line, and the exit code is `exit_code`."""

    exit_code = 1


class UsageError(AtalayaError):
    """The request contradicts itself or asks for what does not exist; trying again unchanged cannot help."""

    exit_code = 2


class InvalidManifest(AtalayaError):
    """A model manifest cannot be used: it breaks its schema, or contradicts the model beside it."""
