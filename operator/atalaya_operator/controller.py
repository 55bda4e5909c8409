"""Reconciles one model: carries out step after step until nothing is left, then tells of it in one status call.

Plainly callable: a test calls `reconcile` as a worker does. It keeps nothing between calls but what is observed.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from atalaya_operator import conditions, scaler_words
from atalaya_operator.allocation import Allocation, Asked
from atalaya_operator.desired_state import revision
from atalaya_operator.errors import ObjectRefused, TryAgain
from atalaya_operator.events import event
from atalaya_operator.explain import reasons
from atalaya_operator.explain.finding import Finding
from atalaya_operator.listing_answer import Failure
from atalaya_operator.manifests.service_account import service_account
from atalaya_operator.manifests.subject import Subject
from atalaya_operator.names import FIELD_MANAGER
from atalaya_operator.observed import ModelKey, Observed, Seen, object_key
from atalaya_operator.ownership import is_applied, is_leaving
from atalaya_operator.platform import Platform
from atalaya_operator.reconcile import Target, belongs_to_another, in_the_way, missing, next_step
from atalaya_operator.revision import Decisions, Manifest, PinnedVersion
from atalaya_operator.second_try import LOOK_SECONDS, second_try
from atalaya_operator.second_try import MANAGER as SECOND_TRY_MANAGER
from atalaya_operator.version_lookup import Lookup, lookup
from atalaya_operator.witness import Inquirer, Witness
from atalaya_spec.model_files import check_object

AGAIN_SECONDS = 30.0
"""How soon to look again where nothing that is watched will tell of the change."""
OPEN_CHOICE_SECONDS = 60.0
"""The same where another supply would change the device: watches tell of it, but not of promises taken back."""
_MOST_STEPS = 8
_STATUS = "status"


class Writer(Inquirer, Protocol):
    """The cluster, as far as it is written to and asked. Every call may raise TryAgain and ObjectRefused."""

    def get(self, wanted: Manifest) -> Manifest | None: ...
    def apply(self, manifest: Manifest, manager: str) -> Manifest: ...
    def apply_status(self, manifest: Manifest) -> Manifest | None: ...
    def tell(self, event: Manifest) -> None: ...
    def remove(self, found: Manifest) -> None: ...


def _refused(refused: ObjectRefused) -> Failure:
    """The pod that asks the store may not be made; what serves goes on."""
    return Failure(reasons.OBJECT_REFUSED.word, str(refused).rstrip("."), "correct what the API server names")


def timestamp() -> str:
    """Now, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Controller:
    """Brings models to what their specs say."""

    def __init__(
        self,
        cluster: Writer,
        observed: Observed,
        platform: Callable[[], Platform],
        now: Callable[[], str] = timestamp,
        allocation: Allocation | None = None,
    ) -> None:
        """Without an `allocation` of the caller's, nobody but models holds accelerators."""
        self._cluster, self._observed, self._platform, self._now = cluster, observed, platform, now
        self._allocation = allocation or Allocation(observed, tuple)
        self._witness = Witness(cluster, observed)

    def reconcile(self, key: ModelKey) -> float | None:
        """Answers in how many seconds to look again; None when a change will tell. Raises TryAgain."""
        seen = self._observed.seen(key)
        if seen is None or is_leaving(seen.model):
            self._allocation.forget(key)
            return None  # what it owns goes with it
        model, findings = check_object(seen.model)
        if model is None:
            return self._report(key, conditions.invalid_spec(findings.problems), None)
        subject, platform = Subject(model, seen.model["metadata"]["uid"]), self._platform()
        known = lookup(subject, seen, platform, self._now())
        try:
            taken = self._ask_store(key, subject, known)
        except ObjectRefused as refused:
            taken, known = [], replace(known, failure=_refused(refused), again=AGAIN_SECONDS)
        target: Target | None = None
        try:
            if known.versions:
                target = self._target(subject, known.versions, platform, seen)
                taken = taken or self._advance(key, target)
        except ObjectRefused as refused:
            self._allocation.forget(key)  # what cannot be made keeps no device from others
            return self._report(key, conditions.object_refused(str(refused)), target, AGAIN_SECONDS, known)
        if taken:
            self._allocation.forget(key)
            return self._report(key, conditions.name_taken(taken), target, AGAIN_SECONDS, known)
        again = _sooner(known.again, _look_again(target))
        return self._report(key, None if target else conditions.unresolved(known, model), target, again, known)

    def _target(self, subject: Subject, versions: tuple[PinnedVersion, ...], platform: Platform, seen: Seen) -> Target:
        decided = Decisions(versions, subject.model.spec.devices[0])
        given = self._allocation.give(Asked(subject, decided, platform, seen), self._now())
        return Target(subject, revision(subject.model, given.decided, platform), platform, given.choice)

    def _ask_store(self, key: ModelKey, subject: Subject, known: Lookup) -> list[Manifest]:
        """Make or remove the pod that asks which versions there are. Answers what of others is in the way."""
        if known.remove:
            self._cluster.remove(known.remove)  # when it is gone, the watch tells
        if not known.make:
            return []
        seen, account = self._observed.seen(key), service_account(subject)
        if seen and object_key(account) not in seen.objects:
            if taken := self._unseen([account], subject):
                return taken
            self._observed.put(self._cluster.apply(account, FIELD_MANAGER))
        self._observed.put_pod(self._cluster.apply(known.make, FIELD_MANAGER))
        return []

    def _advance(self, key: ModelKey, target: Target) -> list[Manifest]:
        """Write until nothing is left to write. Answers what of others is in the way, before which it stops."""
        for _ in range(_MOST_STEPS):
            seen = self._observed.seen(key)
            if seen is None:
                return []
            if taken := [*in_the_way(target, seen), *self._unseen(missing(target, seen), target.subject)]:
                return taken
            step = next_step(target, self._observed.seen(key) or seen)
            if not step.applies and not step.removals:
                return []
            for apply in step.applies:
                self._observed.put(self._cluster.apply(apply.manifest, apply.manager))
            for found in step.removals:
                self._cluster.remove(found)
                self._observed.drop(found)
        raise TryAgain(f"{key.namespace}/{key.name}: something changes its objects as often as they are set right.")

    def _unseen(self, wanted_objects: list[Manifest], subject: Subject) -> list[Manifest]:
        """Ask for what is about to be made: the watches see only what has our label."""
        taken = []
        for wanted in wanted_objects:
            found = self._cluster.get(wanted)
            if found is None:
                continue
            if belongs_to_another(found, subject):
                taken.append(found)
            else:
                self._observed.put(found)
        return taken

    def _report(
        self,
        key: ModelKey,
        finding: Finding | None,
        target: Target | None,
        again: float | None = None,
        known: Lookup | None = None,
    ) -> float | None:
        seen = self._observed.seen(key)
        if seen is None:
            return None
        now = self._now()
        if finding is None:
            assert target  # without a target there is always a finding
            explained, soon = self._witness.explained(target, seen, now)
            again = _sooner(_sooner(again, soon), scaler_words.look_again(target, seen, now))
            finding = conditions.progress(target, seen, explained)
        status = conditions.status(finding, seen, target, now, known)
        if not is_applied(status, seen.model, _STATUS):
            if finding.is_fault:
                self._cluster.tell(event(finding, seen.model, status["status"], now))
            kept = self._cluster.apply_status(status)
            if kept is None:
                self._observed.drop(seen.model)
                self._allocation.forget(key)
                return None
            self._observed.put(kept)
        if target and finding.why == reasons.QUOTA_EXCEEDED:
            return self._try_pods_again(finding, conditions.target_deployment(target, seen))
        return again

    def _try_pods_again(self, finding: Finding, deployment: Manifest | None) -> float:
        try:
            wanted = deployment and second_try(deployment, self._witness.quota(deployment, finding.cause))
            if wanted:
                self._observed.put(self._cluster.apply(wanted, SECOND_TRY_MANAGER))
        except ObjectRefused:
            return AGAIN_SECONDS  # without the right to read quotas, the cluster's own next try is waited for
        return LOOK_SECONDS


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((seconds for seconds in (one, other) if seconds is not None), default=None)


def _look_again(target: Target | None) -> float | None:
    choice = target.choice if target else None
    if choice is None or not choice.is_open:
        return None
    return min(OPEN_CHOICE_SECONDS, choice.again if choice.again is not None else OPEN_CHOICE_SECONDS)
