"""What can go wrong between a scene and its rows. None of these is worth a retry unchanged, except where it says so.

AtalayaError
├── SceneError                   the scene cannot be assessed
│   ├── SceneUnreadable          missing, not a TIFF, damaged or cut short
│   ├── SceneUnplaced            no coordinate reference system, or no georeference
│   ├── SceneUnfit               its pixels are too large or too small for the model, or it has too many tiles
│   └── SceneUnmappable          its bands or values cannot be brought to what the model takes
├── ScenePixelsUnavailable       the scene's file moved or changed since it was assessed
├── AreaUnreadable               the area or the mask cannot be used
├── AreaMissesScene              the area leaves nothing of the scene to assess
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


class SceneUnfit(SceneError):
    """The pixels are too large or too small for the model, or there are too many tiles."""


class SceneUnmappable(SceneError):
    """The bands or values cannot be brought to what the model takes."""


class ScenePixelsUnavailable(AtalayaError):
    """The scene's file moved or changed since it was assessed."""


class AreaUnreadable(AtalayaError):
    """An area or a mask cannot be used."""


class AreaMissesScene(AtalayaError):
    """The area leaves nothing of the scene to assess."""


class OutputUnwritable(AtalayaError):
    """The file of results cannot be written; the rows are safe in the store."""


class OutputExists(UsageError):
    """There is a file of that name already."""


class OutputUnknown(UsageError):
    """The suffix names no format that we write."""
