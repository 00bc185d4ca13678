"""Hours of membership on virtual time: is anybody buried who lives, how soon is a crash known to all, what does it cost?

    python -m tests.swim.soak --agents 64 --hours 4 --loss 0.1 --stalling 0.05

Exit status 1 when there was a false death.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import dataclass, field, replace

from crdt.ids import ReplicaId
from mesh.events import Event, MemberDown, MemberSuspected
from mesh.presets import PRESETS
from mesh.swim import SwimConfig
from mesh.swim.roster import State
from tests.swim.harness import Agent, Mesh

STALL_PAUSE_SECONDS = 10.0
"""Between two stalls of one stalling agent, on average, at least half of it: two in a row would be one longer stall."""
CRASH_PAUSE_SECONDS = 30.0
DOWN_SECONDS_MAX = 60.0
"""A crash that is not known to all by then is a failure."""


@dataclass
class Report:
    false_deaths: list[str] = field(default_factory=list)
    detections: list[float] = field(default_factory=list)
    """Seconds from a crash until every running agent knew."""
    suspicions_of_living: int = 0
    stalls: int = 0
    bytes_per_second: float = 0.0

    def lines(self) -> list[str]:
        found = sorted(self.detections)
        lines = [
            f"false deaths      {len(self.false_deaths)}",
            f"false suspicions  {self.suspicions_of_living} (one per suspect and observer)",
            f"stalls            {self.stalls}",
            f"bytes/s, agent    {self.bytes_per_second:.0f} sent, headers included",
        ]
        if found:
            p50, p99 = found[len(found) // 2], found[min(len(found) - 1, len(found) * 99 // 100)]
            lines.append(f"crash known to all, {len(found)} crashes: p50 {p50:.2f} s  p99 {p99:.2f} s  max {found[-1]:.2f} s")
        return lines + self.false_deaths[:20]


class Soak:
    """A mesh under loss and stalls, with a crash and a restart now and then."""

    def __init__(self, mesh: Mesh, *, stalling: float, stall_max: float, crashes: bool, seed: int) -> None:
        self.mesh = mesh
        self.report = Report()
        self._rng = random.Random(seed)
        self._crashes = crashes
        self._stall_max = stall_max
        self._down: dict[ReplicaId, float] = {}
        mesh.observers.append(self._observe)
        numbers = sorted(mesh.agents)
        for number in self._rng.sample(numbers, round(len(numbers) * stalling)):
            self._stall_later(number)

    def run(self, seconds: float) -> Report:
        mesh, end = self.mesh, self.mesh.time + seconds
        sent = sum(agent.sent_bytes for agent in mesh.agents.values())
        began = mesh.time
        while mesh.time < end:
            mesh.run(min(end - mesh.time, CRASH_PAUSE_SECONDS * self._rng.uniform(0.5, 1.5)))
            if self._crashes and mesh.time < end:
                sent -= self._crash_and_restart()
        total = sum(agent.sent_bytes for agent in mesh.agents.values())
        self.report.bytes_per_second = (total - sent) / (mesh.time - began) / len(mesh.agents)
        return self.report

    def _crash_and_restart(self) -> int:
        """Returns the bytes that the crashed process had sent: its counter starts again."""
        mesh = self.mesh
        victim = self._rng.choice(sorted(mesh.agents)[1:])
        process = mesh.agents[victim]
        self._down[process.replica] = began = mesh.crash(victim)
        while not mesh.all_see(victim, State.DEAD) and mesh.time - began < DOWN_SECONDS_MAX:
            mesh.run(0.01)
        self.report.detections.append(mesh.time - began)
        mesh.run(self._rng.uniform(0.5, 5.0))
        mesh.start(victim, incarnation=process.swim.incarnation, known=process.swim.snapshot())
        mesh.run(0.001)
        del self._down[process.replica]
        return process.sent_bytes

    def _observe(self, agent: Agent, event: Event) -> None:
        mesh = self.mesh
        if isinstance(event, MemberDown) and event.replica not in self._down:
            self.report.false_deaths.append(f"{mesh.time:.2f} s: agent {agent.number} buried {event.name}, who lives")
        elif isinstance(event, MemberSuspected) and event.replica not in self._down:
            self.report.suspicions_of_living += 1

    def _stall_later(self, number: int, after: float = 0.0) -> None:
        self.mesh.after(after + STALL_PAUSE_SECONDS * self._rng.uniform(0.5, 1.5), self._stall, number)

    def _stall(self, number: int) -> None:
        length = self._rng.uniform(0.0, self._stall_max)
        if self.mesh.agents[number].running:
            self.report.stalls += 1
            self.mesh.stall(number, length)
        self._stall_later(number, length)


def changed(config: SwimConfig, assignments: list[str]) -> SwimConfig:
    """With other numbers, to see what a default is worth."""
    numbers: dict[str, float] = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        numbers[name] = type(getattr(config, name))(value)
    return replace(config, **numbers)  # type: ignore[arg-type]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--hours", type=float, default=0.1)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="lan")
    parser.add_argument("--loss", type=float, default=0.1)
    parser.add_argument("--stalling", type=float, default=0.05, help="share of agents that stand still now and then")
    parser.add_argument("--stall-max", type=float, default=1.0, help="seconds")
    parser.add_argument("--no-crashes", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="numbers of the preset to change")
    options = parser.parse_args()
    print("soak", " ".join(f"{name}={value}" for name, value in vars(options).items()))
    wall = time.perf_counter()
    config = changed(PRESETS[options.preset].swim, options.set)
    mesh = Mesh(options.agents, seed=options.seed, config=config, loss=options.loss)
    print(f"settled after {mesh.settle(120):.1f} s")
    soak = Soak(mesh, stalling=options.stalling, stall_max=options.stall_max, crashes=not options.no_crashes, seed=options.seed)
    report = soak.run(options.hours * 3600)
    print("\n".join(report.lines()))
    print(f"{mesh.time:.0f} virtual seconds in {time.perf_counter() - wall:.0f} s; trace {mesh.trace}")
    return 1 if report.false_deaths else 0


if __name__ == "__main__":
    sys.exit(main())
