"""The statements themselves, by id: what peers compare and send each other. What they mean is none of its business."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Final

from mesh.trust.statements import Statement, StatementId

DIGEST_BYTES: Final = 16


class StatementSet:
    __slots__ = ("_by_id", "_digest", "_ids")

    def __init__(self) -> None:
        self._by_id: dict[StatementId, Statement] = {}
        self._ids: list[StatementId] = []
        self._digest: bytes | None = None

    def copy(self) -> StatementSet:
        other = StatementSet()
        other._by_id, other._ids, other._digest = dict(self._by_id), list(self._ids), self._digest
        return other

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._by_id

    def __iter__(self) -> Iterator[Statement]:
        """Ascending by id."""
        return (self._by_id[each] for each in self._ids)

    def add(self, statement: Statement) -> None:
        if statement.id not in self._by_id:
            self._by_id[statement.id] = statement
            insort(self._ids, statement.id)
            self._digest = None

    def discard(self, identifier: StatementId) -> None:
        if self._by_id.pop(identifier, None) is not None:
            del self._ids[bisect_left(self._ids, identifier)]
            self._digest = None

    def get(self, identifier: bytes) -> Statement | None:
        return self._by_id.get(StatementId(identifier))

    def ids(self, after: bytes = b"", until: bytes | None = None, limit: int | None = None) -> list[StatementId]:
        """Ids in (after, until], ascending, at most `limit` of them."""
        start = bisect_right(self._ids, after)
        end = len(self._ids) if until is None else bisect_right(self._ids, until)
        return self._ids[start : end if limit is None else min(end, start + limit)]

    @property
    def digest(self) -> bytes:
        """One hash of the set, whatever order it came in. Made when asked for after a change: 8 bytes of hashing per
        statement."""
        if self._digest is None:
            self._digest = hashlib.blake2b(b"".join(self._ids), digest_size=DIGEST_BYTES).digest()
        return self._digest
