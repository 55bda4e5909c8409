"""Load on anything that can be called: a closed loop, or a fixed rate that a slow answer cannot slow down.

Closed: N callers, each asks again when it is answered. While a server stalls such callers ask nothing, so the stall
shows once a caller and not once a request that users would have sent ("coordinated omission"). Open: call i is due at
start + i / rate, and its latency counts from then, also where all N callers were busy. `unsent` are calls that were due
and that nobody got to: the server is overloaded.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from atalaya_serving.benching.errors import CallFailed

Call = Callable[[int], None]
"""Makes the call of this number. Raises CallFailed."""
_PAUSE_AFTER_FAILURE_SECONDS = 0.01
_LET_GO_SECONDS = 2.0


@dataclass(frozen=True)
class Limits:
    """When load ends, and how it comes. `rate` is calls a second; None is a closed loop."""

    seconds: float
    requests: int | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Driven:
    """What came of it. `latencies` are the answered calls' alone."""

    latencies: tuple[float, ...]
    errors: Mapping[str, int]
    first_error: str
    wall_seconds: float
    unsent: int


@dataclass
class _Shared:
    """What all callers of one run look at."""

    limits: Limits
    start: float = 0.0
    next_call: int = 0
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> int | None:
        """The next call's number; None when there is none."""
        limits = self.limits
        with self.lock:
            number, now = self.next_call, time.perf_counter() - self.start
            if self.stopped or (limits.requests is not None and number >= limits.requests):
                return None
            if limits.rate is None:
                over = now >= limits.seconds
            else:  # what was due is still sent for as long again, so that a stall at the end is seen
                over = number >= int(limits.rate * limits.seconds) or now >= 2 * limits.seconds
            if over:
                return None
            self.next_call += 1
            return number


def drive(calls: Sequence[Call], limits: Limits) -> Driven:
    """Run every caller of `calls` in a thread of its own until the limits; ctrl-C ends it at once and is passed on."""
    shared, lock = _Shared(limits), threading.Lock()
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    told: list[str] = []
    defects: list[BaseException] = []

    def work(call: Call) -> None:
        own: list[float] = []
        try:
            _call_on(shared, call, own, errors, told)
        except BaseException as error:  # noqa: BLE001 - a thread's outermost edge: it is raised again below
            defects.append(error)
            shared.stopped = True
        with lock:
            latencies.extend(own)

    threads = [threading.Thread(target=work, args=(call,), daemon=True) for call in calls]
    shared.start = time.perf_counter()
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        shared.stopped = True
        for thread in threads:
            thread.join(_LET_GO_SECONDS)
        raise
    if defects:
        raise defects[0]
    wall = time.perf_counter() - shared.start
    return Driven(tuple(latencies), dict(errors), told[0] if told else "", wall, _unsent(shared))


def _call_on(shared: _Shared, call: Call, own: list[float], errors: "Counter[str]", told: list[str]) -> None:
    rate = shared.limits.rate
    while (number := shared.take()) is not None:
        due = time.perf_counter()
        if rate is not None:
            due = shared.start + number / rate
            if (early := due - time.perf_counter()) > 0:
                time.sleep(early)
        try:
            call(number)
        except CallFailed as error:
            with shared.lock:
                errors[error.code] += 1
                if not told:
                    told.append(str(error))
            time.sleep(_PAUSE_AFTER_FAILURE_SECONDS)
        else:
            own.append(time.perf_counter() - due)


def _unsent(shared: _Shared) -> int:
    limits = shared.limits
    if limits.rate is None:
        return 0
    due = int(limits.rate * limits.seconds)
    due = due if limits.requests is None else min(due, limits.requests)
    return max(0, due - shared.next_call)
