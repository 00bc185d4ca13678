"""A run is a function of its seed: the same digest on any machine and any Python.

`python -m tests.sim.digests` prints digests of a few runs, one a line. What must not change by itself is recorded in digests.txt:
the engine (random streams, delays, clocks, disks, the order of events) under a toy protocol, and what seeds draw. The digests of
the real core change with every change of the protocol, so they are not recorded but compared: between interpreters with other
hash seeds, and by this command between machines and versions of Python.

`--rewrite` records the output anew; do that only when the engine or the draw was changed on purpose.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from mesh.testing import Fixed, Link, LogNormal, PerLink, Uniform
from tests.sim.toy import toy_world, write
from tools.sim.faults import KINDS, draw_history
from tools.sim.history import run
from tools.sim.hunt import vary
from tools.sim.options import Options

FILE = Path(__file__).parent / "digests.txt"
DELAYS = (Fixed(700), Uniform(500, 9_000), LogNormal(4_000, 0.7), PerLink(1_000, 40_000, jitter=2_000, seed=5))
CORE_SEEDS = (1, 2, 3)


def engine(seed: int) -> str:
    """Of a toy gossip through loss, duplicates, a cut and a crash."""
    link = Link(delay=DELAYS[seed % len(DELAYS)], loss=0.1, duplicate=0.05, reorder=0.1, bandwidth=50_000)
    world = toy_world(6, seed=seed, link=link)
    for number in range(12):
        host = world.hosts[number % 6]
        if host.running:
            write(host, b"fact %d" % number)
        if number == 3:
            world.network.cut([0, 1], [2, 3, 4, 5])
        if number == 6:
            world.network.heal()
            world.hosts[4].crash()
        if number == 9:
            world.hosts[4].start()
            world.hosts[2].clock.set_drift(300.0, world.time)
        world.run(0.35)
    return world.digest


def draw(seed: int) -> str:
    """Of the options and the history that a hunt draws."""
    options = vary(Options(), seed, ())
    lines = [options.line(), *map(str, draw_history(seed, options.nodes, options.seconds, KINDS))]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def core(seed: int) -> str:
    """Of a run of the real core with drawn faults."""
    drawn = vary(Options(), seed, ())
    return run(replace(drawn, nodes=3, seconds=3.0)).digest


def recorded() -> list[str]:
    return [f"engine {seed} {engine(seed)}" for seed in range(4)] + [f"draw {seed} {draw(seed)}" for seed in range(4)]


def cores() -> list[str]:
    return [f"core {seed} {core(seed)}" for seed in CORE_SEEDS]


def main() -> None:
    lines = recorded()
    if "--rewrite" in sys.argv[1:]:
        FILE.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for line in [*lines, *cores()]:
        print(line)


if __name__ == "__main__":
    main()
