"""The models of a server and their versions: loads, swaps, retires.

A reader sees one immutable picture of a model's ready versions, so a call never meets a half-made change. A new
version is loaded beside the old one, then the picture is replaced, then the old one drains. A version that cannot be
loaded is reported and what served before goes on serving.
"""

import logging
import math
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from atalaya_serving.deadline import Deadline
from atalaya_serving.engines.base import Engine
from atalaya_serving.errors import ModelLoadFailed, ModelNotFound, ModelNotReady, ServingError
from atalaya_serving.loading import Loader, fingerprint, why_unreadable
from atalaya_serving.model_state import LifeState, Model, VersionState
from atalaya_serving.served import ServedVersion, identify
from atalaya_serving.settings import ModelSettings, Settings
from atalaya_serving.stats import VersionStats
from atalaya_spec.manifest import versions

_log = logging.getLogger(__name__)
_LOAD_PATIENCE_SECONDS = 0.2
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class ModelRepository:
    """All models of this server. Every method may be called from any thread."""

    def __init__(
        self, settings: Settings, engine: Engine, new_stats: Callable[[str], VersionStats] | None = None
    ) -> None:
        """`new_stats` gives the books of a new version of the model named."""
        self._settings, self._loader = settings, Loader(settings, engine, new_stats)
        self._models = {model.name: Model(model) for model in settings.models}
        self._stopping = threading.Event()
        self._poller: threading.Thread | None = None
        self._retiring: set[threading.Thread] = set()
        self._past: dict[tuple[str, int], str] = {}
        """UNLOADING or END, of every version that served once and was retired."""
        self._started = False
        self._find_models()

    def start(self) -> None:
        """Load every model once, then poll where asked."""
        for model in list(self._models.values()):
            self._refresh(model, settled_only=False)
        self._started = True
        if self._settings.poll_wait_seconds:
            self._poller = threading.Thread(target=self._poll, name="repository-poll", daemon=True)
            self._poller.start()

    def resolve(self, name: str, version: str) -> ServedVersion:
        """The version that answers; the newest ready one when `version` is empty.

        Raises ModelNotFound, or ModelNotReady with the reason.
        """
        model = self._models.get(name)
        if model is None:
            known = ", ".join(sorted(self._models)) or "none"
            raise ModelNotFound(f"there is no model {name!r} here; this server has: {known}.")
        if not version:
            if model.newest is None:
                raise ModelNotReady(f"model {name!r} is not ready: {self._why(model)}")
            return model.newest
        number = _number(version)
        served = None if number is None else model.ready.get(number)
        if served is None:
            raise self._no_version(model, version)
        return served

    @property
    def is_started(self) -> bool:
        """Whether every model was tried once."""
        return self._started

    def is_ready(self) -> bool:
        """Whether all models that the server was started with, and that nobody unloaded, serve."""
        awaited = [model for model in list(self._models.values()) if not (model.is_unloaded or model.is_late)]
        return self._started and all(model.newest is not None for model in awaited)

    def ready_versions(self, name: str) -> list[int]:
        """The versions of a model that serve, ascending. Raises ModelNotFound."""
        if name not in self._models:
            self.resolve(name, "")
        return sorted(self._models[name].ready)

    def served(self) -> list[ServedVersion]:
        """Every version that serves now."""
        return [served for model in list(self._models.values()) for served in model.ready.values()]

    def names(self) -> list[str]:
        """Every model known, ready or not."""
        return sorted(self._models)

    def index(self) -> list[VersionState]:
        """Every version with its state, and every model that has none."""
        lines: list[VersionState] = []
        for name, model in sorted(self._models.items()):
            known = dict.fromkeys(model.ready, ("READY", model.away))
            known |= {number: ("LOADING", "") for number in model.loading if number not in known}
            known |= {number: ("UNAVAILABLE", why) for number, (_, why) in model.failed.items() if number not in known}
            lines += [VersionState(name, str(number), *state) for number, state in sorted(known.items())]
            if not known:
                lines.append(VersionState(name, "", "UNAVAILABLE", self._why(model)))
        return lines

    def states(self, name: str) -> list[LifeState]:
        """Where each version of a model stands that is or was here; nothing for an unknown model."""
        known = {
            number: LifeState(number, state) for (model, number), state in list(self._past.items()) if model == name
        }
        model = self._models.get(name)
        if model is not None:
            known |= {number: LifeState(number, "END", why) for number, (_, why) in list(model.failed.items())}
            known |= {number: LifeState(number, "LOADING") for number in model.loading}
            known |= {number: LifeState(number, "AVAILABLE") for number in model.ready}
        return [state for _, state in sorted(known.items())]

    def configure(self, models: Iterable[ModelSettings]) -> None:
        """Serve these models instead of those of before; what stays the same serves on untouched."""
        wanted = {model.name: model for model in models}
        self._settings = replace(self._settings, model_repository=None)
        before = self._models
        self._models = {name: before.get(name) or Model(settings) for name, settings in wanted.items()}
        for name, model in self._models.items():
            with model.changing:
                is_changed = model.settings != wanted[name]
                model.is_stale = replace(model.settings, policy=wanted[name].policy) != wanted[name]
                model.settings, model.is_unloaded = wanted[name], False
            self._refresh(model, settled_only=False, may_empty=is_changed)
        for name in before.keys() - wanted.keys():
            with before[name].changing:
                before[name].is_unloaded, gone = True, list(before[name].ready.values())
                before[name].publish({})
            self._retire(gone)

    def load(self, name: str) -> None:
        """Load a model, or look again at its versions. Raises ModelNotFound, or ModelLoadFailed with the reason."""
        self._find_models(name)
        model = self._models.get(name)
        if model is None:
            raise ModelNotFound(f"there is no model {name!r} in this server's repository; put its folder there first.")
        model.is_unloaded = False
        self._refresh(model, settled_only=False, reload_changed=True)
        if model.failed or model.newest is None or model.away:
            raise ModelLoadFailed(f"model {name!r} was not fully loaded: {self._why(model)}")

    def unload(self, name: str) -> None:
        """Take a model out of service until `load`; accepted calls are answered. Raises ModelNotFound."""
        model = self._models.get(name)
        if model is None:
            raise ModelNotFound(f"there is no model {name!r} here; nothing was unloaded.")
        with model.changing:
            model.is_unloaded, gone = True, list(model.ready.values())
            model.failed.clear()
            model.publish({})
        self._retire(gone)
        _log.info("model unloaded", extra={"model": name})

    def look(self, *, settled_only: bool = True) -> None:
        """One look at the folders: what the poll does. With `settled_only`, a folder still in copy waits."""
        self._find_models()
        self._forget_models()
        for model in list(self._models.values()):
            if not model.is_unloaded:
                self._refresh(model, settled_only=settled_only)

    def stop(self, timeout_seconds: float = math.inf) -> bool:
        """Stop polling, and wait until every accepted call of every version is answered, no longer than told.

        False when something goes on: a call that takes longer, or a load, which is not waited for.
        """
        deadline = Deadline(timeout_seconds)
        self._stopping.set()
        loading = [model for model in list(self._models.values()) if not self._let_go(model)]
        threads = list(self._retiring)
        for thread in threads:
            thread.join(min(deadline.left, threading.TIMEOUT_MAX))
        if self._poller is not None:
            self._poller.join(_LOAD_PATIENCE_SECONDS)
            threads.append(self._poller)
        return not loading and not any(thread.is_alive() for thread in threads)

    def _let_go(self, model: Model) -> bool:
        """Take a model out of service for good; False while it is loading, for it then holds nothing to wait for."""
        if not model.changing.acquire(timeout=_LOAD_PATIENCE_SECONDS):
            return False
        try:
            gone = list(model.ready.values())
            model.publish({})
        finally:
            model.changing.release()
        self._retire(gone)
        return True

    def _poll(self) -> None:
        while not self._stopping.wait(self._settings.poll_wait_seconds):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - the edge of a thread: one bad look must not end all later ones
                _log.exception("a look at the repository failed")

    def _find_models(self, only: str | None = None) -> None:
        """Add the models of --model_repository; a folder is one when it has an integer version below."""
        root = self._settings.model_repository
        if root is None or not root.is_dir():
            return
        for folder in sorted(root.iterdir()):
            wanted = only is None or folder.name == only
            if wanted and folder.name not in self._models and _MODEL_NAME.fullmatch(folder.name) and versions(folder):
                self._models[folder.name] = Model(
                    replace(self._settings.repository_model, name=folder.name, base_path=folder),
                    is_found=True,
                    is_late=self._started,
                )

    def _forget_models(self) -> None:
        """Forget the models whose folder is gone from --model_repository, and of which nothing serves."""
        root = self._settings.model_repository
        if root is None or not root.is_dir():
            return
        for name, model in list(self._models.items()):
            if model.is_found and not model.settings.base_path.exists() and model.changing.acquire(blocking=False):
                try:
                    if not model.ready:
                        self._models.pop(name, None)
                finally:
                    model.changing.release()

    def _refresh(
        self, model: Model, *, settled_only: bool, reload_changed: bool = False, may_empty: bool = False
    ) -> None:
        """Bring what serves to what lies there and is wanted. With `settled_only`, a folder still in copy waits.

        Without `may_empty`, a folder in which nothing lies any more changes nothing (docs/decisions/0205).
        """
        with model.changing:
            if model.is_unloaded or self._stopping.is_set():
                return
            there = self._versions_there(model)
            self._note_away(model, is_away=bool(model.ready) and not there and not (may_empty and there is not None))
            if there is None or model.away:
                return
            wanted = model.settings.policy.wanted(there)
            model.failed = {number: why for number, why in model.failed.items() if number in wanted}
            ready = dict(model.ready)
            is_stale, model.is_stale = model.is_stale, False
            for number in sorted(wanted):
                is_same = not (
                    is_stale or (reload_changed and number in ready and self._has_changed(model, ready[number]))
                )
                if number in ready and is_same:
                    continue
                if self._stopping.is_set():
                    return
                if self._may_try(model, number, settled_only, retry=reload_changed or is_stale):
                    self._load_version(model, number, ready)
            self._drop_unwanted(model, ready, wanted, there)

    def _note_away(self, model: Model, *, is_away: bool) -> None:
        """Say once when the folder of what serves has nothing in it, and once when that is over."""
        before, model.away = model.away, f"it serves on from memory: {model.reason}" if is_away else ""
        if model.away and not before:
            told = {"model": model.settings.name, "versions": sorted(model.ready), "reason": model.reason}
            _log.warning("model folder is away or empty; what serves goes on serving, until it is unloaded", extra=told)
        elif before and not model.away:
            _log.info("model folder is back", extra={"model": model.settings.name})

    def _versions_there(self, model: Model) -> list[int] | None:
        """The versions below a model's folder; None when the folder itself is away."""
        folder = model.settings.base_path
        try:
            next(folder.iterdir(), None)
            there = versions(folder)
        except OSError as error:
            told = why_unreadable(folder, error)
            if not model.ready and told != model.reason:
                _log.error("model folder unreadable", extra={"model": model.settings.name, "reason": told})
            model.reason = told
            return None
        missing = model.settings.policy.missing(there)
        if missing:
            told = f"{folder} lacks the version asked for: {', '.join(map(str, sorted(missing)))}."
        else:
            told = "" if there else f"{folder} has no integer version folder; put one there, such as 1/."
        if told and not model.ready and told != model.reason:
            _log.error("no version to serve", extra={"model": model.settings.name, "reason": told})
        model.reason = told
        return there

    def _may_try(self, model: Model, number: int, settled_only: bool, *, retry: bool) -> bool:
        """A folder that failed is tried again when it changed; one that is new to the poll must hold still first."""
        now = fingerprint(model.settings.base_path / str(number))
        before, model.seen[number] = model.seen.get(number), now
        failed = model.failed.get(number)
        if failed is not None and failed[0] == now and not retry:
            return False
        return not settled_only or before == now

    def _load_version(self, model: Model, number: int, ready: dict[int, ServedVersion]) -> None:
        name, folder = model.settings.name, model.settings.base_path / str(number)
        seen = fingerprint(folder)
        model.loading |= {number}
        try:
            served = self._loader.load(model.settings, number, folder)
        except (ServingError, OSError, RuntimeError, ValueError) as error:
            model.failed[number] = (seen, str(error))
            _log.error("version failed to load", extra={"model": name, "version": number, "reason": str(error)})
            return
        finally:
            model.loading -= {number}
        model.failed.pop(number, None)
        replaced = ready.get(number)
        ready[number] = served
        model.publish(ready)
        _log.info(
            "version ready",
            extra={
                "model": name,
                "version": number,
                "digest": served.digest,
                "precision": served.model.precision,
                "slots": len(served.model.slots),
            },
        )
        if replaced is not None:
            self._retire([replaced])

    def _has_changed(self, model: Model, served: ServedVersion) -> bool:
        folder = model.settings.base_path / served.version_text
        try:
            return identify(folder).digest != served.digest
        except ModelLoadFailed:
            return True

    def _drop_unwanted(
        self, model: Model, ready: dict[int, ServedVersion], wanted: frozenset[int], there: Iterable[int]
    ) -> None:
        """Retire what is not wanted; but while a wanted version is not ready, older ones that still lie there stay."""
        is_complete = all(number in ready for number in wanted)
        gone = [
            served for number, served in ready.items() if number not in wanted and (is_complete or number not in there)
        ]
        if gone:
            model.publish({number: served for number, served in ready.items() if served not in gone})
            self._retire(gone)

    def _retire(self, gone: Iterable[ServedVersion]) -> None:
        for served in gone:
            self._past[served.name, served.version] = "UNLOADING"
            thread = threading.Thread(target=self._drain, args=(served,), name="retire", daemon=True)
            self._retiring.add(thread)
            thread.start()

    def _drain(self, served: ServedVersion) -> None:
        served.executor.close()
        self._past[served.name, served.version] = "END"
        _log.info("version retired", extra={"model": served.name, "version": served.version})
        self._retiring.discard(threading.current_thread())

    def _why(self, model: Model) -> str:
        if model.is_unloaded:
            return "it was unloaded on request; load it again."
        if model.failed:
            number, (_, why) = max(model.failed.items())
            return f"version {number}: {why}"
        return model.away or model.reason or "it is loading; try again."

    def _no_version(self, model: Model, version: str) -> ModelNotFound | ModelNotReady:
        number = _number(version)
        name = model.settings.name
        if number in model.failed:
            return ModelNotReady(f"version {version} of model {name!r} is not ready: {model.failed[number][1]}")
        if number in model.loading:
            return ModelNotReady(f"version {version} of model {name!r} is loading; try again.")
        ready = ", ".join(map(str, sorted(model.ready))) or "none"
        return ModelNotFound(f"model {name!r} has no version {version!r} here; it serves: {ready}.")


def _number(version: str) -> int | None:
    """The version that a caller names; None for what is no version, whatever its length."""
    return int(version) if version.isdecimal() and len(version) < 20 else None
