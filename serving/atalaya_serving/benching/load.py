"""`atalaya bench load` as a function: opens the servers, measures round by round, and keeps what it has if stopped."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field

from atalaya_serving.benching.driving import Driven, Limits, drive
from atalaya_serving.benching.errors import CallFailed, InvalidPlan, NothingMeasured
from atalaya_serving.benching.finding import Wanted
from atalaya_serving.benching.inputs import InputSpec
from atalaya_serving.benching.machine import about_machine
from atalaya_serving.benching.plans import LoadPlan, at_most_seconds, cells, interleaved
from atalaya_serving.benching.quantiles import latency
from atalaya_serving.benching.records import Audit, Cell, Protocol, Report, Sample, Start
from atalaya_serving.benching.summary import rows
from atalaya_serving.benching.targets import Foreign, OwnPlan, Target, check_unique, open_against, open_own, own_server
from atalaya_serving.benching.watching import Watch


@dataclass(frozen=True)
class LoadRequest:
    """What was asked. `own` None starts no server of ours."""

    model: str
    plan: LoadPlan
    protocols: tuple[Protocol, ...]
    own: OwnPlan | None = None
    against: tuple[Foreign, ...] = ()
    version: str = ""
    inputs: tuple[InputSpec, ...] = ()


@dataclass
class LoadRun:
    """What has been measured so far; `report` may be asked at any time."""

    request: LoadRequest
    samples: list[Sample] = field(default_factory=list)
    latencies: dict[Cell, list[float]] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)
    is_complete: bool = False

    def report(self) -> Report:
        """All that there is now."""
        request = self.request
        plan = asdict(request.plan) | {"model": request.model, "loop": _loops(request.plan)}
        return Report(
            about=about_machine(),
            plan=plan,
            rows=rows(self.samples, self.latencies),
            samples=tuple(self.samples),
            starts=tuple(self.starts),
            audits=tuple(self.audits),
            complete=self.is_complete,
        )

    def measure(self, tell: Callable[[str], None]) -> None:
        """Carry out the plan. Raises AtalayaError, or KeyboardInterrupt; what was measured stays."""
        with opened(self.request) as targets:
            self.starts = [one.start for one in targets.values() if one.start]
            every = cells(self.request.plan, {name: list(one.clients) for name, one in targets.items()})
            longest = at_most_seconds(self.request.plan, len(every))
            tell(f"{len(every)} combinations, {self.request.plan.rounds} rounds: about {longest / 60:.1f} min")
            requests = {}
            for cell in every:
                target, key = targets[cell.server], (cell.server, cell.protocol, cell.batch)
                if key not in requests:
                    requests[key] = target.request(cell.protocol, cell.batch)
                    target.warm_up(cell.protocol, cell.batch)
            for done, (number, cell) in enumerate(interleaved(every, self.request.plan.rounds), start=1):
                request = requests[cell.server, cell.protocol, cell.batch]
                sample = self._sample(targets[cell.server], cell, request, number)
                tell(f"{done}/{len(every) * self.request.plan.rounds} {describe(sample)}")
            self.audits = [audit for one in targets.values() if (audit := one.audit())]
        self.is_complete = True

    def _sample(self, target: Target, cell: Cell, request: bytes, number: int) -> Sample:
        plan = self.request.plan
        made, driven = sample(target, cell, request, number, Limits(plan.seconds, plan.requests, cell.rate))
        if not driven.latencies:
            _check_lives(target, cell, driven.first_error)
        self.samples.append(made)
        self.latencies.setdefault(cell, []).extend(driven.latencies)
        return made


def sample(target: Target, cell: Cell, request: bytes, number: int, limits: Limits) -> tuple[Sample, Driven]:
    """Drive one cell, with what server, client and machine used meanwhile."""
    with open_callers(target, cell) as calls:
        watch = Watch(target.tree)
        driven = drive([_sender(call, request) for call in calls], limits)
        usage = watch.stop()
    target.count(len(driven.latencies), cell.batch)
    made = Sample(
        cell=cell,
        round=number,
        wall_seconds=driven.wall_seconds,
        requests=len(driven.latencies),
        errors=driven.errors,
        unsent=driven.unsent,
        latency=latency(driven.latencies),
        server_cpu_seconds=usage.server,
        client_cpu_seconds=usage.client,
        memory_mib=target.tree.memory_mib() if target.tree else None,
        noise=usage.noise,
    )
    return made, driven


def _check_lives(target: Target, cell: Cell, first_error: str) -> None:
    """Too much load is a result; a server that answers nothing at rest either ends it. Raises NothingMeasured."""
    try:
        target.warm_up(cell.protocol, cell.batch, calls=1)
    except CallFailed as error:
        raise NothingMeasured(
            f"{cell.server} answered nothing over {cell.protocol}, batch {cell.batch}, {cell.concurrency} in flight,"
            f" nor a single call after: {first_error}"
        ) from error


@contextmanager
def open_callers(target: Target, cell: Cell) -> Iterator[list[Callable[[bytes], bytes]]]:
    """As many callers as the cell has in flight, connected."""
    callers = []
    try:
        for _ in range(cell.concurrency):
            callers.append(target.clients[cell.protocol].caller())
        yield [one.call for one in callers]
    finally:
        for one in callers:
            one.close()


def _sender(call: Callable[[bytes], bytes], request: bytes) -> Callable[[int], None]:
    def send(_number: int) -> None:
        call(request)

    return send


@contextmanager
def opened(request: LoadRequest) -> Iterator[dict[str, Target]]:
    """Every server of the request, by name; those that we start end with the context."""
    wanted = Wanted(request.model, request.version, request.protocols, request.plan.timeout_seconds)
    with ExitStack() as stack:
        made: list[Target] = []
        if request.own:
            servers = [own_server(request.own, one, request.model) for one in request.own.variants]
            made += [open_own(server, wanted, request.own, stack) for server in servers]
        made += [open_against(server, wanted, request.inputs, stack) for server in request.against]
        if not made:
            raise InvalidPlan("there is no server to measure; leave --against away, or name one.")
        check_unique([one.name for one in made])
        yield {one.name: one for one in made}


def describe(one: Sample) -> str:
    """A sample in a line, for progress."""
    cell, told = one.cell, one.latency
    p50 = "-" if told.p50_ms is None else f"{told.p50_ms:.1f} ms"
    marks = "".join(f" [{mark}]" for mark in one.noise.marks)
    failed = f", {sum(one.errors.values())} errors" if one.errors else ""
    return (
        f"{cell.server} {cell.protocol} batch {cell.batch} x{cell.concurrency}: {one.images_per_second:.0f} images/s,"
        f" p50 {p50}{failed}{marks}"
    )


def _loops(plan: LoadPlan) -> Sequence[str]:
    told = ["closed: each caller asks again when it is answered"] if None in plan.rates else []
    if any(rate is not None for rate in plan.rates):
        told.append("open: calls come at the rate, and latency counts from when a call was due")
    return told
