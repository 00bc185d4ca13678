"""When an agent tidies up its shelf."""

from __future__ import annotations

import random

from mesh.housekeeping import AWAITED_ROUNDS, RIDE_SHARE, Tidying
from mesh.testing import open_mesh


def test_housekeeping_rides_with_a_write() -> None:
    """Regression: it went alone every ten seconds, also where somebody writes all the time; and what goes alone is not pushed, so
    that each of the others has to ask for it."""
    keys = 45  # odd, so that both write each of them in turn, and more than the patience, so that there is something to tidy
    with open_mesh(3, seed=1) as mesh:
        mesh.run(0.4)  # no write at the very moment at which it would go alone
        for second in range(140):
            mesh.node(second % 2).register(f"key/{second % keys}").set(second)
            mesh.run(1.0)
        replica = mesh.peer(2).replica
        held = sum(len(replica.cells(key)) for key in replica.keys(("key",)))
        assert keys < held <= keys + Tidying().patience_seconds + 2 * RIDE_SHARE * Tidying().alone_seconds, "cells were dropped"
        assert sum(mesh.peer(number).sync.counters.repairs for number in range(3)) == 0, "nobody asked"


def test_who_writes_now_and_then_tidies_with_its_writes() -> None:
    """Regression: at one write in five seconds each, as of 256 agents that share fifty a second, every seventh pause was longer
    than ten seconds; then housekeeping went alone, every other agent asked for it, and digests hurried while they did."""
    rng, keys = random.Random(3), 8
    with open_mesh(4, seed=1) as mesh:
        for second in range(160):
            mesh.run(1.0)
            for number in range(4):
                if rng.random() < 0.2:
                    mesh.node(number).register(f"key/{second % keys}").set(second)
        asked = sum(mesh.peer(number).sync.counters.repairs for number in range(4))
        held = sum(len(mesh.peer(0).replica.cells(key)) for key in mesh.peer(0).replica.keys(("key",)))
        assert held < 4 * keys, "and yet it is tidied"
        assert asked == 0, "nobody asked"


def test_who_writes_no_more_tidies_alone() -> None:
    tidying = Tidying()
    with open_mesh(2, seed=1) as mesh:
        mesh.node(0).register("key").set(1)
        mesh.run(1.0)
        mesh.node(1).register("key").set(2)
        mesh.run(AWAITED_ROUNDS * tidying.alone_seconds - 2.0)
        key = mesh.peer(1).replica.keys(("key",))[0]
        assert len(mesh.peer(1).replica.cells(key)) == 2
        mesh.run(tidying.patience_seconds + 2 * tidying.alone_seconds)
        assert len(mesh.peer(1).replica.cells(key)) == 1
