"""What is on the disk may be acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mesh.peer import Peer
from mesh.store.memory import Store
from mesh.store.rows import Batch


class Durability:
    """Between driver and store: tells the core which batches are on the disk, so that it may acknowledge what is in them."""

    def __init__(self, store: Store, peer: Peer, acknowledge: Callable[[], None]) -> None:
        self._store, self._peer, self._acknowledge = store, peer, acknowledge
        self._waiting: deque[tuple[int, Batch]] = deque()
        store.on_durable = self._durable

    def submit(self, batch: Batch) -> None:
        number = self._store.submit(batch)
        if number > self._store.durable:
            self._waiting.append((number, batch))
        else:
            self._peer.committed(batch)

    def _durable(self) -> None:
        awaited = False
        while self._waiting and self._waiting[0][0] <= self._store.durable:
            awaited |= self._peer.committed(self._waiting.popleft()[1])
        if awaited:
            self._acknowledge()
