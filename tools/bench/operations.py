"""What CRDT operations cost, here and in libraries of others: one process, no network, CPU time of one core.

Every library does the same: one author sets keys of a map, one update after each, and another document takes these updates;
then many keys in one update; then appends to a list. Ours twice: the bare `crdt` package, as unsigned as the others are, and
with each update signed by its author and verified by the reader, as the mesh does.
"""

from __future__ import annotations

import importlib
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any, Final, Protocol

from crdt.delta import delta_from_parts_untrusted
from crdt.ids import ReplicaId, replica_of, shelf_id
from crdt.types.local import Local
from mesh.wire.delta import delta_bytes
from tools.measure.micro import Author

SINGLE: Final = 2_000
KEYS: Final = 200
BATCH: Final = 5_000
APPENDS: Final = 1_000


class Document(Protocol):
    """One author, one reader, and the updates between them."""

    def set(self, key: str, value: float) -> None: ...

    def append(self, value: int) -> None: ...

    def batch(self) -> AbstractContextManager[Any]:
        """Writes inside go into as few updates as can be."""

    def updates(self) -> list[bytes]:
        """What the writes since the last call have to say to others."""

    def read(self, updates: list[bytes]) -> None:
        """The reader takes them."""

    def read_value(self, key: str) -> Any:
        """What the reader shows: so that a run which lost a write is no run."""


class Shelves:
    """Ours: signed and verified, or not."""

    def __init__(self, *, signed: bool) -> None:
        self._author = Author() if signed else None
        self._writer = self._author.replica if self._author else Local(shelf_id(ReplicaId(bytes(8)), 1))
        self._reader = self._author.receiver() if self._author else Local(shelf_id(ReplicaId(bytes(8)), 2))

    def set(self, key: str, value: float) -> None:
        self._writer.register(("robots", key)).set(value)

    def append(self, value: int) -> None:
        self._writer.list("tasks").append(value)

    def batch(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def updates(self) -> list[bytes]:
        deltas = self._writer.seal()
        if self._author:
            return [delta_bytes(delta) for delta in deltas]
        return [len(delta.header_bytes).to_bytes(2, "big") + delta.header_bytes + delta.body for delta in deltas]

    def read(self, updates: list[bytes]) -> None:
        for raw in updates:
            if self._author:
                self._author.apply(self._reader, raw)
            else:
                size = int.from_bytes(raw[:2], "big")
                header, body = raw[2 : 2 + size], raw[2 + size :]
                self._reader.receive(delta_from_parts_untrusted(replica_of(self._writer.shelf), header, b"", body))

    def read_value(self, key: str) -> Any:
        return self._reader.register(("robots", key)).value


class Pycrdt:
    def __init__(self) -> None:
        pycrdt = importlib.import_module("pycrdt")
        self._writer, self._reader = pycrdt.Doc(), pycrdt.Doc()
        self._map = self._writer.get("robots", type=pycrdt.Map)
        self._list = self._writer.get("tasks", type=pycrdt.Array)
        self._seen = self._reader.get("robots", type=pycrdt.Map)
        self._reader.get("tasks", type=pycrdt.Array)
        self._updates: list[bytes] = []
        self._writer.observe(lambda event: self._updates.append(event.update))

    def set(self, key: str, value: float) -> None:
        self._map[key] = value

    def append(self, value: int) -> None:
        self._list.append(value)

    def batch(self) -> AbstractContextManager[Any]:
        transaction: AbstractContextManager[Any] = self._writer.transaction()
        return transaction

    def updates(self) -> list[bytes]:
        updates = list(self._updates)
        self._updates.clear()
        return updates

    def read(self, updates: list[bytes]) -> None:
        for update in updates:
            self._reader.apply_update(update)

    def read_value(self, key: str) -> Any:
        return self._seen[key]


class Loro:
    def __init__(self) -> None:
        loro = importlib.import_module("loro")
        self._writer, self._reader = loro.LoroDoc(), loro.LoroDoc()
        self._map, self._list = self._writer.get_map("robots"), self._writer.get_list("tasks")
        self._updates: list[bytes] = []
        self._subscription = self._writer.subscribe_local_update(self._keep)

    def _keep(self, update: bytes) -> bool:
        self._updates.append(bytes(update))
        return True

    def set(self, key: str, value: float) -> None:
        self._map.insert(key, value)

    def append(self, value: int) -> None:
        self._list.push(value)

    def batch(self) -> AbstractContextManager[Any]:
        return nullcontext()  # a commit ends one anyway

    def updates(self) -> list[bytes]:
        self._writer.commit()
        updates = list(self._updates)
        self._updates.clear()
        return updates

    def read(self, updates: list[bytes]) -> None:
        for update in updates:
            self._reader.import_(update)

    def read_value(self, key: str) -> Any:
        return self._reader.get_map("robots").get_value()[key]


DOCUMENTS: Final[dict[str, Callable[[], Document]]] = {
    "signed": lambda: Shelves(signed=True),
    "unsigned": lambda: Shelves(signed=False),
    "pycrdt": Pycrdt,
    "loro": Loro,
}


def run(library: str) -> dict[str, float]:
    """The figures of one library. For a process of its own."""
    rng = random.Random(1)
    _single(DOCUMENTS[library](), 200, rng)  # warm-up
    return _single(DOCUMENTS[library](), SINGLE, rng) | _batched(DOCUMENTS[library](), rng) | _appends(DOCUMENTS[library]())


def _single(document: Document, writes: int, rng: random.Random) -> dict[str, float]:
    updates: list[bytes] = []
    value = 0.0

    def write() -> None:
        nonlocal value
        for number in range(writes):
            value = rng.random()
            document.set(f"r{number % KEYS:03}/battery_v", value)
            updates.extend(document.updates())

    writing = _cpu_seconds(write)
    reading = _cpu_seconds(lambda: document.read(updates))
    _require(document.read_value(f"r{(writes - 1) % KEYS:03}/battery_v") == value)
    sizes = [len(update) for update in updates]
    return {"write": writes / writing, "apply": len(updates) / reading, "bytes": median(sizes)}


def _batched(document: Document, rng: random.Random) -> dict[str, float]:
    values = [rng.random() for _ in range(BATCH)]

    def write() -> None:
        with document.batch():
            for number, value in enumerate(values):
                document.set(f"r{number // 20:03}/value-{number % 20:02}", value)
        updates.extend(document.updates())

    updates: list[bytes] = []
    writing = _cpu_seconds(write)
    reading = _cpu_seconds(lambda: document.read(updates))
    _require(document.read_value("r007/value-11") == values[151])
    size = sum(len(update) for update in updates)
    return {"write_batched": BATCH / writing, "apply_batched": BATCH / reading, "bytes_batched": size / BATCH}


def _appends(document: Document) -> dict[str, float]:
    updates: list[bytes] = []

    def write() -> None:
        for number in range(APPENDS):
            document.append(number)
            updates.extend(document.updates())

    return {"append": APPENDS / _cpu_seconds(write)}


def _cpu_seconds(work: Callable[[], object]) -> float:
    """Of this process, all its threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _require(as_written: bool) -> None:
    if not as_written:
        raise AssertionError("the reader does not show what was written")
