"""What a node shows: the reading half of a node. Pure: `mesh.node.Node` adds what writes, waits and talks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from crdt.ids import ShelfId
from crdt.native import mypyc_attr
from crdt.ops import Key, Op, Path
from crdt.types import format_path, value_key
from mesh.critical.view import CRITICAL, read_critical
from mesh.feed import Watchers
from mesh.peer import Peer
from mesh.values import Reading, read_value, value_keys


@mypyc_attr(allow_interpreted_subclasses=True)
class Readings:
    """`crdt.types.base.Shows`, most of `mesh.feed.Source`, and whom changes are told."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._watchers = Watchers()

    def _tell(self, keys: Sequence[Key]) -> None:
        for watcher in self._watchers.all:
            watcher.changed(keys)

    @property
    def caught_up(self) -> bool:
        """Whether this node was in step with a peer since it started, or found nobody to ask."""
        return self._peer.synced

    @property
    def shelf(self) -> ShelfId:
        return self._peer.replica.shelf

    @property
    def inherited(self) -> frozenset[ShelfId]:
        return self._peer.replica.inherited

    @property
    def next_dot(self) -> int:
        return self._peer.replica.next_dot

    def shelves(self) -> Sequence[ShelfId]:
        return self._peer.replica.shelves()

    def cells(self, key: Key, /) -> Sequence[Op]:
        return self._peer.cells(key)

    def shown(self, key: Key, /) -> Sequence[Op]:
        return self._peer.shown(key)

    def keys(self, prefix: Path, /) -> Iterable[Key]:
        return self._peer.replica.keys(prefix)

    def keys_at(self, path: Path, /) -> Iterable[Key]:
        return self._peer.replica.keys_at(path)

    def leaves(self, parent: Path, type: int, /, *, reverse: bool = False) -> Iterator[Key]:
        return self._peer.replica.leaves(parent, type, reverse=reverse)

    def watched_keys(self, prefix: Path) -> Iterator[Key]:
        yield from value_keys(self, prefix)
        yield from self._critical_keys(prefix)

    def watched_key(self, key: Key) -> Key:
        return key if key[0] == CRITICAL else value_key(key)

    def read_value(self, key: Key) -> Reading:
        return read_critical(self._peer.quorum.chain, key[1]) if key[0] == CRITICAL else read_value(self, key)

    def _critical_keys(self, prefix: Path) -> list[Key]:
        chain = self._peer.quorum.chain
        paths = [path for path, _ in chain.machine.cells() if path[: len(prefix)] == prefix] if chain is not None else []
        return [(CRITICAL, path) for path in sorted(paths, key=format_path)]
