"""What all checkers share: the mesh, the oracle, counts, and how something that must not be is told."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from crdt.ids import ShelfId
from crdt.ops import Key
from mesh.events import Event, MemberDown, MemberLeft, MemberUp
from mesh.housekeeping import Tidying
from mesh.peer import Peer
from mesh.testing import SECOND, Host, Mesh, SimulationError
from mesh.testing.clock import microseconds
from tools.sim.calls import Calls
from tools.sim.oracle import Oracle

FORMING_SHARE: Final = 0.1
"""Of housekeeping's patience. A mesh that forms for the first time has nothing to catch up with."""
IN_TOUCH_SHARE: Final = 28 / 30
"""Of the patience. A replica that was in touch for so long sees no flicker; the rest is for what is under way."""
SAMPLES: Final = 28
"""Of all floors, kept from within that time."""
USUAL_NODES: Final = 32


Moment: TypeAlias = Literal["turns", "changes", "events", "end"]
"""All turns of a host; those that changed something in its views; those that told its user something; none until the end. Most
turns of a large mesh have nothing for most checkers."""


def seldom(every: int, hosts: int) -> int:
    """How seldom a costly look is taken in a mesh of so many hosts, when it is one in `every` in a mesh of up to USUAL_NODES
    or less. Each write makes as many turns as there are hosts, so it is looked at as often in a mesh of any size.
    """
    return every * max(1, hosts // USUAL_NODES)


class CheckFailure(SimulationError):
    """A checker found what must not be. `name` is the checker's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class Checker(Protocol):
    name: str
    looks_at: Moment

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        """After every turn of a running host at which there is what it looks at."""

    def settled(self) -> None:
        """After the calm phase."""


@dataclass(slots=True)
class Ground:
    """What checkers share."""

    mesh: Mesh
    oracle: Oracle
    calls: Calls
    counts: Counter[str]

    def fail(self, name: str, host: Host[Peer] | int | None, text: str) -> None:
        where = "" if host is None else f"host {host if isinstance(host, int) else host.number}: "
        raise CheckFailure(name, f"{where}{text} (at {self.mesh.world.time / SECOND:.6f} s)")

    def key(self, key: Key) -> str:
        return f"type {key[0]} at {'/'.join(map(str, key[1]))}"


class Touch:
    """Who was out of touch lately. Housekeeping waits so that views do not flicker, but not for ever (DESIGN section 1)."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        seconds = max(mesh.preset.tidy.patience_seconds, Tidying().patience_seconds)  # who has none, as tests do, flickers
        patience = microseconds(seconds)
        self._forming = int(FORMING_SHARE * patience)
        self._patience = int(IN_TOUCH_SHARE * patience)
        self._apart_at: dict[int, int] = {}
        self.due_at = 0
        """World time from which on `turned` has something to do without events, too."""
        self._floors: deque[tuple[int, dict[ShelfId, int]]] = deque()
        self._numbers = {membership.replica_id: number for number, membership in enumerate(mesh.memberships)}

    def started(self, number: int) -> None:
        if self._mesh.world.time > self._forming:
            self._apart_at[number] = self._mesh.world.time

    def turned(self, host: Host[Peer], events: Sequence[Event]) -> None:
        time = self._mesh.world.time
        for event in events if events and time > self._forming else ():
            if isinstance(event, MemberDown | MemberLeft | MemberUp):
                self._apart_at[host.number] = self._apart_at[self._numbers[event.replica]] = time
        if time >= self.due_at:
            self.due_at = time + self._patience // SAMPLES
            peers = [self._mesh.peer(number).replica for number in self._mesh.running]
            self._floors.append((time, {replica.shelf: replica.floor(replica.shelf) for replica in peers}))
            while len(self._floors) > 1 and self._floors[1][0] <= time - self._patience:
                self._floors.popleft()

    def is_behind(self, host: Host[Peer]) -> bool:
        """It was down, alone or given up within the patience, or lacks what its authors had that long ago."""
        time = self._mesh.world.time
        apart_at = self._apart_at.get(host.number)
        if host.core is None or (apart_at is not None and time - apart_at < self._patience):
            return True
        since, floors = self._floors[0]
        if since > time - self._patience:
            return False
        replica = host.core.replica
        return any(replica.reached(shelf) < floor for shelf, floor in floors.items())
