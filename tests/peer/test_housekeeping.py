"""When an agent tidies up its shelf."""

from __future__ import annotations

from mesh.housekeeping import RIDE_SHARE, Tidying
from mesh.testing import open_mesh


def test_housekeeping_rides_with_a_write() -> None:
    """Regression: it went alone every ten seconds, also where somebody writes all the time; and what goes alone is not pushed, so
    that each of the others has to ask for it."""
    with open_mesh(3, seed=1) as mesh:
        for second in range(90):
            mesh.node(second % 2).register("key").set(second)
            mesh.run(1.0)
        replica = mesh.peer(2).replica
        assert len(replica.cells((mesh.node(0).register("key")._type.code, ("key",)))) == 2
        held = sum(len(replica.bases[mesh.peer(number).replica.shelf].own) for number in range(2))
        assert held <= 2 * (Tidying().patience_seconds + RIDE_SHARE * Tidying().alone_seconds), "cells were dropped"
        assert sum(mesh.peer(number).sync.counters.repairs for number in range(3)) == 0, "nobody asked"
