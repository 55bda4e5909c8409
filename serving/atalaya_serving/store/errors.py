"""What can go wrong with the store.

AtalayaError
└── StoreError               the store refused or failed; the message says at which address, never its password
    ├── StoreUnavailable     cannot be opened or reached; trying again may help
    ├── StoreFull            no room for more rows; what was committed is safe
    ├── SceneUnknown         no scene of that digest
    └── AssessmentUnknown    no assessment of that id
"""

from atalaya_spec.errors import AtalayaError


class StoreError(AtalayaError):
    """The store refused or failed."""


class StoreUnavailable(StoreError):
    """The store cannot be opened or reached."""


class StoreFull(StoreError):
    """The store has no room left; the rows committed before are safe."""


class SceneUnknown(StoreError):
    """No scene of that digest is in the store."""


class AssessmentUnknown(StoreError):
    """No assessment of that id is in the store."""
