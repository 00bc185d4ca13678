"""Making a body: the other side of `crdt.body`. Its size is exact at any time, so that a draft knows when it is full."""

from __future__ import annotations

from typing import Final

from crdt import codec
from crdt.body import Body, Encode, is_fresh, linear
from crdt.ids import OPS_PER_DELTA_MAX, SHELF_ID_BYTES, ShelfId, dot_index, make_dot
from crdt.ops import DROPPED, KIND_MASK, TAKEOVER, Op, Path, Rights

REISSUE_BYTES: Final = 96
"""Room that a fresh op leaves in its body: issued again it names dot 9, time 9, origin 14, rights 20; the body rights 20,
time 9."""
WIDTHS: Final = (1, 8, 32, 64, 256)
"""Widths to choose from: few, since a wider one means to encode the body again."""


class BodyWriter:
    """A body in the making. An op that would make it larger than `limit` is not taken."""

    __slots__ = (
        "_encode",
        "_fixed",
        "_last",
        "_origins",
        "_pieces",
        "_pieces_bytes",
        "_width",
        "ops",
        "rights",
        "seq",
        "shelf",
        "time",
    )

    def __init__(self, shelf: ShelfId, seq: int, rights: Rights, time: int, encode: Encode = codec.encode) -> None:
        self.shelf = shelf
        self.seq = seq
        self.rights = rights
        self.time = time
        self.ops: list[Op] = []
        self._encode = encode
        self._width = 1
        self._build()

    def _build(self) -> None:
        """Encode all ops anew."""
        ops, self.ops = self.ops, []
        self._pieces: list[bytes] = []
        self._origins = {self.shelf: 0}
        rights = codec.join_arrays([codec.unsigned(serial) for serial in self.rights])
        self._fixed = rights + codec.unsigned(self.time)
        self._last = (make_dot(self.seq, 0), self.time)
        for op in ops:
            self._append(op, self._origins)
        self._pieces_bytes = sum(len(piece) for piece in self._pieces)

    @property
    def size(self) -> int:
        """Bytes of the body as it stands."""
        return self._size(len(self._pieces), self._pieces_bytes, len(self._origins) - 1)

    def _size(self, ops: int, ops_bytes: int, origins: int) -> int:
        origin_bytes = len(codec.array_head(origins)) + origins * (1 + SHELF_ID_BYTES)
        width_bytes = len(self._encode(self._width)) if self._width > 1 else 0
        return 1 + len(self._fixed) + origin_bytes + len(codec.array_head(ops)) + ops_bytes + width_bytes

    def next_dot(self) -> int:
        return self.own_dot(len(self.ops))

    def own_dot(self, index: int) -> int:
        """The dot of a fresh op at this place."""
        return make_dot(self.seq, index)

    # --- changes: True, or False and nothing changed, when the body would be too large

    def add(self, op: Op, limit: int) -> bool:
        """Append `op`."""
        index = len(self.ops)
        if index >= OPS_PER_DELTA_MAX:
            return False
        width = self._width_for(op) if not self._is_implicit(index, op) else 1
        if width > self._width:
            return self._rebuild([*self.ops, op], self.time, width, limit)
        origins, last = dict(self._origins), self._last
        self._append(op, origins)
        piece = self._pieces[-1]
        if self._size(index + 1, self._pieces_bytes + len(piece), len(origins) - 1) > limit or not self._leaves_room(
            index, limit
        ):
            self.ops.pop()
            self._pieces.pop()
            self._last = last
            return False
        self._pieces_bytes += len(piece)
        self._origins = origins
        return True

    def replace(self, index: int, op: Op, limit: int) -> bool:
        """Put `op`, of the same key, in the place of another."""
        width = self._width_for(op) if not self._is_implicit(index, op) else 1
        return self._rebuild([*self.ops[:index], op, *self.ops[index + 1 :]], self.time, max(width, self._width), limit)

    def retime(self, time: int, limit: int) -> bool:
        """Another time for the body and its fresh ops: housekeeping that was drafted first has no time of its own."""
        ops = [op._replace(time=time) if self._is_implicit(index, op) else op for index, op in enumerate(self.ops)]
        return self._rebuild(ops, time, self._width, limit)

    def _rebuild(self, ops: list[Op], time: int, width: int, limit: int) -> bool:
        before = self.ops, self.time, self._width
        self.ops, self.time, self._width = ops, time, width
        self._build()
        if self.size <= limit and all(self._leaves_room(index, limit) for index in range(len(ops))):
            return True
        self.ops, self.time, self._width = before
        self._build()
        return False

    # --- one op

    def _is_implicit(self, index: int, op: Op) -> bool:
        """Whether dot, time and rights are those that a reader assumes."""
        return is_fresh(self.shelf, self.seq, index, op) and op.time == self.time and op.rights == self.rights

    @staticmethod
    def _width_for(op: Op) -> int:
        return next(width for width in WIDTHS if dot_index(op.dot) < width)

    def _append(self, op: Op, origins: dict[ShelfId, int]) -> None:
        index = len(self.ops)
        if op.kind & KIND_MASK == DROPPED:  # its time and rights are of no use: whatever costs the least
            fresh = is_fresh(self.shelf, self.seq, index, op)
            op = op._replace(time=self.time if fresh else self._last[1], rights=self.rights)
        item: list[object] = [op.kind, op.type, _steps(self.ops[-1].path if self.ops else (), op.path), op.payload]
        if op.covers:
            flat: list[int] = []
            for cover in op.covers:
                flat += (origins.setdefault(cover.origin, len(origins)), cover.dot, cover.check)
            item.append(flat)
        if not self._is_implicit(index, op):
            item += self._options(op, origins)
        self.ops.append(op)
        self._pieces.append(codec.encode_by(self._encode, item))

    def _options(self, op: Op, origins: dict[ShelfId, int]) -> list[object]:
        last_dot, last_time = self._last
        self._last = (op.dot, op.time)
        dot_step = linear(op.dot, self._width) - linear(last_dot, self._width)
        options: list[object] = [dot_step, op.time - last_time, origins.setdefault(op.origin, len(origins)), op.rights]
        if op.rights == self.rights:
            options.pop()
            while len(options) > 1 and not options[-1]:
                options.pop()
        return options

    def _leaves_room(self, index: int, limit: int) -> bool:
        """Whether a fresh op can be issued again one day, perhaps by another host."""
        op = self.ops[index]
        if not is_fresh(self.shelf, self.seq, index, op):
            return True
        origins = len({cover.origin for cover in op.covers})
        return len(self._pieces[index]) + origins * (1 + SHELF_ID_BYTES) <= limit - REISSUE_BYTES

    def finish(self) -> Body:
        origins = codec.join_arrays(self._encode(origin) for origin in self._origins if origin != self.shelf)
        width = self._encode(self._width) if self._width > 1 else b""
        raw = codec.array_head(5 if width else 4) + self._fixed + origins + codec.join_arrays(self._pieces) + width
        takeovers = [index for index, op in enumerate(self.ops) if op.kind == TAKEOVER]
        return Body(self.shelf, self.seq, raw, self.rights, tuple(self.ops), takeovers=takeovers)


def _steps(before: Path, path: Path) -> list[object]:
    """[shared, segment, ...]."""
    shared = 0
    for former, segment in zip(before, path, strict=False):
        if former != segment or type(former) is not type(segment):
            break
        shared += 1
    return [shared, *path[shared:]]
