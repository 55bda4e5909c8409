"""Where Atalaya keeps its files, and where it finds the models it ships. Reads the environment only when asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The folders and the store of one installation."""

    home: Path
    scenes: Path
    """Scene pixels for the dashboard, one folder a scene digest."""
    store_url: str
    """An SQLAlchemy URL."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Paths":
        """Read ATALAYA_HOME, ATALAYA_SCENES and ATALAYA_STORE_URL; without them all lies below the XDG data folder."""
        data_home = env.get("XDG_DATA_HOME") or str(Path(env.get("HOME", "~")).expanduser() / ".local" / "share")
        home = Path(env.get("ATALAYA_HOME") or Path(data_home) / "atalaya")
        return cls(
            home=home,
            scenes=Path(env.get("ATALAYA_SCENES") or home / "scenes"),
            store_url=env.get("ATALAYA_STORE_URL") or f"sqlite:///{home / 'store.db'}",
        )


def shipped_repository() -> Path:
    """The model repository that comes with Atalaya: inside the installed package, or `model-repo/` of a checkout."""
    packaged = Path(__file__).parent / "model_repo"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "model-repo"
