"""Many runs, a fresh seed each, with drawn faults: the hunt for bugs.

What is not said on the command line is drawn by the seed too (swarm testing again): how many agents, what they write, which
links and clocks they have. A run is a function of the options that came out, so a failure is kept as one line of them, in a file
that the tests replay, with the command that plays it again.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mesh.testing import stream
from tools.sim.critical import may_happen
from tools.sim.faults import swarm
from tools.sim.history import Outcome, run
from tools.sim.options import Options
from tools.sim.workload import ACTS

SPACE: Final[dict[str, tuple[object, ...]]] = {
    "nodes": (3, 4, 4, 5, 5, 6, 8),
    "preset": ("lan", "lan", "lan", "lan", "robot_wifi"),
    "seconds": (6.0, 8.0, 10.0, 12.0, 16.0),
    "rate": (3.0, 8.0, 15.0, 30.0),
    "paths": (1, 2, 4),
    "delay": ("500us", "1-3ms", "1-3ms", "5-20ms", "links:2-40ms", "lognormal:4ms,0.7"),
    "loss": ("0%", "0%", "1%", "5%"),
    "warm": (True, True, False),
    "disks": (True, True, True, True, True, True, False),
    "drift": (0.0, 100.0, 500.0),
    "skew": ("0s", "2s", "60s"),
}
"""What a seed draws from. Small meshes and short phases: most bugs need few agents and few steps, and many runs."""
REACHED: Final = (
    "crash",
    "pause",
    "move",
    "leave",
    "restart, disk kept",
    "restart, disk lost",
    "restart, disk old",
    "datagrams dropped by cut",
    "datagrams dropped by loss",
    "datagrams dropped by mtu",
    "datagrams dropped by queue",
    "datagrams duplicated",
    "datagrams reordered",
    "datagrams waited for bandwidth",
    "disk refused a transaction",
    "disk lost unsynced batches",
    "disk lost reported transactions",
    "disk took 100 ms or more",
    "clock jumped or drifted",
    "write refused by a wrong clock",
)
"""What faults of all kinds together must have done in a long hunt, or it was vacuous (tools.sim.history)."""
OF_DISKS_THAT_LIE: Final = frozenset({"restart, disk lost", "restart, disk old", "disk lost reported transactions"})
"""Those that no quorum has to survive (tools.sim.critical.OUTSIDE)."""
LONG: Final = 200
"""Runs from which on that is asked."""


def vary(options: Options, seed: int, given: Iterable[str]) -> Options:
    """The options of this seed: what is `given` stays as it is."""
    rng: random.Random = stream(seed, "options")
    changes: dict[str, object] = {name: rng.choice(values) for name, values in SPACE.items()}
    count = rng.randint(3, len(ACTS))
    changes["types"] = tuple(sorted(rng.sample(sorted(ACTS), count)))
    changes["faults"] = may_happen(swarm(rng)) if options.critical else swarm(rng)
    if options.critical:
        changes["disks"] = True  # a voter that starts again without its disk votes no more, and soon nobody is left
    if options.introduced:
        changes["warm"] = True  # who is introduced knows everybody
    drawn = {name: value for name, value in changes.items() if name not in set(given)}
    return replace(options, seed=seed, **drawn)  # type: ignore[arg-type]  # by the names above


@dataclass(slots=True)
class Bag:
    """What came of many runs."""

    is_critical: bool = False
    runs: int = 0
    failures: list[Outcome] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    virtual_seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.checked.update(outcome.counts)
        self.happened.update(outcome.happened)
        self.written.update(outcome.writes)
        self.virtual_seconds += outcome.virtual_seconds
        if not outcome.passed:
            self.failures.append(outcome)

    def never(self) -> list[str]:
        """Faults that never did anything in a hunt long enough to expect it."""
        possible = [name for name in REACHED if not (self.is_critical and name in OF_DISKS_THAT_LIE)]
        return [name for name in possible if not self.happened[name]] if self.runs >= LONG else []


def hunt(all_options: Iterable[Options], jobs: int) -> Iterator[Outcome]:
    """Outcomes as they come, on so many processes; with one, in this process and in order."""
    if jobs == 1:
        yield from map(run, all_options)
        return
    # Few at a time: what is asked for in a time is not known before it has passed.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: set[Future[Outcome]] = set()
        for options in all_options:
            running.add(pool.submit(run, options))
            if len(running) >= 2 * jobs:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in as_completed(running))


def until(seconds: float, first: int, options_of: Callable[[int], Options]) -> Iterator[Options]:
    """Options of fresh seeds, from the first on, for so long."""
    end, seed = time.monotonic() + seconds, first
    while time.monotonic() < end:
        yield options_of(seed)
        seed += 1


def keep(path: Path, outcome: Outcome) -> None:
    """Append a failure to a file of seeds; tests/sim/failing_seeds.txt has the same format."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n# {outcome.failure.splitlines()[-1]}\n# {outcome.options.command()}\n{outcome.options.line()}\n")
