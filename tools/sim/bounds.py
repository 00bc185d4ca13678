"""Bounds: no datagram over the limit, no queue that grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consensus_escalation.chain import PROOFS_KEPT
from consensus_escalation.sessions import NAMES_MAX, OUTCOMES_MAX, WINDOW
from crdt.ops import Key
from mesh.events import Event
from mesh.housekeeping import Tidying
from mesh.peer import Peer
from mesh.permits import DRAFT_BYTES_MAX
from mesh.presets import LAN
from mesh.quorum.courier import WAITING_MAX as COURIER_MAX
from mesh.quorum.keeper import CHANGED_MAX
from mesh.quorum.signing import REMEMBERED_MAX
from mesh.sync.serve import RECENT_MAX
from mesh.testing import Host
from tools.sim.ground import Ground, Moment, seldom
from tools.sim.memory import containers

DATAGRAM_BYTES_MAX: Final = 1_200
"""DESIGN section 2: sealed, without IP and UDP headers."""
MEASURED_EVERY: Final = 512
"""Of a host's turns in a mesh of usual size, how many are followed by a look at its whole memory, which takes 5 ms.
In a larger one a look costs more by as much as it comes more seldom, so it stays below a tenth of a run."""
MEASURED_AT_END: Final = 64
"""Hosts that are looked at after the calm: those of a large mesh are all alike."""
FIXED: Final = {
    "RecentDeltas._raw": RECENT_MAX,
    "RecentDeltas._order": RECENT_MAX,
    "RecentDeltas._quiet": RECENT_MAX,
    "Counters.frames_sent": 256,
    "Counters.frames_received": 256,
    "Counters.frame_bytes_sent": 256,
    "Counters.frame_bytes_received": 256,
    "Beliefs._seen": 256,
    "Log._blocks": 3 * LAN.quorum.snapshot_blocks,
    "Chain.proofs": PROOFS_KEPT,
    "Chain._pending": 2 * LAN.quorum.snapshot_blocks,
    "Remembered._good": REMEMBERED_MAX,
    "Remembered._former": REMEMBERED_MAX,
    "Life.outcomes": WINDOW,
    "Sessions._lives": OUTCOMES_MAX,
    "Sessions._named": NAMES_MAX,
    "Sessions._names_of": NAMES_MAX,
    "Sessions._oldest_lives": OUTCOMES_MAX,
    "Sessions._oldest_names": NAMES_MAX,
    "Courier._left": COURIER_MAX,
    "Outbox._queues": 2 * LAN.quorum.window_blocks,
    "Raft._taken": 5 * LAN.quorum.pending_entries_max,
    "Keeper._changed": CHANGED_MAX,
    "Housekeeper._marks": int(Tidying().retire_anyway_seconds / Tidying().alone_seconds) + 2,
}
"""Containers with a limit of their own, which small meshes reach."""
SPARE: Final = 96
EACH: Final = 12
"""Entries for each member and each shelf that there ever was: sessions, budgets, counters, floors."""


class Datagrams:
    """No datagram is larger than the limit."""

    name = "datagrams"
    looks_at: Moment = "turns"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        if self._ground.mesh.world.network.largest > DATAGRAM_BYTES_MAX:
            self._ground.fail(self.name, host, f"a datagram of {self._ground.mesh.world.network.largest} bytes")

    def settled(self) -> None:
        self._ground.counts[self.name] += self._ground.mesh.world.network.delivered


class Memory:
    """Whatever a core keeps is its state, or bounded by how many members and shelves there are: a queue that nobody empties is
    found, whatever its name. While all is busy queues may fill, up to the largest limit of any."""

    name = "memory"
    looks_at: Moment = "turns"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._every = seldom(MEASURED_EVERY, len(ground.mesh.hosts))

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        if host.core is None or host.runs % self._every:
            return
        if host.core.replica.draft_size > 2 * DRAFT_BYTES_MAX:
            self._ground.fail(self.name, host, f"a draft of {host.core.replica.draft_size} bytes")
        self._look(host, RECENT_MAX)

    def settled(self) -> None:
        running = self._ground.mesh.running
        for number in running[:: -(-len(running) // MEASURED_AT_END) or 1]:
            self._look(self._ground.mesh.hosts[number], 0)

    def _look(self, host: Host[Peer], busy: int) -> None:
        mesh, core = self._ground.mesh, host.core
        assert core is not None
        self._ground.counts[self.name] += 1
        shelves = sum(each.starts for each in mesh.hosts)
        few = SPARE + busy + EACH * (len(mesh.hosts) + shelves)
        many = few + 4 * (
            len(core.replica.index.slots) + sum(len(base.own) + len(base.hosted) for base in core.replica.bases.values())
        )
        for name, count in containers(core).items():
            is_state = name.startswith(("crdt.", "mesh.sync.pins."))
            limit = FIXED.get(name.rpartition(".")[0].rpartition(".")[2] + "." + name.rpartition(".")[2], 0)
            if count > max(many if is_state else few, limit):
                self._ground.fail(
                    self.name, host, f"{name} holds {count} entries, of {len(mesh.hosts)} members and {shelves} shelves"
                )
