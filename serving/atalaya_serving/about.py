"""Who this server says it is."""

from importlib.metadata import PackageNotFoundError, version

SERVER_NAME = "atalaya"
EXTENSIONS = ("binary_tensor_data", "model_repository", "model_configuration", "statistics")


def server_version() -> str:
    """The installed version of Atalaya."""
    try:
        return version("atalaya")
    except PackageNotFoundError:
        return "unknown"
