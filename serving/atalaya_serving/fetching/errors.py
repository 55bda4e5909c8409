"""What can go wrong with a store. The first word of a message is its reason, for programs; the rest is for people.

FetchError                (an AtalayaError: exit code 1)
├── ModelPathNotFound     the bucket, the folder or a version of it is not there          look again later
├── BadCredentials        the store does not let us in, or we have nothing to show        correct the Secret
├── StoreUnreachable      nobody answers, or the store is out of order                    retry
├── StoreUnreadable       what answers is no store that can be listed                     do not retry
├── ModelFilesRefused     a name that leaves its folder, a link, a pickle                 do not retry
├── ModelTooLarge         more files or bytes than a version may have                     do not retry
├── NoSpaceLeft           the volume cannot hold or may not take the files                do not retry
├── ModelFileCorrupt      a file is shorter, longer or other than the store says of it    retry
└── DigestMismatch        the files are not those that were asked for                     do not retry unchanged
FileChanged, Interrupted  not for users: begin the version anew; go on from where it was
"""

from atalaya_spec.errors import AtalayaError


class FetchError(AtalayaError):
    """Told as `Reason: the thing, the fact; the next step.`"""

    def __init__(self, message: str) -> None:
        super().__init__(f"{type(self).__name__}: {message}")


class ModelPathNotFound(FetchError):
    """Nothing lies where the model is said to be."""


class BadCredentials(FetchError):
    """The store refuses us."""


class StoreUnreachable(FetchError):
    """The store does not answer, or not usefully."""


class StoreUnreadable(FetchError):
    """What answers does not list its files in a way that is known here."""


class ModelFilesRefused(FetchError):
    """Files that are not to be brought anywhere near a server."""


class ModelTooLarge(FetchError):
    """Past the bounds on files and bytes."""


class NoSpaceLeft(FetchError):
    """The target cannot take it."""


class ModelFileCorrupt(FetchError):
    """What came is not what the store says it has."""


class DigestMismatch(FetchError):
    """Another version lies under the number than was asked for."""


class FileChanged(Exception):
    """A file is no longer the one that was listed."""


class Interrupted(Exception):
    """The bytes ended too early; another try may bring the rest."""
