"""Ops: what a delta carries and a shelf holds.

An op is the newest thing that its origin said at a key. It is called a *cell* when we speak of the state (the newest op of an
origin at a key) and an *op* when we speak of a delta. There is one class for both, so nothing is ever converted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias, Union

from crdt.ids import ShelfId

Value: TypeAlias = Union[  # noqa: UP007  # a recursive alias in quotes knows no `|`
    bool,
    int,
    float,
    str,
    bytes,
    Sequence["Value"],
    Mapping[str, "Value"],
    Mapping[bytes, "Value"],
    Mapping["str | bytes", "Value"],
    None,
]
"""What a payload may hold: the deterministic CBOR data model, 64-bit integers, no NaN payloads, text or bytes as map keys."""

Segment: TypeAlias = str | bytes
Path: TypeAlias = tuple[Segment, ...]
"""1 to 16 segments of at most 256 bytes each."""

Key: TypeAlias = tuple[int, Path]
"""(type code, path): a register and a counter at one path are two states that never touch."""

# Kinds, in the low two bits; flags above them.
VALUE: Final = 0
REMOVED: Final = 1
DROPPED: Final = 2
TAKEOVER: Final = 3
KIND_MASK: Final = 3
WHILE_ALIVE: Final = 4
"""Flag: shown only while the origin is the live shelf of a live member (presence)."""
LARGE: Final = 8
"""Flag: the payload is a reference to chunk cells, see crdt.chunks."""
KIND_LIMIT: Final = 16


class Cover(NamedTuple):
    """Names one earlier write that this one replaces. `check`: u32, the first 4 bytes of BLAKE2b of that op as first issued."""

    origin: ShelfId
    dot: int
    check: int


class Rights(NamedTuple):
    """What a delta was written under."""

    credential: int
    """Serial of the author's credential."""
    charter: int
    """Serial of the charter."""


NO_RIGHTS: Final = Rights(0, 0)


class Op(NamedTuple):
    """One write of one origin at one key.

    `origin` and `dot` are those of the first issue: a repacked or hosted op keeps them. `time` is the wall clock in microseconds.
    """

    kind: int
    type: int
    path: Path
    payload: Value
    covers: tuple[Cover, ...]
    origin: ShelfId
    dot: int
    time: int
    rights: Rights

    @property
    def key(self) -> Key:
        return (self.type, self.path)

    @property
    def is_value(self) -> bool:
        return not self.kind & KIND_MASK
