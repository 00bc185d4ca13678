"""Bounded counter: an integer that never goes below 0, without asking anybody.

Valter Balegas et al., "Extending Eventually Consistent Cloud Databases for Enforcing Numeric Invariants" (SRDS 2015,
arXiv:1503.09052). The value is cut into *rights* to take one away, and every right is held by one shelf. Adding creates
rights for the adder, taking away uses the taker's own, and a transfer hands some to another. Each shelf writes its row of
the paper's matrices in one cell:

    payload = [added, taken, {shelf: given to it}]          running totals; trailing zeros omitted
    rights of a shelf = added - taken - given away + given to it by others, never below 0 at its author
    value = sum of added - sum of taken = sum of all rights, so never below 0

A shelf knows its own row whole and others' rows perhaps late, and others' rows only ever add to its rights: what it
believes to hold, it holds. A reader who lacks somebody's row may see less than there is; such a partial sum shows 0 rather
than less.

What carries the bound over a restart: rights of a former shelf pass on to the next start of the replica if that took it
over from its own disk, and every taking is on the disk before it is sent (`commit_first`). After a lost disk nobody can
know what had been spent, and the rights stay where they are. What breaks it: a fork, and a disk restored from an old copy,
for both spend a right twice. Rows cannot be removed, or shown only while alive: rights would come and go with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from crdt.errors import NotEnoughRights, UnsupportedValue, WriteRefused
from crdt.ids import SHELF_ID_BYTES, Dot, ShelfId, replica_of
from crdt.ops import Op, Value
from crdt.types.base import ViewType, declare
from crdt.types.cells import is_integer
from crdt.types.handle import Handle
from crdt.types.paths import format_path


class Row(NamedTuple):
    """What one shelf said, ever."""

    added: int = 0
    taken: int = 0
    given: Mapping[ShelfId, int] = {}  # never changed: a row is made anew

    @property
    def spent(self) -> int:
        return self.taken + sum(self.given.values())

    def payload(self) -> Value:
        if self.given:
            return [self.added, self.taken, {bytes(shelf): number for shelf, number in self.given.items()}]
        return [self.added, self.taken] if self.taken else [self.added]


_ABSENT: Final[list[Value]] = [0, {}]
"""What trailing fields stand for where they are omitted."""


def _amount(value: object) -> int | None:
    return value if isinstance(value, int) and is_integer(value) and value >= 0 else None


def row_of(op: Op) -> Row | None:
    """The row in a cell; None for what is none."""
    payload = op.payload
    if not isinstance(payload, tuple | list) or not 1 <= len(payload) <= 3:
        return None
    fields: list[Value] = list(payload)
    added, taken, given = fields + _ABSENT[len(fields) - 1 :]
    amounts = _amount(added), _amount(taken)
    if amounts[0] is None or amounts[1] is None or not isinstance(given, Mapping):
        return None
    gifts: dict[ShelfId, int] = {}
    for shelf, number in given.items():
        gift = _amount(number)
        if gift is None or not isinstance(shelf, bytes) or len(shelf) != SHELF_ID_BYTES:
            return None
        gifts[ShelfId(shelf)] = gift
    return Row(amounts[0], amounts[1], gifts)


def rows_of(shown: Iterable[Op]) -> dict[ShelfId, Row]:
    return {op.origin: row for op in shown if (row := row_of(op)) is not None}


def view(shown: Sequence[Op]) -> int:
    rows = rows_of(shown).values()
    return max(0, sum(row.added - row.taken for row in rows))


def verdicts(shown: Sequence[Op]) -> list[str]:
    return ["ignored: not [added, taken, {shelf: given}]" if row_of(op) is None else "shown" for op in shown]


BOUNDED_COUNTER: Final = declare(
    ViewType(code=13, name="bounded counter", covers="own", view=view, verdicts=verdicts, removable=False, commit_first=True)
)


def rights_of(rows: Mapping[ShelfId, Row], shelves: frozenset[ShelfId]) -> int:
    """What these shelves hold together, by the rows that are known."""
    own = sum(row.added - row.spent for shelf, row in rows.items() if shelf in shelves)
    return own + sum(number for row in rows.values() for shelf, number in row.given.items() if shelf in shelves)


class BoundedCounter(Handle[int]):
    """`add(n)`, `subtract(n)` within the rights held here, `transfer(to, n)` to let another subtract. `rights`: how many
    are here."""

    TYPE = BOUNDED_COUNTER
    __slots__ = ()

    @property
    def rights(self) -> int:
        """How much can be subtracted here, now. Includes what former shelves of this replica left on its disk."""
        return rights_of(self._rows(), self._mine())

    def rights_by_replica(self) -> dict[bytes, int]:
        """Who holds how many, by replica id, as far as is known here. What a lost disk took with it is still counted for
        its replica."""
        rows = self._rows()
        shelves = {*rows, *(to for row in rows.values() for to in row.given), self._store.shelf}
        by_replica: dict[bytes, int] = {}
        for shelf in sorted(shelves):
            by_replica[replica_of(shelf)] = by_replica.get(replica_of(shelf), 0) + rights_of(rows, frozenset((shelf,)))
        return by_replica

    def add(self, amount: int = 1) -> Dot:
        """Makes `amount` rights, held here. A negative amount subtracts."""
        if is_integer(amount) and amount < 0:
            return self.subtract(-amount)
        row = self._row()
        return self._write(row._replace(added=row.added + self._checked(amount)))

    def subtract(self, amount: int = 1) -> Dot:
        """Raises NotEnoughRights, and writes nothing, where fewer are held here."""
        self._spend(self._checked(amount))
        row = self._row()
        return self._write(row._replace(taken=row.taken + amount))

    def transfer(self, to: bytes, amount: int) -> Dot:
        """Hand rights to a replica (8 bytes), or to one of its shelves (12 bytes) where several are known.

        Raises NotEnoughRights, and WriteRefused where no such shelf is known here.
        """
        shelf = self._shelf_of(to)
        self._spend(self._checked(amount))
        row = self._row()
        return self._write(row._replace(given={**row.given, shelf: row.given.get(shelf, 0) + amount}))

    def _checked(self, amount: object) -> int:
        number = _amount(amount)
        if number is None:
            raise UnsupportedValue(f"a bounded counter counts in integers from 0 upwards, not {amount!r:.40}")
        return number

    def _spend(self, amount: int) -> None:
        here = self.rights
        if amount <= here:
            return
        me = replica_of(self._store.shelf)
        others = sorted(
            ((who, n) for who, n in self.rights_by_replica().items() if who != me and n > 0), key=lambda row: (-row[1], row[0])
        )
        holders = ", ".join(f"{who.hex()} holds {n}" for who, n in others[:3]) or "nobody else is known to hold any"
        raise NotEnoughRights(
            f"{format_path(self._path)}: {amount} wanted, {here} rights are here; {holders}. Ask a holder to transfer some",
            here,
            tuple(others),
        )

    def _shelf_of(self, to: bytes) -> ShelfId:
        """One that is known here: what is given to a shelf that never wrote anything cannot be inherited from it."""
        if not isinstance(to, bytes):
            raise UnsupportedValue(f"{to!r:.80} is no replica to transfer to: pass its id, 8 bytes, such as member.replica")
        known = [shelf for shelf in {*self._store.shelves(), self._store.shelf} if to in (shelf, replica_of(shelf))]
        if to == replica_of(self._store.shelf):
            known = [self._store.shelf]
        if len(known) != 1:
            raise WriteRefused(
                f"{format_path(self._path)}: cannot transfer to {to.hex()}: {len(known)} shelves of that name are known here. "
                f"Name a replica (8 bytes) or a shelf (12 bytes) that has written something"
            )
        return known[0]

    def _rows(self) -> dict[ShelfId, Row]:
        return rows_of(self._shown())

    def _row(self) -> Row:
        return self._rows().get(self._store.shelf, Row())

    def _mine(self) -> frozenset[ShelfId]:
        return self._store.inherited | {self._store.shelf}

    def _write(self, row: Row) -> Dot:
        if self._while_alive:
            raise WriteRefused(
                f"{format_path(self._path)}: a bounded counter cannot be shown only while alive, rights would vanish"
            )
        return self._draft(row.payload(), while_alive=False)
