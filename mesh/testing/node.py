"""What a program on a simulated host sees: the handles, members and events of `mesh.Node`, without trio.

What a real node awaits (`flush`, `replicated`) is a question here, to be used with `Mesh.run_until`, since time stands still
between calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from crdt.ids import Dot, ReplicaId, ShelfId
from crdt.ops import Key, Op, Path, Value
from crdt.types import CoverPolicy, Handles, PathLike
from mesh.effects import Address
from mesh.events import Event
from mesh.paths import parse_path
from mesh.peer import Peer
from mesh.secrecy.manage import encrypt
from mesh.secrecy.prefixes import parse_pattern
from mesh.swim.roster import Member
from mesh.testing.world import Host
from mesh.values import Entry, history_of


class Written(NamedTuple):
    """A write that has just been made."""

    host: int
    key: Key
    dot: Dot
    before: list[Op]
    """The cells that its author held at the key."""
    removed: bool
    covers: CoverPolicy
    while_alive: bool


class VirtualNode(Handles):
    """One agent of a simulated mesh. It stays the same across crashes; while its host is down, every use raises ValueError."""

    def __init__(self, host: Host[Peer]) -> None:
        self._host = host
        self.told: list[Event] = []
        """Every event so far, oldest first, those of former processes too."""
        self.on_write: list[Callable[[Written], None]] = []
        """Told of every write made here, after it; for oracles."""
        self._last_dot: Dot | None = None

    @property
    def peer(self) -> Peer:
        if self._host.core is None:
            raise ValueError(f"host {self._host.number} is down")
        return self._host.core

    @property
    def address(self) -> Address:
        return self._host.address

    @property
    def replica_id(self) -> ReplicaId:
        return self.peer.replica_id

    @property
    def name(self) -> str:
        return self.peer.directory.name(self.replica_id)

    @property
    def caught_up(self) -> bool:
        return self.peer.synced

    def members(self) -> list[Member]:
        """All others that are known, sorted by id."""
        return self.peer.swim.members()

    def statistics(self) -> dict[str, Any]:
        return self.peer.statistics()

    def history(self, path: PathLike) -> list[Entry]:
        """Every live write at this path: its author, and why it is shown or not."""
        return history_of(self, parse_path(path), self.peer.directory.name)

    def encrypt(self, pattern: str, readers: Iterable[ReplicaId]) -> int:
        """As `mesh.Node.encrypt`, by ids."""
        peer, prefix = self.peer, parse_pattern(pattern)
        return encrypt(peer.vault, prefix, list(readers), me=peer.replica_id, directory=peer.directory, write=self.draft)

    def is_flushed(self) -> bool:
        """Whether everything written so far is on this host's disk; true without a disk."""
        disk, dot = self._host.disk, self._last_dot
        if dot is not None and dot.origin == self.shelf and self.peer.replica.floor(self.shelf) < dot.seq:
            return False  # not sealed yet
        return disk is None or disk.pending == 0

    def copies(self) -> int:
        """How many other replicas have said that they hold everything written so far."""
        dot = self._last_dot
        return self.peer.replicated(dot) if dot is not None and dot.origin == self.shelf else 0

    # --- crdt.types.Store: what handles read and write through

    @property
    def shelf(self) -> ShelfId:
        return self.peer.replica.shelf

    @property
    def inherited(self) -> frozenset[ShelfId]:
        return self.peer.replica.inherited

    @property
    def next_dot(self) -> int:
        return self.peer.replica.next_dot

    def shelves(self) -> Sequence[ShelfId]:
        return self.peer.replica.shelves()

    def cells(self, key: Key, /) -> Sequence[Op]:
        return self.peer.cells(key)

    def shown(self, key: Key, /) -> Sequence[Op]:
        return self.peer.shown(key)

    def keys(self, prefix: Path, /) -> Iterable[Key]:
        return self.peer.replica.keys(prefix)

    def keys_at(self, path: Path, /) -> Iterable[Key]:
        return self.peer.replica.keys_at(path)

    def leaves(self, parent: Path, type: int, /, *, reverse: bool = False) -> Iterator[Key]:
        return self.peer.replica.leaves(parent, type, reverse=reverse)

    def draft(
        self,
        type: int,
        path: Path,
        payload: Value,
        *,
        removed: bool = False,
        covers: CoverPolicy = "all",
        while_alive: bool = False,
    ) -> Dot:
        """Visible here at once, sent as soon as virtual time goes on. Raises subclasses of WriteRefused."""
        host, key = self._host, (type, path)
        before = list(self.cells(key)) if self.on_write else []
        dot = self.peer.draft(type, path, payload, removed=removed, covers=covers, while_alive=while_alive, now=host.now())
        self._last_dot = dot
        host.wrote()
        for told in self.on_write:
            told(Written(host.number, key, dot, before, removed, covers, while_alive))
        return dot
