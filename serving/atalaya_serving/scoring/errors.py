"""What can go wrong between a scene and its rows. None of these is worth a retry unchanged, except where it says so.

AtalayaError
├── SceneError                   the scene cannot be assessed
│   ├── SceneUnreadable          missing, not a TIFF, damaged or cut short
│   ├── SceneUnplaced            no coordinate reference system, or no georeference
│   └── SceneUnmappable          its bands or values cannot be brought to what the model takes
├── ScenePixelsUnavailable       the scene's file moved or changed since it was assessed
├── AreaUnreadable               the area or the mask cannot be used
├── OutputUnwritable             no room, no permission, no folder: the rows are safe in the store, so run it again
└── (UsageError)
    ├── OutputExists             there is a file already, and no --overwrite
    └── OutputUnknown            the suffix names no format
"""

from atalaya_spec.errors import AtalayaError, UsageError


class SceneError(AtalayaError):
    """The scene cannot be assessed."""


class SceneUnreadable(SceneError):
    """The file is missing, no TIFF, damaged or cut short."""


class SceneUnplaced(SceneError):
    """Nothing says where on Earth the pixels lie."""


class SceneUnmappable(SceneError):
    """The bands or values cannot be brought to what the model takes."""


class ScenePixelsUnavailable(AtalayaError):
    """The scene's file moved or changed since it was assessed."""


class AreaUnreadable(AtalayaError):
    """An area or a mask cannot be used."""


class OutputUnwritable(AtalayaError):
    """The file of results cannot be written; the rows are safe in the store."""


class OutputExists(UsageError):
    """There is a file of that name already."""


class OutputUnknown(UsageError):
    """The suffix names no format that we write."""
