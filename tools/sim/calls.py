"""What programs did through their handles, recorded: the operations that the specifications of the types are about."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from crdt.history import History, Operation
from crdt.history import Write as Name
from crdt.ops import Key
from mesh.testing import Mesh, Written
from tools.sim.oracle import Oracle

Place: TypeAlias = str
"""The path of a value as the workload writes it; the cells of its elements and keys lie below."""


class Calls:
    """Made after the oracle hears of writes."""

    def __init__(self, mesh: Mesh, oracle: Oracle) -> None:
        self._mesh = mesh
        self._oracle = oracle
        self._open: list[Name] | None = None
        self.by_place: dict[Place, list[Operation]] = {}
        self.keys: dict[Place, set[Key]] = {}
        self.blurred: set[Place] = set()
        """Values of which something was written past this recorder, or twice within one draft: the second call took the place of
        the first, and nobody can tell what of it is left."""
        self.names: dict[Key, dict[int, Name]] = {}
        """By the bit that the oracle gave the write: one object each, so that sets of them are quickly compared."""
        self._knew: dict[Name, frozenset[Name]] = {}
        self._count = 0
        for number in range(len(mesh.hosts)):
            mesh.node(number).on_write.append(self._wrote)

    def make(self, host: int, place: Place, handle: Any, method: str, arguments: Sequence[Any]) -> None:
        """Calls a method of the handle. Raises WriteRefused as it does; an index out of range is no call."""
        saw, self._open = handle.value, []
        result = None
        try:
            with suppress(LookupError, ValueError):
                result = getattr(handle, method)(*arguments)
        finally:
            writes, self._open = self._open, None
        if writes:
            shelf = writes[0].origin
            one = Operation(
                self._count, host, shelf, method, tuple(arguments), saw, result, tuple(writes), self._time(host, writes)
            )
            self._count += 1
            self.by_place.setdefault(place, []).append(one)
            self.keys.setdefault(place, set()).update(write.key for write in writes)

    def _time(self, host: int, writes: Sequence[Name]) -> int:
        """Of the cells that these writes are: what they replaced is there too, perhaps with an equal dot of another origin."""
        replica, names = self._mesh.peer(host).replica, set(writes)
        return max(
            op.time
            for key in {write.key for write in writes}
            for op in replica.cells(key)
            if Name(key, op.origin, op.dot) in names
        )

    def _wrote(self, written: Written) -> None:
        write = self._oracle.last
        names = self.names.setdefault(written.key, {})
        name = names.setdefault(write.bit, Name(written.key, write.origin, write.dot))
        place = "/".join(map(str, written.key[1][:2]))
        if self._open is None or name in self._knew:
            self.blurred.add(place)
        if self._open is not None:
            self._open.append(name)
        history = self._oracle.keys[written.key]
        self._knew[name] = frozenset(names[one.bit] for one in history.each(write.knew))

    def history(self, place: Place, visible: frozenset[Name]) -> History | None:
        """What whoever has seen these writes, and all that they build upon, knows of the value; None while it lacks half of a
        call."""
        operations = self.by_place[place]
        for one in operations:
            if len(one.writes) > 1 and len(visible.intersection(one.writes)) not in (0, len(one.writes)):
                return None
        return History(operations, visible, self._knew)
