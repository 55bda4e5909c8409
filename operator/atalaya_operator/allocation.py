"""Gives each model a device: gathers what nodes offer, who holds it and what was made already, and has one chosen.

Nothing is asked for a model on cores alone, nor for one with a single device and a fixed number of pods. What it
remembers are promises: which devices went to models whose Deployments are not made yet, lest two be given the same one.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from atalaya_operator import rollout
from atalaya_operator.accelerators import Holder, Owner, Stock, stock
from atalaya_operator.desired_state import revision
from atalaya_operator.device_choice import Choice, Option, Patience, Standing, choose, settled
from atalaya_operator.device_standing import chosen_at, device_of, kept_annotations, newest, standing
from atalaya_operator.devices import tolerations
from atalaya_operator.ledger import Ledger
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.observed import ModelKey, Observed, Seen
from atalaya_operator.platform import Platform
from atalaya_operator.revision import Decisions, Manifest
from atalaya_spec.inference_model import Spec
from atalaya_spec.server_versions import CPU

FALL_BACK_SECONDS = 120.0


@dataclass(frozen=True)
class Asked:
    """One model that is to be given a device, with what else was decided for it."""

    subject: Subject
    decided: Decisions
    platform: Platform
    seen: Seen
    digests: dict[str, str] = field(default_factory=dict, init=False)
    """Of its revision on each device, once it was asked for."""

    @property
    def key(self) -> ModelKey:
        """Among the models."""
        return ModelKey(self.subject.namespace, self.subject.model.name)

    @property
    def spec(self) -> Spec:
        """What is wanted."""
        return self.subject.model.spec

    @property
    def need(self) -> int:
        """The fewest replicas; one even of a model that rests."""
        spec = self.spec
        return max(1, spec.scaling.min if spec.scaling else 1 if spec.replicas is None else spec.replicas)

    def digest_on(self, device: str) -> str:
        """The digest of the revision that it would be there."""
        if device not in self.digests:
            one = revision(self.subject.model, replace(self.decided, device=device), self.platform)
            self.digests[device] = one.digest
        return self.digests[device]


@dataclass(frozen=True)
class Given:
    """What a model was given: decisions with the device, and the choice where there was one to make."""

    decided: Decisions
    choice: Choice | None = None


class Allocation:
    """Which model has which device. Safe for threads."""

    def __init__(self, observed: Observed, foreign: Callable[[], Iterable[Holder]]) -> None:
        """`foreign` answers the pods of others that take accelerators; it may raise TryAgain and ObjectRefused."""
        self._observed, self._foreign, self._ledger = observed, foreign, Ledger(observed)
        self._lock = threading.Lock()
        self._promised: dict[ModelKey, tuple[str, int]] = {}

    def give(self, asked: Asked, now: str) -> Given:
        """Choose a device for a model. Raises TryAgain and ObjectRefused."""
        if not _is_to_be_weighed(asked):
            self.forget(asked.key)
            return Given(replace(asked.decided, device=asked.spec.devices[0]))
        there = _made_of(asked)
        nodes, spec = self._observed.nodes(), asked.spec
        before = _standing(asked, there, nodes, now)
        choice = None if spec.scaling else settled(before, spec.devices[0], _patience(spec))
        foreign = () if choice else self._foreign()
        with self._lock:
            choice = choice or self._choose(asked, before, nodes, foreign)
            return self._given(asked, there, choice, now)

    def _choose(
        self, asked: Asked, before: Standing | None, nodes: Mapping[str, Manifest], foreign: Iterable[Holder]
    ) -> Choice:
        spec, holders = asked.spec, [*foreign, *self._held(asked.key)]
        stocks = {
            device: stock(device, tolerations(device), nodes, holders, _owner(asked, device))
            for device in spec.devices
            if device != CPU
        }
        options = [_option(device, stocks.get(device), asked.need) for device in spec.devices]
        choice = choose(options, asked.need, before, _patience(spec))
        chosen = stocks.get(choice.device)
        never_fits = bool(choice.lack and chosen and chosen.never_fits(asked.need))
        return replace(choice, never_fits=never_fits)

    def _given(self, asked: Asked, there: Manifest | None, choice: Choice, now: str) -> Given:
        spec = asked.spec
        if there and choice.device == device_of(there):
            since = chosen_at(there)
            self._promised.pop(asked.key, None)
        else:
            since = now
            self._promised[asked.key] = (choice.device, asked.need)
        is_capped = spec.scaling is not None and choice.most is not None
        self._observed.follow(asked.key, is_open=choice.is_open or is_capped)
        annotations = kept_annotations(choice, since) if len(spec.devices) > 1 else {}
        most = choice.most if spec.scaling else None
        decided = replace(asked.decided, device=choice.device, most_replicas=most, annotations=annotations)
        return Given(decided, choice)

    def _held(self, mine: ModelKey) -> Iterable[Holder]:
        """What models hold, what others of them ask for and have not, and what was promised to others."""
        placed = self._ledger.placed()
        yield from placed
        others = frozenset(self._observed.models()) - {mine}  # those that are gone ask for nothing
        promised = {key: told for key, told in self._promised.items() if key in others}
        for claim in self._ledger.claims(placed):
            if promised.get(claim.key, ("", 0))[0] == claim.device:
                del promised[claim.key]
            if claim.count and claim.key in others:
                yield Holder("", {claim.device: claim.count}, "")
        for device, count in promised.values():
            yield Holder("", {device: count}, "")

    def forget(self, key: ModelKey) -> None:
        """A model that is gone, or has no choice, asks for nothing."""
        with self._lock:
            self._promised.pop(key, None)
        self._observed.follow(key, is_open=False)


def _made_of(asked: Asked) -> Manifest | None:
    """The Deployment of the very spec that was chosen last, on whichever of the devices."""
    there = rollout.deployments(asked.seen.objects, asked.subject.uid)
    return newest(
        found
        for digest, found in there.items()
        if (device := device_of(found)) in asked.spec.devices and asked.digest_on(device) == digest
    )


def _standing(asked: Asked, there: Manifest | None, nodes: Mapping[str, Manifest], now: str) -> Standing | None:
    if there is None:
        return None
    digest = rollout.digest_label(there)
    pods = [pod for pod in asked.seen.pods if rollout.digest_label(pod) == digest]
    return standing(there, pods, nodes, asked.need, now)


def _is_to_be_weighed(asked: Asked) -> bool:
    """Whether there is a choice, a number of replicas to bound, or a revision that stands in the way of the next."""
    first, *others = asked.spec.devices
    if others or first == CPU:
        return bool(others)
    if asked.spec.scaling:
        return True
    there = rollout.deployments(asked.seen.objects, asked.subject.uid).values()
    return sum(device_of(one) == first for one in there) > 1


def _option(device: str, found: Stock | None, need: int) -> Option:
    if found is None:
        return Option(device)
    return Option(device, found.room, found.offered, found.lack(need), found.frees(need))


def _owner(asked: Asked, device: str) -> Owner:
    return Owner(*asked.key, asked.digest_on(device))


def _patience(spec: Spec) -> Patience:
    return Patience(
        spec.fall_back_after.seconds if spec.fall_back_after else FALL_BACK_SECONDS,
        spec.move_up_after.seconds if spec.move_up_after else None,
    )
