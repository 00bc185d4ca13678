"""Random histories of whole meshes, held to an oracle: every rule of the design at once, on the real classes.

    python -m tests.crdt.histories 0 10000             seeds 0..9999: cuts, loss, reordering, lying relays, hostile covers,
                                                       drafts, large values, restarts from old disks and without one
    python -m tests.crdt.histories 0 10000 -RETIRE     the same with one rule switched off: what that rule is for
    python -m tests.crdt.histories 0 10000 n=4 steps=80 paths=p
    python -m tests.crdt.histories 0 10000 tidy=1      calm moments in between, old disks more often

Housekeeping (drop, retire, repack, take over) runs at any moment, in any order. After each history the mesh heals, and then
what it shows and holds is checked by `tests.crdt.oracle`. `missing` counts the moments at which a replica did not show a
write that nothing it had seen replaces, `back` those at which it showed again what it had shown as replaced.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import fields
from typing import Any

from tests.crdt.oracle import check, check_rest, held_by, keep_house_until_rest
from tests.crdt.world import ALL_RULES, Options, World, Wrong


def run(seed: int, rules: frozenset[str] = ALL_RULES, options: Options | None = None) -> Counter[str]:
    """One history. Raises Wrong; returns what it exercised."""
    options = options or Options()
    world = World(seed, rules, options)
    for _ in range(options.steps):
        world.step()
        world.watch()
    world.cut, world.lying = set(), False
    for agent in world.agents:
        agent.seal()
    held = held_by(world)
    world.heal()
    if options.tidy:  # who came back from a backup learns from its peers how far it had been, and takes that over
        for agent in world.agents:
            agent.take_over()
        world.heal()
    check(world, held, "after heal")
    world.resting = True
    keep_house_until_rest(world, held)
    check_rest(world)
    digests = {agent.replica.state_digest() for agent in world.agents}
    if len(digests) != 1:
        raise Wrong("state digests differ")
    return world.count


def main(arguments: list[str]) -> int:
    first, number = int(arguments[0]), int(arguments[1])
    off = {argument[1:] for argument in arguments[2:] if argument.startswith("-")}
    if off - ALL_RULES:
        print(f"no such rules: {sorted(off - ALL_RULES)}; there are {sorted(ALL_RULES)}")
        return 2
    kinds = {one.name: str if one.name == "paths" else int for one in fields(Options)}
    pairs = [argument.split("=") for argument in arguments[2:] if "=" in argument]
    chosen: dict[str, Any] = {name: kinds[name](value) for name, value in pairs}
    options = Options(**chosen)
    wrong, total = 0, Counter[str]()
    for seed in range(first, first + number):
        try:
            total += run(seed, ALL_RULES - off, options)
        except AssertionError as error:
            wrong += 1
            if wrong <= 3:
                print(f"seed {seed}: {type(error).__name__}: {error!s:.240}")
    print(f"{number} histories, {wrong} wrong", dict(sorted(total.items())))
    return bool(wrong and not off)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
