"""One run: a mesh forms, faults and writes happen to it, calm returns, and everything must be as if nothing had.

settle -> fault phase (script or drawn by seed, with the workload) -> calm phase -> checks
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from mesh.housekeeping import AWAITED_ROUNDS
from mesh.peer import Peer
from mesh.testing import SECOND, Mesh, SimulationError, microseconds
from tools.sim import units
from tools.sim.checks import CheckFailure, Inspector
from tools.sim.critical import Critical
from tools.sim.faults import draw_history
from tools.sim.meter import Meter
from tools.sim.options import Options
from tools.sim.script import Line, parse
from tools.sim.stage import Stage
from tools.sim.units import hosts_text
from tools.sim.workload import Workload

STEP_MIN_SECONDS: Final = 0.25
WRITES_MIN: Final = 20
"""A run that should have so many writes and has none is an error."""
STALL_EVERY_SECONDS: Final = 10.0
STALL_SECONDS_MAX: Final = 1.0
SAMPLES_MAX: Final = 400
"""Looks along a phase: an hour-long run is not looked at every second."""
QUIET_ROUNDS: Final = AWAITED_ROUNDS + 0.2
"""Longer than housekeeping's rhythm."""
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
    """What the checkers looked at."""
    writes: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    """What the faults did."""

    @property
    def passed(self) -> bool:
        return not self.failed


class Run:
    """`watch`: called about every virtual second with the run, for progress. `sampled`: look along the run, for a picture.
    `checkers`: names of those that look; all without."""

    def __init__(
        self,
        options: Options,
        *,
        watch: Callable[[Run], None] | None = None,
        sampled: bool = False,
        checkers: Sequence[str] = (),
    ) -> None:
        options.check()
        self.options = options
        self.mesh = Mesh(options.nodes, seed=options.seed, setup=options.setup())
        for host in self.mesh.hosts:
            host.cost = microseconds(units.seconds(options.cost))
        self.inspector = Inspector(self.mesh, checkers)
        self.critical = Critical(self.inspector.ground, options.critical, options.paths) if options.critical else None
        if self.critical is not None:
            self.inspector.add(self.critical)
        self.stage = Stage(self.mesh)
        self.meter = Meter(self.mesh)
        self.samples: list[tuple[float, float, float]] = []
        """(virtual seconds, share of the largest group of equal states, share of members taken for alive) along the run."""
        self.counters_at_start = (0, 0, 0)
        self.fault_start = self.fault_end = 0.0
        self._watch = watch
        self._sampled = sampled
        if options.script:
            self.script = parse(options.script)
        else:
            self.script = draw_history(options.seed, options.nodes, options.seconds, options.faults, options.pace())
        self.outcome = Outcome(options, self.script)

    @property
    def expected_seconds(self) -> float:
        """Virtual length of the run, if all goes well."""
        return self.options.settle_seconds() + self.options.seconds + REST_SECONDS

    def play(self) -> Outcome:
        outcome = self.outcome
        try:
            self._phases(outcome)
        except CheckFailure as failure:
            outcome.failed, outcome.failure = failure.name, str(failure)
        except SimulationError as error:
            outcome.failed, outcome.failure = "simulation", str(error)
        except Exception as error:  # noqa: BLE001  the core must not raise out of a turn: whatever does is what we look for
            outcome.failed, outcome.failure = "exception", "".join(traceback.format_exception(error)).strip()
        outcome.virtual_seconds = self.mesh.now
        outcome.digest = self.mesh.digest
        outcome.counts.update(self.inspector.counts)
        outcome.happened = self._happened()
        return outcome

    def _phases(self, outcome: Outcome) -> None:
        mesh, options = self.mesh, self.options
        mesh.start()
        self._pass(options.settle_seconds())
        self.counters_at_start = self.meter.counters()
        self.fault_start = mesh.now
        workload = Workload(
            mesh, self.inspector.calls, rate=options.rate, seconds=options.seconds, types=options.types, paths=options.paths
        )
        outcome.writes = workload.counts
        if self.critical is not None:
            self.critical.begin(options.seconds)
        stall(mesh, units.share(options.stalls), options.seconds)
        self.stage.play(self.script)
        self._pass(options.seconds)
        self.fault_end = mesh.now
        mesh.calm()
        began = mesh.now
        if not self._until_one(options.calm_bound()):
            raise CheckFailure("convergence", f"not one again after {options.calm_bound():g} s of calm: {self._difference()}")
        outcome.converged_after = mesh.now - began
        self._pass(REST_SECONDS)
        self.inspector.settled()
        if options.rest:
            self.inspector.rest.rested(QUIET_ROUNDS * mesh.preset.tidy.alone_seconds, options.rest)
            self.inspector.settled()
        self.stage.play(parse(options.finale))
        if options.rate * options.seconds >= WRITES_MIN and not (outcome.writes and self.inspector.oracle.keys):
            raise CheckFailure("vacuous", "nothing was written, or nothing of it was seen: this run proves nothing")

    def _pass(self, seconds: float) -> None:
        step = max(STEP_MIN_SECONDS, seconds / SAMPLES_MAX)
        while seconds > 0:
            self.mesh.run(min(step, seconds))
            seconds -= step
            self._look()

    def _until_one(self, bound: float) -> bool:
        """Looks every 50 ms, so that what follows does not depend on who watches."""
        end = self.mesh.now + bound
        while not self._is_one():
            if self.mesh.now >= end:
                return False
            self.mesh.run(0.05)
            for host in self.mesh.hosts:
                if not host.running:  # it was about to leave when the faults ended
                    self.mesh.restart(host.number)
            self._look()
        return True

    def _look(self) -> None:
        if self._sampled:
            self._sample()
        if self._watch is not None:
            self._watch(self)

    def _sample(self) -> None:
        mesh = self.mesh
        running = mesh.running
        if not running:
            return
        states = Counter(mesh.peer(number).replica.state_digest() for number in running)
        alive = sum(_alive(mesh.peer(number)) + 1 for number in running)
        self.samples.append((mesh.now, max(states.values()) / len(running), alive / len(running) / len(mesh.hosts)))

    def _happened(self) -> Counter[str]:
        """What faults really did: to datagrams, disks, clocks and processes. Zero: it may have been asked for, it never came."""
        network, disks = self.mesh.world.network, [host.disk for host in self.mesh.hosts if host.disk is not None]
        happened = Counter(self.mesh.world.marks)
        happened.update({f"datagrams dropped by {reason}": count for reason, count in network.dropped.items()})
        happened["datagrams duplicated"] = network.duplicated
        happened["datagrams reordered"] = network.reordered
        happened["datagrams waited for bandwidth"] = network.waited
        happened["disk refused a transaction"] = sum(disk.failures for disk in disks)
        happened["disk lost unsynced batches"] = sum(disk.lost_batches for disk in disks)
        happened["disk lost reported transactions"] = sum(disk.torn for disk in disks)
        happened["disk took 100 ms or more"] = sum(disk.slowest >= SECOND // 10 for disk in disks)
        happened["clock jumped or drifted"] = self.stage.played["clock"]
        happened["write refused by a wrong clock"] = self.outcome.writes["ClockWrong"]
        return +happened

    def _is_one(self) -> bool:
        mesh = self.mesh
        if any(host.paused or not host.running for host in mesh.hosts):
            return False
        count = len(mesh.hosts)
        return all(_alive(mesh.peer(number)) == count - 1 for number in range(count)) and mesh.converged()

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


def _alive(peer: Peer) -> int:
    """As many as `Swim.alive` lists."""
    return len(peer.swim.living) - len(peer.swim.suspects())


def stall(mesh: Mesh, share: float, seconds: float) -> None:
    """So many of the nodes stop now and then: about every ten seconds, each time for up to one second."""
    rng, end = mesh.world.rng("stalls"), mesh.world.time + microseconds(seconds)

    def again(number: int) -> None:
        at = mesh.world.time + microseconds(rng.uniform(0.5, 1.5) * STALL_EVERY_SECONDS)
        if at < end:
            mesh.world.at(at, lambda: stop(number))

    def stop(number: int) -> None:
        mesh.pause(number, rng.uniform(0.0, STALL_SECONDS_MAX))
        again(number)

    if share:
        for number in sorted(rng.sample(range(len(mesh.hosts)), max(1, round(share * len(mesh.hosts))))):
            again(number)


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
