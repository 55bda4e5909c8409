"""How a version comes into service: its files identified, compiled by the engine, held against its manifest, queued."""

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from atalaya_serving.batching import Batching, BatchingExecutor, can_batch
from atalaya_serving.budget import MESSAGES_HELD, ByteBudget
from atalaya_serving.engines.base import Engine, LoadedModel, LoadOptions
from atalaya_serving.errors import ModelLoadFailed
from atalaya_serving.executor import Executor
from atalaya_serving.served import ServedVersion, check_manifest, identify
from atalaya_serving.settings import ModelSettings, Settings
from atalaya_serving.stats import VersionStats

_log = logging.getLogger(__name__)

_URI = re.compile(r"(?:^|/)(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):/(?P<rest>.+)$")  # as a Path writes s3://bucket/model
Fingerprint = tuple[tuple[str, int, int], ...]


class Loader:
    """Loads versions, whose queues share one budget of bytes."""

    def __init__(
        self, settings: Settings, engine: Engine, new_stats: Callable[[str], VersionStats] | None = None
    ) -> None:
        """`new_stats` gives the books of a new version of the model named."""
        self._settings, self._engine = settings, engine
        self._new_stats = new_stats or (lambda _name: VersionStats())
        self._budget = ByteBudget(MESSAGES_HELD * settings.max_message_bytes)

    def load(self, settings: ModelSettings, number: int, folder: Path) -> ServedVersion:
        """A version that takes calls. Raises ModelLoadFailed."""
        if settings.unsupported:
            raise ModelLoadFailed(settings.unsupported)
        identity = identify(folder)
        options = replace(load_options(settings, self._settings), rows_are_independent=identity.manifest is not None)
        model = self._engine.load(folder, options)
        if identity.manifest is not None:
            check_manifest(identity.manifest, model, folder)
        executor = self._executor(f"{settings.name}-{number}", model, settings.batching or self._settings.tfs.batching)
        return ServedVersion(
            settings.name,
            number,
            model,
            executor,
            identity.digest,
            identity.manifest,
            self._new_stats(settings.name),
            self._settings.tfs.derive_signatures,
        )

    def _executor(self, name: str, model: LoadedModel, batching: Batching | None) -> Executor:
        queue_size = self._settings.queue_size
        if batching is not None and can_batch(model):
            return BatchingExecutor(name, model.slots, batching.max_enqueued or queue_size, batching, self._budget)
        if batching is not None:
            _log.warning("%s gathers no batches: the first dimension of a tensor of the model is fixed", name)
        return Executor(name, model.slots, queue_size, self._budget)


def load_options(model: ModelSettings, settings: Settings) -> LoadOptions:
    """What the engine is told, from the model's and the server's settings."""
    cache = {"CACHE_DIR": str(settings.cache_dir)} if settings.cache_dir else {}
    return LoadOptions(
        device=model.device,
        hint=settings.hint,
        precision=settings.precision,
        slots=model.slots or (settings.tfs.batching.threads if settings.tfs.batching else None),
        batch_size=model.batch_size,
        shapes=model.shapes,
        properties=cache | dict(model.properties),
        backend=model.backend or settings.backend,
    )


def why_unreadable(folder: Path, error: OSError) -> str:
    """What to tell of a model's folder that is not there; one that names a store elsewhere is not looked for here."""
    if found := _URI.search(str(folder)):
        place = f"{found['scheme']}://{found['rest']}"
        return f"{place} is not a folder, and this server fetches nothing; put the model into a folder or a volume."
    return f"{folder} cannot be read: {error.strerror}; mount it or correct the model's path."


def fingerprint(folder: Path) -> Fingerprint:
    """Cheap to take, and changes while files are still being written."""
    try:
        return tuple(
            (str(file.relative_to(folder)), stat.st_size, stat.st_mtime_ns)
            for file in sorted(folder.rglob("*"))
            if (stat := file.stat()) and file.is_file()
        )
    except OSError:
        return ()
