"""One run: a mesh forms, faults and writes happen to it, calm returns, and everything must be as if nothing had.

settle -> fault phase (script or drawn by seed, with the workload) -> calm phase -> checks
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from mesh.testing import Mesh, SimulationError, microseconds
from tools.sim import units
from tools.sim.checks import CheckFailure, Inspector
from tools.sim.faults import draw_history
from tools.sim.meter import Meter
from tools.sim.options import Options
from tools.sim.script import Line, parse
from tools.sim.stage import Stage
from tools.sim.units import hosts_text
from tools.sim.workload import Workload

SETTLE_SECONDS: Final = 3.0
"""For the mesh to form before anything goes wrong."""
SAMPLES_MAX: Final = 400
"""Looks along a phase: an hour-long run is not looked at every second."""
QUIET_SECONDS: Final = 12.0
"""Longer than housekeeping's rhythm of 10 s."""
REST_SECONDS: Final = 5.0
"""After convergence nothing may move any more (but housekeeping, which rests by itself)."""


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    options: Options
    script: list[Line]
    failure: str = ""
    failed: str = ""
    """Name of the checker that failed; "exception" when the program itself did."""
    virtual_seconds: float = 0.0
    converged_after: float | None = None
    """Seconds of calm that it took."""
    digest: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        return not self.failed


class Run:
    """`watch`: called every virtual second or so, for progress."""

    def __init__(self, options: Options, *, watch: Callable[[Run], None] | None = None) -> None:
        options.check()
        self.options = options
        self.mesh = Mesh(options.nodes, seed=options.seed, setup=options.setup())
        for host in self.mesh.hosts:
            host.cost = microseconds(units.seconds(options.cost))
        self.inspector = Inspector(self.mesh)
        self.stage = Stage(self.mesh)
        self.meter = Meter(self.mesh)
        self.samples: list[tuple[float, float, float]] = []
        """(virtual seconds, share of the largest group of equal states, share of members taken for alive) along the run."""
        self.counters_at_start = (0, 0, 0)
        self.fault_start = self.fault_end = 0.0
        self._watch = watch
        if options.script:
            self.script = parse(options.script)
        else:
            self.script = draw_history(self.mesh.world.rng("faults"), options.nodes, options.seconds, options.faults)
        self.outcome = Outcome(options, self.script)

    def play(self) -> Outcome:
        outcome = self.outcome
        try:
            self._phases(outcome)
        except CheckFailure as failure:
            outcome.failed, outcome.failure = failure.name, str(failure)
        except SimulationError as error:
            outcome.failed, outcome.failure = "simulation", str(error)
        outcome.virtual_seconds = self.mesh.now
        outcome.digest = self.mesh.digest
        outcome.counts.update(self.inspector.counts)
        return outcome

    def _phases(self, outcome: Outcome) -> None:
        mesh, options = self.mesh, self.options
        mesh.start()
        self._pass(SETTLE_SECONDS)
        self.counters_at_start = self.meter.counters()
        self.fault_start = mesh.now
        workload = Workload(mesh, rate=options.rate, seconds=options.seconds, types=options.types, paths=options.paths)
        outcome.writes = workload.counts
        self.stage.play(self.script)
        self._pass(options.seconds)
        self.fault_end = mesh.now
        self.calm()
        began = mesh.now
        if not mesh.run_until(self._is_one, options.calm_bound(), every=0.05):
            raise CheckFailure("convergence", f"not one again after {options.calm_bound():g} s of calm: {self._difference()}")
        outcome.converged_after = mesh.now - began
        self._sample()
        self._pass(REST_SECONDS)
        self.inspector.settled()
        if options.rest:
            self.inspector.rest.rested(QUIET_SECONDS, options.rest)
            self.inspector.settled()

    def _pass(self, seconds: float) -> None:
        if self._watch is None:
            self.mesh.run(seconds)
            return
        step = max(1.0, seconds / SAMPLES_MAX)
        while seconds > 0:
            self.mesh.run(min(step, seconds))
            seconds -= step
            self._sample()
            self._watch(self)

    def _sample(self) -> None:
        mesh = self.mesh
        running = mesh.running
        if not running:
            return
        states = Counter(mesh.peer(number).replica.state_digest() for number in running)
        alive = sum(len(mesh.peer(number).swim.alive()) + 1 for number in running)
        self.samples.append((mesh.now, max(states.values()) / len(running), alive / len(running) / len(mesh.hosts)))

    def calm(self) -> None:
        """Every fault ends: links as configured, disks good, everybody up."""
        mesh = self.mesh
        mesh.heal()
        mesh.world.network.links.clear()
        mesh.world.network.default = mesh.setup.link
        for host in mesh.hosts:
            if host.disk is not None:
                host.disk.full = False
                host.disk.fsync = mesh.setup.fsync
            if not host.running:
                mesh.restart(host.number)

    def _is_one(self) -> bool:
        mesh = self.mesh
        if any(host.paused or not host.running for host in mesh.hosts):
            return False
        count = len(mesh.hosts)
        return all(len(mesh.peer(number).swim.alive()) == count - 1 for number in range(count)) and mesh.converged()

    def _difference(self) -> str:
        """Who differs, in a line."""
        mesh = self.mesh
        replicas = {number: mesh.peer(number).replica for number in mesh.running}
        states = {number: replica.state_digest().hex()[:6] for number, replica in replicas.items()}
        alive = {number: len(mesh.peer(number).swim.alive()) for number in mesh.running}
        apart = []
        for shelf in sorted({shelf for replica in replicas.values() for shelf in replica.shelves()}):
            where: dict[tuple[int, tuple[int, ...]], set[int]] = {}
            for number, replica in replicas.items():
                where.setdefault((replica.floor(shelf), tuple(sorted(replica.loose_seqs(shelf)))), set()).add(number)
            if len(where) > 1:
                held = "; ".join(f"{hosts_text(who)} at {floor} loose {list(loose)}" for (floor, loose), who in where.items())
                apart.append(f"{self.mesh.shelf_name(shelf)}: {held}")
        return f"states {states}, members alive {alive}, shelves apart: {apart}"


def run(options: Options) -> Outcome:
    return Run(options).play()


def shrink(options: Options, lines: Sequence[Line], fails: Callable[[Options], bool]) -> list[Line]:
    """The fewest lines of a failing script that still fail, by delta debugging (Zeller and Hildebrandt, 2002)."""
    kept, size = list(lines), max(1, len(lines) // 2)
    while size:
        at, removed = 0, False
        while at < len(kept):
            candidate = kept[:at] + kept[at + size :]
            if candidate and fails(_with(options, candidate)):
                kept, removed = candidate, True
            else:
                at += size
        size = size if removed and size == 1 else size // 2
    return kept


def _with(options: Options, lines: Sequence[Line]) -> Options:
    return replace(options, script="\n".join(map(str, lines)))
