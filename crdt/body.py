"""The body of a delta: a batch of ops of one shelf, packed.

    body  = [rights, time, [origin, ...], [op, ...]]          rights = [credential, charter]; time in microseconds
    op    = [kind, type, [shared, segment, ...], payload, covers, dot step, time step, origin, rights]     trailing fields omitted
    covers = [origin, dot, check, origin, dot, check, ...]

`shared` counts the segments that the path has in common with the op before. Origins are numbers: 0 is the body's own shelf, 1 the
first of the table. A fresh op omits its dot (own shelf, seq of the body, its index) and its time (that of the body). An op that is issued
again carries the differences to the dot and the time of the op before, or of (seq, 0) and the body: ops that once stood side by side
differ by a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from crdt import codec
from crdt.digest import digest_16
from crdt.errors import Malformed
from crdt.ids import OPS_PER_DELTA_MAX, SHELF_ID_BYTES, ShelfId, dot_seq, make_dot
from crdt.limits import (
    BODY_BYTES_LIMIT,
    CHECK_LIMIT,
    CORE_TYPE,
    DOT_LIMIT,
    HASH_BYTES,
    PAYLOAD_DEPTH_MAX,
    SEGMENT_BYTES_MAX,
    SEGMENTS_MAX,
    SERIAL_LIMIT,
    TIME_LIMIT,
    TYPE_LIMIT,
)
from crdt.ops import DROPPED, KIND_LIMIT, KIND_MASK, LARGE, TAKEOVER, VALUE, Cover, Op, Path, Rights, Segment, Value
from crdt.takeover import is_record_untrusted

REISSUE_BYTES: Final = 96
"""Room that a fresh op leaves in its body: issued again it names dot 9, time 9, origin 14, rights 20; the body rights 20, time 9."""
_UTF8_BYTES_PER_CHAR_MAX: Final = 4
_NO_COVERS: Final[tuple[Cover, ...]] = ()
_FIELDS_FRESH: Final = 4
_FIELDS_MAX: Final = 9

Encode = Callable[[object], bytes]
Decode = Callable[[bytes], Any]


class Body:
    """Ops of one delta without its header. Shared by every base that holds some of them. Nothing but `void` ever changes."""

    __slots__ = ("faulty", "hash", "judged", "ops", "raw", "rights", "seq", "shelf", "takeover", "takeovers", "void")

    def __init__(
        self, shelf: ShelfId, seq: int, raw: bytes, rights: Rights, ops: tuple[Op, ...], *, faulty: int = 0, takeovers: Sequence[int] = ()
    ) -> None:
        self.shelf = shelf
        self.seq = seq
        self.hash = digest_16(raw)
        self.raw = raw
        self.rights = rights
        self.ops = ops
        self.faulty = faulty
        """Mask of the ops that cannot be right, whoever wrote them."""
        self.void = faulty
        """Mask of the ops that count as dropped: faulty, or outside their author's rights (see `Shelves.judge`)."""
        self.judged = False
        self.takeovers = takeovers
        """Indices of the takeover ops."""
        self.takeover = next((index for index in takeovers if is_fresh(shelf, seq, index, ops[index])), -1)
        """The one that is new, and may add a former shelf; -1 without."""

    def __repr__(self) -> str:
        return f"Body({self.shelf.hex()} {self.seq}, {len(self.ops)} ops)"


# --- reading


def body_from_bytes_untrusted(shelf: ShelfId, seq: int, raw: bytes, decode: Decode = codec.decode_untrusted) -> Body:
    """The body of delta `seq` of `shelf`. Raises Malformed, and what `decode` raises; `decode` must refuse what is not deterministic CBOR."""
    if len(raw) > BODY_BYTES_LIMIT:
        raise Malformed(f"a body of {len(raw)} bytes: at most {BODY_BYTES_LIMIT} are allowed")
    parts = decode(raw)
    if type(parts) is not tuple or len(parts) != 4:
        raise Malformed("a body is [rights, time, origins, ops]")
    rights = _rights_untrusted(parts[0])
    time = _number_untrusted(parts[1], TIME_LIMIT, "time")
    origins = _origins_untrusted(shelf, parts[2])
    items = parts[3]
    if type(items) is not tuple or len(items) > OPS_PER_DELTA_MAX:
        raise Malformed(f"a body has an array of at most {OPS_PER_DELTA_MAX} ops")
    ops, faulty = _ops_untrusted(shelf, seq, rights, time, origins, items)
    takeovers = [index for index, op in enumerate(ops) if op[0] == TAKEOVER]
    if len(takeovers) > 1 and sum(is_fresh(shelf, seq, index, ops[index]) for index in takeovers) > 1:
        raise Malformed("two new takeovers in one delta")
    return Body(shelf, seq, raw, rights, ops, faulty=faulty, takeovers=takeovers)


def is_fresh(shelf: ShelfId, seq: int, index: int, op: Op) -> bool:
    """Whether the op was first issued here."""
    return op.dot == make_dot(seq, index) and op.origin == shelf


def _number_untrusted(value: Any, limit: int, what: str) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise Malformed(f"{what} is not a number from 0 to {limit - 1}")
    return value


def _rights_untrusted(value: Any) -> Rights:
    if type(value) is not tuple or len(value) != 2:
        raise Malformed("rights are [credential, charter]")
    return Rights(_number_untrusted(value[0], SERIAL_LIMIT, "credential"), _number_untrusted(value[1], SERIAL_LIMIT, "charter"))


def _origins_untrusted(shelf: ShelfId, value: Any) -> list[ShelfId]:
    if type(value) is not tuple:
        raise Malformed("origins are an array")
    for item in value:
        if type(item) is not bytes or len(item) != SHELF_ID_BYTES:
            raise Malformed(f"an origin has {SHELF_ID_BYTES} bytes")
    return [shelf, *value]


def _ops_untrusted(
    shelf: ShelfId, seq: int, rights: Rights, time: int, origins: list[ShelfId], items: tuple[Any, ...]
) -> tuple[tuple[Op, ...], int]:
    ops: list[Op] = []
    faulty = 0
    path: Path = ()
    own_dot = make_dot(seq, 0)
    new = tuple.__new__  # half the time of Op(...): there are 100,000 of them a second
    for index, item in enumerate(items):
        if type(item) is not tuple or not _FIELDS_FRESH <= len(item) <= _FIELDS_MAX:
            raise Malformed("an op is an array of 4 to 9 fields")
        kind, type_code, steps, payload = item[:4]
        if type(kind) is not int or not 0 <= kind < KIND_LIMIT or type(type_code) is not int or not 0 <= type_code < TYPE_LIMIT:
            raise Malformed("an op begins with its kind and its type")
        path = _path_untrusted(path, steps)
        if type(payload) not in _PLAIN:
            payload = codec.freeze_untrusted(payload, PAYLOAD_DEPTH_MAX)
        if len(item) == _FIELDS_FRESH:
            op = new(Op, (kind, type_code, path, payload, _NO_COVERS, shelf, own_dot | index, time, rights))
        else:
            op = _op_with_options_untrusted(item, path, payload, own_dot | index, time, rights, origins, ops)
            faulty |= (op.origin == shelf and op.dot != own_dot | index and dot_seq(op.dot) >= seq) << index
        if kind or not type_code:
            faulty |= _is_faulty_untrusted(op) << index
        ops.append(op)
    return tuple(ops), faulty


_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})


def _path_untrusted(before: Path, steps: Any) -> Path:
    if type(steps) is not tuple or not steps:
        raise Malformed("a path is [shared, segment, ...]")
    shared = steps[0]
    if type(shared) is not int or not 0 <= shared <= len(before):
        raise Malformed("a path that shares more than there is")
    added: tuple[Segment, ...] = steps[1:]
    if not 0 < shared + len(added) <= SEGMENTS_MAX:
        raise Malformed(f"a path has 1 to {SEGMENTS_MAX} segments")
    for segment in added:
        if type(segment) is str:
            if not segment or (
                len(segment) * _UTF8_BYTES_PER_CHAR_MAX > SEGMENT_BYTES_MAX and len(segment.encode()) > SEGMENT_BYTES_MAX
            ):
                raise Malformed(f"a segment has 1 to {SEGMENT_BYTES_MAX} bytes")
        elif type(segment) is not bytes or not 0 < len(segment) <= SEGMENT_BYTES_MAX:
            raise Malformed(f"a segment is text or bytes, 1 to {SEGMENT_BYTES_MAX}")
    return before[:shared] + added if shared else added


def _op_with_options_untrusted(
    item: tuple[Any, ...],
    path: Path,
    payload: Value,
    own_dot: int,
    time: int,
    rights: Rights,
    origins: list[ShelfId],
    before: list[Op],
) -> Op:
    fields = len(item)
    covers = _covers_untrusted(item[4], origins)
    dot, origin = own_dot, origins[0]
    if fields > 5:
        last_dot, last_time = (before[-1].dot, before[-1].time) if before else (own_dot, time)
        dot = _stepped_untrusted(last_dot, item[5], DOT_LIMIT)
        time = _stepped_untrusted(last_time, item[6], TIME_LIMIT) if fields > 6 else last_time
    if fields > 7:
        origin = _origin_untrusted(item[7], origins)
    if fields > 8:
        rights = _rights_untrusted(item[8])
    return Op(item[0], item[1], path, payload, covers, origin, dot, time, rights)


def _stepped_untrusted(before: int, step: Any, limit: int) -> int:
    if type(step) is not int or not 0 <= before + step < limit:
        raise Malformed("a step to a dot or a time that cannot be")
    return before + step


def _origin_untrusted(value: Any, origins: list[ShelfId]) -> ShelfId:
    if type(value) is not int or not 0 <= value < len(origins):
        raise Malformed("an origin that is not in the table")
    return origins[value]


def _covers_untrusted(value: Any, origins: list[ShelfId]) -> tuple[Cover, ...]:
    if type(value) is not tuple or len(value) % 3:
        raise Malformed("covers are [origin, dot, check, ...]")
    return tuple(
        [
            Cover(
                _origin_untrusted(value[at], origins),
                _number_untrusted(value[at + 1], DOT_LIMIT, "dot"),
                _number_untrusted(value[at + 2], CHECK_LIMIT, "check"),
            )
            for at in range(0, len(value), 3)
        ]
    )


def _is_faulty_untrusted(op: Op) -> bool:
    """Checks what the core itself has to understand: Malformed for a wrong form, True for a wrong content."""
    kind = op.kind & KIND_MASK
    if kind == DROPPED:
        if op.covers or op.payload is not None or op.kind != DROPPED:
            raise Malformed("a dropped cell has no flags, payload or covers")
        return False
    if kind == TAKEOVER:
        if op.kind != TAKEOVER or op.type != CORE_TYPE or len(op.path) != 1 or len(op.path[0]) != SHELF_ID_BYTES or op.covers:
            raise Malformed("a takeover is at (former shelf,)")
        if type(op.path[0]) is not bytes or not is_record_untrusted(op.payload):
            raise Malformed("a takeover says [n, flags, gap, run, ...]")
        return False
    if op.kind & LARGE and not _is_reference(op.payload):
        raise Malformed("a large payload is [depth, size, hashes, covers]")
    if op.type == CORE_TYPE:
        if (
            op.kind != VALUE
            or len(op.path) != 1
            or len(op.path[0]) != HASH_BYTES
            or type(op.payload) is not bytes
            or op.covers
        ):
            raise Malformed("a chunk is bytes at (their hash,)")
        return digest_16(op.payload) != op.path[0]
    return False


def _is_reference(payload: Value) -> bool:
    if type(payload) is not tuple or len(payload) != 4:
        return False
    depth, size, hashes, covers = payload
    numbers = all(type(number) is int and number >= 0 for number in (depth, size, covers))
    return numbers and type(hashes) is bytes and len(hashes) > 0 and not len(hashes) % HASH_BYTES


# --- writing


class BodyWriter:
    """A body in the making. Its size is exact at any time; an op that would make it larger than `limit` is not taken."""

    __slots__ = ("_encode", "_fixed", "_origins", "_pieces", "_pieces_bytes", "ops", "rights", "seq", "shelf", "time")

    def __init__(self, shelf: ShelfId, seq: int, rights: Rights, time: int, encode: Encode = codec.encode) -> None:
        self.shelf = shelf
        self.seq = seq
        self.rights = rights
        self.time = time
        self.ops: list[Op] = []
        self._encode = encode
        self._origins = {shelf: 0}
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._fixed = b""
        self._set_time(time)

    @property
    def size(self) -> int:
        """Bytes of the body as it stands."""
        return self._size(len(self._pieces), self._pieces_bytes, len(self._origins) - 1)

    def _size(self, ops: int, ops_bytes: int, origins: int) -> int:
        origin_bytes = len(codec.array_head(origins)) + origins * (1 + SHELF_ID_BYTES)
        return 1 + len(self._fixed) + origin_bytes + len(codec.array_head(ops)) + ops_bytes

    def next_dot(self) -> int:
        return self.own_dot(len(self.ops))

    def own_dot(self, index: int) -> int:
        """The dot of a fresh op at this place."""
        return make_dot(self.seq, index)

    def add(self, op: Op, limit: int) -> bool:
        """Append `op`; False, and nothing changed, when it does not fit."""
        if len(self.ops) >= OPS_PER_DELTA_MAX:
            return False
        origins = dict(self._origins)
        op = self._as_read(len(self.ops), op)
        piece = self._piece(len(self.ops), op, origins)
        if self._size(len(self._pieces) + 1, self._pieces_bytes + len(piece), len(origins) - 1) > limit:
            return False
        if not self._is_reissuable(len(self.ops), op, piece, limit):
            return False
        self.ops.append(op)
        self._pieces.append(piece)
        self._pieces_bytes += len(piece)
        self._origins = origins
        return True

    def replace(self, index: int, op: Op, limit: int) -> bool:
        """Put `op`, of the same key, in the place of another; False, and nothing changed, when it does not fit."""
        kept = self.ops, self._pieces, self._origins, self._pieces_bytes
        self.ops = [*self.ops[:index], op, *self.ops[index + 1 :]]
        self._build()
        if self.size <= limit and self._is_reissuable(index, op, self._pieces[index], limit):
            return True
        self.ops, self._pieces, self._origins, self._pieces_bytes = kept
        return False

    def retime(self, time: int, limit: int) -> bool:
        """Another time for the body and its fresh ops: housekeeping that was drafted first has no time of its own. False if it does not fit."""
        kept = self.ops, self.time
        self.ops = [
            op._replace(time=time) if op.time == self.time and self._is_fresh(index, op) else op
            for index, op in enumerate(self.ops)
        ]
        self._set_time(time)
        if self.size <= limit:
            return True
        self.ops = kept[0]
        self._set_time(kept[1])
        return False

    def _set_time(self, time: int) -> None:
        self.time = time
        self._fixed = self._encode(self.rights) + self._encode(time)
        self._build()

    def _build(self) -> None:
        ops, self.ops, self._pieces, self._origins = self.ops, [], [], {self.shelf: 0}
        for index, op in enumerate(ops):
            op = self._as_read(index, op)
            self._pieces.append(self._piece(index, op, self._origins))
            self.ops.append(op)
        self._pieces_bytes = sum(map(len, self._pieces))

    def _is_fresh(self, index: int, op: Op) -> bool:
        return is_fresh(self.shelf, self.seq, index, op)

    def _as_read(self, index: int, op: Op) -> Op:
        """The time of a dropped cell is of no use: whatever costs the least."""
        if op.kind & KIND_MASK != DROPPED:
            return op
        fresh = self._is_fresh(index, op) or not index
        return op._replace(time=self.time if fresh else self.ops[index - 1].time, rights=self.rights)

    def _piece(self, index: int, op: Op, origins: dict[ShelfId, int]) -> bytes:
        before = self.ops[index - 1] if index else None
        item: list[object] = [op.kind, op.type, _steps(before.path if before else (), op.path), op.payload]
        fresh = self._is_fresh(index, op) and op.time == self.time and op.rights == self.rights
        if op.covers or not fresh:
            flat: list[int] = []
            for cover in op.covers:
                flat += (origins.setdefault(cover.origin, len(origins)), cover.dot, cover.check)
            item.append(flat)
        if not fresh:
            last_dot, last_time = (before.dot, before.time) if before else (make_dot(self.seq, 0), self.time)
            item.append(op.dot - last_dot)
            options: list[object] = [op.time - last_time, origins.setdefault(op.origin, len(origins)), op.rights]
            if op.rights == self.rights:
                options.pop()
                while options and not options[-1]:
                    options.pop()
            item += options
        return self._encode(item)

    def _is_reissuable(self, index: int, op: Op, piece: bytes, limit: int) -> bool:
        """Whether a fresh op leaves room for being issued again, perhaps by another host."""
        origins = len({cover.origin for cover in op.covers})
        return not self._is_fresh(index, op) or len(piece) + origins * (1 + SHELF_ID_BYTES) <= limit - REISSUE_BYTES

    def finish(self) -> Body:
        origins = codec.join_arrays(self._encode(origin) for origin in self._origins if origin != self.shelf)
        raw = codec.array_head(4) + self._fixed + origins + codec.join_arrays(self._pieces)
        takeovers = [index for index, op in enumerate(self.ops) if op.kind == TAKEOVER]
        return Body(self.shelf, self.seq, raw, self.rights, tuple(self.ops), takeovers=takeovers)


def _steps(before: Path, path: Path) -> list[object]:
    shared = 0
    for former, segment in zip(before, path, strict=False):
        if former != segment or type(former) is not type(segment):
            break
        shared += 1
    return [shared, *path[shared:]]
