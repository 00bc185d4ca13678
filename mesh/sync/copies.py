"""Copies: who else has this shelf, as durably as they promise, and telling others what is durable here.

Acknowledgements ride in every digest; whoever waits for copies asks, and is answered as soon as the disk has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from crdt.ids import ReplicaId, ShelfId
from mesh.port import Port
from mesh.sync.messages import Floor, FloorNote, Purpose
from mesh.wire.frames import Frame, Lane


class Copies:
    """`durable`: there is a disk, and only what the store reported as committed is acknowledged."""

    def __init__(self, me: ShelfId, port: Port, floor_of: Callable[[ShelfId], Floor | None], *, durable: bool) -> None:
        self._me = me
        self._port = port
        self._floor_of = floor_of
        self._acknowledged: dict[ReplicaId, int] = {}
        self._asked_by: dict[ReplicaId, Floor] = {}
        self._committed: dict[ShelfId, int] | None = {} if durable else None

    def begin_again(self, me: ShelfId) -> None:
        """With another shelf, of which nobody has anything yet."""
        self._me = me
        self._acknowledged.clear()

    # ---- who has mine

    def count(self, seq: int) -> int:
        """How many others said that they hold this shelf up to seq."""
        return sum(floor >= seq for floor in self._acknowledged.values())

    def at_all(self, seq: int, peers: Iterable[ReplicaId]) -> bool:
        return all(self._acknowledged.get(peer, 0) >= seq for peer in peers)

    def ask(self, peers: Iterable[ReplicaId]) -> None:
        """Ask those that have not said that they hold all of it."""
        floor = self._floor_of(self._me)
        if floor:
            note = FloorNote((floor,), Purpose.ASK_DURABLE).encode()
            for peer in peers:
                if self._acknowledged.get(peer, 0) < floor.seq:
                    self._port.send(peer, Lane.FRESH, Frame.FLOOR, note)

    def told(self, peer: ReplicaId, floor: Floor) -> None:
        """An acknowledgement; of more than there is, it is not believed."""
        mine = self._floor_of(self._me)
        if floor.shelf == self._me and mine and floor.seq <= mine.seq:
            self._acknowledged[peer] = max(floor.seq, self._acknowledged.get(peer, 0))

    # ---- what I have

    @property
    def awaited(self) -> bool:
        """Whether a peer asked for what is not here, or not on the disk."""
        return bool(self._asked_by)

    def durable_floor(self, shelf: ShelfId) -> Floor | None:
        """What may be acknowledged of this shelf."""
        floor = self._floor_of(shelf)
        if floor is None:
            return None
        seq = self.durable_seq(shelf)
        if seq is None or seq >= floor.seq:
            return floor.naming(())
        return Floor(shelf, seq, floor.hash4 if seq else b"")

    def durable_seq(self, shelf: ShelfId) -> int | None:
        """Up to where the disk has it; None where there is no disk."""
        return None if self._committed is None else self._committed.get(shelf, 0)

    def asked(self, peer: ReplicaId, floor: Floor) -> None:
        self._asked_by[peer] = floor
        self.moved(floor.shelf)

    def let_go(self, shelf: ShelfId) -> None:
        """Nothing of it is here any more."""
        if self._committed is not None and shelf != self._me:
            self._committed.pop(shelf, None)

    def moved(self, shelf: ShelfId) -> None:
        """More of it is here, or on the disk: whoever asked may have its answer."""
        if not self._asked_by:
            return
        for peer, asked in [(peer, asked) for peer, asked in self._asked_by.items() if asked.shelf == shelf]:
            floor = self.durable_floor(shelf)
            if floor and floor.seq >= asked.seq:
                del self._asked_by[peer]
                self._port.send(peer, Lane.FRESH, Frame.FLOOR, FloorNote((floor,), Purpose.SAY_DURABLE).encode())

    def committed(self, floors: Mapping[ShelfId, int]) -> None:
        assert self._committed is not None
        for shelf, seq in floors.items():
            self._committed[shelf] = max(seq, self._committed.get(shelf, 0))
            self.moved(shelf)

    def forget(self, peer: ReplicaId) -> None:
        self._asked_by.pop(peer, None)

    def started_again(self, peer: ReplicaId) -> None:
        """A new session: what it had in memory before may be gone with its process, until it says otherwise."""
        self._acknowledged.pop(peer, None)
