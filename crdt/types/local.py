"""A replica with the entry points of all types, for programs without a network.

local = Local(shelf, now_wall=clock)
local.register("robots/7/pose").set([1, 2])
deltas = local.seal()
"""

from __future__ import annotations

from crdt.replica import Replica
from crdt.types.handles import Handles


class Local(Replica, Handles):
    """`now_wall` gives microseconds. Without it times only count this replica's writes, and decide between concurrent ones."""
