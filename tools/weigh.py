"""What a replica's state weighs, beside that of one that has just written what is shown."""

from __future__ import annotations

import crdt
from crdt.housekeeping import ENTRY_BYTES
from crdt.ids import ReplicaId, shelf_id


def state_bytes(replica: crdt.Replica) -> int:
    """What this replica holds of all shelves: their bodies, and what lists and stores keep beside each."""
    held = sum(len(held.body.raw) + ENTRY_BYTES for base in replica.bases.values() for held in base.everything())
    return held + sum(len(loose.delta.body) + ENTRY_BYTES for shelf in replica.loose.values() for loose in shelf.values())


def fresh_bytes(replica: crdt.Replica) -> int:
    """What a replica holds that writes what this one shows, and never wrote anything else."""
    fresh = crdt.Replica(shelf_id(ReplicaId(b"fresh..."), 1))
    for key in replica.keys(()):
        for op in replica.shown(key):
            fresh.draft(*key, op.payload, now_wall=op.time)
    fresh.seal()
    return state_bytes(fresh)
