"""When an agent tidies up its shelf."""

from __future__ import annotations

from mesh.housekeeping import RIDE_SHARE, Tidying
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
