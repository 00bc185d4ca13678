"""The body of a delta: a batch of ops of one shelf, packed.

    body   = [rights, time, [origin, ...], [op, ...], width]     rights = [credential, charter]; time in microseconds
    op     = [kind, type, [shared, segment, ...], payload, covers, dot step, time step, origin, rights]
    covers = [origin, dot, check, origin, dot, check, ...]

Of an op's options (from covers on) the trailing ones are omitted, and covers when there are none: they are the only array
among them. A width of 1 is omitted. `shared` counts the segments that the path has in common with the op before. Origins are
numbers: 0 is the body's own shelf, 1 the first of the table.

A fresh op omits its dot (own shelf, seq of the body, its own index) and its time (that of the body). One that is issued again
gives the steps from the last such op, from (seq, 0) and the body's time at first; a dot counts as seq * width + index there.
So ops that once stood side by side differ by a byte, and a repacked shelf is hardly larger than a fresh one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from sys import intern
from typing import Any, Final, TypeVar, cast

from crdt import codec
from crdt.digest import digest_16
from crdt.errors import Malformed
from crdt.ids import INDEX_BITS, OPS_PER_DELTA_MAX, SHELF_ID_BYTES, ShelfId, dot_index, dot_seq, make_dot
from crdt.known import remember
from crdt.limits import (
    BODY_BYTES_LIMIT,
    CHECK_LIMIT,
    CORE_TYPE,
    DOT_LIMIT,
    HASH_BYTES,
    PAYLOAD_DEPTH_MAX,
    SEGMENT_BYTES_MAX,
    SEGMENTS_MAX,
    SEQ_LIMIT,
    SERIAL_LIMIT,
    TIME_LIMIT,
    TYPE_LIMIT,
)
from crdt.ops import DROPPED, KIND_LIMIT, KIND_MASK, LARGE, TAKEOVER, VALUE, Cover, Op, Path, Rights, Value
from crdt.takeover import is_record_untrusted

_CHARS_SURELY_SHORT: Final = SEGMENT_BYTES_MAX // 4
"""A character takes at most 4 bytes of UTF-8."""
_NO_COVERS: Final[tuple[Cover, ...]] = ()
_NO_CHECKS: Final[Mapping[int, int]] = {}
_FIELDS_FRESH: Final = 4
_FIELDS_MAX: Final = 9
WIDTH_MAX: Final = 1 << INDEX_BITS
PATHS_KEPT: Final = 4096
PATH_BYTES_KEPT: Final = 64
"""Paths of single writes that are kept as they were read. Guess: what a few hundred agents write again and again, 2 MB at most; a
longer path takes the long way."""

HASHES_KEPT: Final = 2048
"""Hashes of bodies that are remembered: journal and digest ask for that of a delta soon after each other. Guess: what
comes in some seconds; with the bodies, which may have died meanwhile, 2 MB at most."""

T = TypeVar("T", bound=Hashable)
SAME_KEPT: Final = 4096
"""Shelf ids and rights. Guess: what a few thousand members need."""
Encode = Callable[[object], bytes]
Decode = Callable[[bytes], Any]


class Body:
    """Ops of one delta without its header. Immutable, and shared by every base that holds some of them."""

    __slots__ = ("checks", "faulty", "ops", "plain", "raw", "rights", "seq", "shelf", "takeover", "takeovers")

    def __init__(
        self,
        shelf: ShelfId,
        seq: int,
        raw: bytes,
        rights: Rights,
        ops: tuple[Op, ...],
        *,
        faulty: int = 0,
        takeovers: Sequence[int] = (),
        plain: bool = False,
    ) -> None:
        self.shelf = shelf
        self.seq = seq
        self.raw = raw
        self.rights = rights
        self.ops = ops
        self.checks: Mapping[int, int] = _NO_CHECKS
        """Of ops by index, as far as somebody asked: `State.check`. Never changed in place."""
        self.faulty = faulty
        """Mask of the ops that cannot be right, whoever wrote them."""
        self.plain = plain
        """Surely all ops are fresh values of users' types without covers: nothing needs a closer look."""
        self.takeovers = takeovers
        """Indices of the takeover ops."""
        self.takeover = next((index for index in takeovers if is_fresh(shelf, seq, index, ops[index])), -1) if takeovers else -1
        """The one that is new, and may add a former shelf; -1 without."""

    @property
    def every(self) -> int:
        """Mask of all ops."""
        return (1 << len(self.ops)) - 1

    @property
    def is_news(self) -> bool:
        """Whether it says something that no body said before: else it is chunks, or housekeeping alone, mostly not pushed."""
        if self.plain:
            return bool(self.ops)
        return any(
            is_fresh(self.shelf, self.seq, index, op) and op.kind != DROPPED and (op.type != CORE_TYPE or op.kind == TAKEOVER)
            for index, op in enumerate(self.ops)
        )

    @property
    def hash(self) -> bytes:
        """16 bytes of BLAKE2b. Computed when asked for: kept with each body, it would take as much memory as a small op."""
        return hash_of(self.raw)

    def __repr__(self) -> str:
        return f"Body({self.shelf.hex()} {self.seq}, {len(self.ops)} ops)"


@lru_cache(maxsize=HASHES_KEPT)
def hash_of(raw: bytes) -> bytes:
    """Of a body: 16 bytes of BLAKE2b."""
    return digest_16(raw)


# --- reading


def body_from_bytes_untrusted(shelf: ShelfId, seq: int, raw: bytes, decode: Decode = codec.decode_untrusted) -> Body:
    """The body of delta `seq` of `shelf`. Raises Malformed, and what `decode` raises; `decode` must refuse what is not
    deterministic CBOR."""
    if len(raw) > BODY_BYTES_LIMIT:
        raise Malformed(f"a body of {len(raw)} bytes: at most {BODY_BYTES_LIMIT} are allowed")
    return _single_untrusted(shelf, seq, raw) or any_body_from_bytes_untrusted(shelf, seq, raw, decode)


def any_body_from_bytes_untrusted(shelf: ShelfId, seq: int, raw: bytes, decode: Decode = codec.decode_untrusted) -> Body:
    """As above; there the commonest bodies take a shorter way to the same."""
    parts = decode(raw)
    if type(parts) is not tuple or not 4 <= len(parts) <= 5:
        raise Malformed("a body is [rights, time, origins, ops, width]")
    rights = _rights_untrusted(parts[0])
    time = _number_untrusted(parts[1], TIME_LIMIT, "time")
    origins = _origins_untrusted(shelf, parts[2])
    items = parts[3]
    if type(items) is not tuple or len(items) > OPS_PER_DELTA_MAX:
        raise Malformed(f"a body has an array of at most {OPS_PER_DELTA_MAX} ops")
    width = 1 if len(parts) == 4 else _number_untrusted(parts[4], WIDTH_MAX + 1, "width")
    if width < len(parts) - 3:
        raise Malformed("a width of 1 is omitted")
    ops, faulty, plain = _ops_untrusted(items, shelf, seq, rights, time, origins, width)
    if plain:
        return Body(shelf, seq, raw, rights, ops, plain=True)
    takeovers = [index for index, op in enumerate(ops) if op[0] == TAKEOVER]
    if len(takeovers) > 1 and sum(is_fresh(shelf, seq, index, ops[index]) for index in takeovers) > 1:
        raise Malformed("two new takeovers in one delta")
    return Body(shelf, seq, raw, rights, ops, faulty=faulty, takeovers=takeovers)


def _single_untrusted(shelf: ShelfId, seq: int, raw: bytes) -> Body | None:
    """One fresh value of a user at a path of text, read by its layout. None: anything else, and all that is wrong.

    It is what comes most and what somebody waits for. The general way through decoder and checks takes twice as long; where many
    agents share a machine, and each wakes up to cold caches, a seventh of all that a delivery costs.
    """
    if raw[:2] != _SINGLE_START:
        return None
    try:
        credential, at = codec.number_untrusted(raw, 2)
        charter, at = codec.number_untrusted(raw, at)
        time, at = codec.number_untrusted(raw, at)
        type_code, path_at = raw[at + 4], at + 7
        if raw[at : at + 4] != _SINGLE_OP or not 0 < type_code < 24 or raw[at + 6] or time >= TIME_LIMIT:
            return None
        end = path_at
        for _ in range(raw[at + 5] - 0x81):  # an array of one number and the segments
            first = raw[end]
            end += first - 0x5F if first < 0x78 else 2 + raw[end + 1]
        if not 0 <= end - path_at <= PATH_BYTES_KEPT or max(credential, charter) >= SERIAL_LIMIT:
            return None
        path = _path_of_untrusted(raw[at + 5 : end])
        payload, end = _plain_payload_untrusted(raw, end)
    except (IndexError, Malformed):
        return None
    if path is None or end != len(raw):
        return None
    rights: Rights = same(_new(_RIGHTS, (credential, charter)))
    op = _new(_OP, (VALUE, type_code, path, payload, _NO_COVERS, shelf, make_dot(seq, 0), time, rights))
    return Body(shelf, seq, raw, rights, (op,), plain=True)


_SINGLE_START: Final = b"\x84\x82"
"""[[credential, charter], time, [], [op]]"""
_SINGLE_OP: Final = b"\x80\x81\x84" + bytes((VALUE,))
_OP: Final[Any] = Op
_RIGHTS: Final[Any] = Rights
_new: Final[Any] = tuple.__new__
_DOUBLE: Final = struct.Struct(">d")
_FLOAT: Final = struct.Struct(">f")


def _plain_path_untrusted(raw: bytes) -> Path | None:
    """`[0, text, ...]`; most writes replace an earlier one, so its path comes again, and is one object then. None when it is
    something else, or wrong."""
    segments = []
    at = 2
    while at < len(raw):
        first = raw[at]
        start = at + 1 if first < 0x78 else at + 2
        at = at + first - 0x5F if 0x60 < first < 0x78 else start + raw[at + 1] if first == 0x78 else start
        text = raw[start:at]
        if at <= start or len(text) != at - start or (first == 0x78 and len(text) < 24):
            return None
        try:
            segments.append(text.decode())
        except UnicodeDecodeError:
            return None
    if raw[0] != 0x81 + len(segments) or len(segments) > SEGMENTS_MAX:
        return None
    return _path_untrusted((), (0, *segments))


def _path_of_untrusted(raw: bytes) -> Path | None:
    known = PATHS_READ.get(raw)
    if known is None and (known := _plain_path_untrusted(raw)) is not None:
        remember(PATHS_READ, raw, known, PATHS_KEPT)
    return known


PATHS_READ: Final[dict[bytes, Path]] = {}
"""By their bytes."""


def _plain_payload_untrusted(raw: bytes, at: int) -> tuple[Value, int]:
    """An unsigned integer, a double that no shorter float can hold, a short text or a constant, and where it ends. Raises
    Malformed for all else, right or not."""
    first = raw[at]
    if first < 0x20:
        return codec.number_untrusted(raw, at)
    if first == 0xFB and at + 9 == len(raw):
        (number,) = _DOUBLE.unpack_from(raw, at + 1)
        if -FLOAT_MAX <= number <= FLOAT_MAX and _FLOAT.unpack(_FLOAT.pack(number))[0] != number:
            return number, at + 9
    elif 0x60 <= first < 0x78:
        end = at + first - 0x5F
        text = raw[at + 1 : end]
        if text.isascii():
            return text.decode(), end
    elif first in _CONSTANTS:
        return _CONSTANTS[first], at + 1
    raise Malformed("not a plain payload")


_CONSTANTS: Final[Mapping[int, Value]] = {0xF4: False, 0xF5: True, 0xF6: None}
FLOAT_MAX: Final = 3e38
"""Nearly the largest number of single precision. Larger ones take the long way."""


def is_fresh(shelf: ShelfId, seq: int, index: int, op: Op) -> bool:
    """Whether the op was first issued here."""
    return op.dot == make_dot(seq, index) and op.origin == shelf


def same(value: T) -> T:
    """One object for equal values: shelf ids and rights come again with every delta."""
    known = _SAME.get(value)
    return cast(T, remember(_SAME, value, value, SAME_KEPT) if known is None else known)


_SAME: Final[dict[Any, Any]] = {}


def _number_untrusted(value: Any, limit: int, what: str) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise Malformed(f"{what} is not a number from 0 to {limit - 1}")
    return value


def _rights_untrusted(value: Any) -> Rights:
    if type(value) is not tuple or len(value) != 2:
        raise Malformed("rights are [credential, charter]")
    credential = _number_untrusted(value[0], SERIAL_LIMIT, "credential")
    return same(Rights(credential, _number_untrusted(value[1], SERIAL_LIMIT, "charter")))


def _origins_untrusted(shelf: ShelfId, value: Any) -> list[ShelfId]:
    if type(value) is not tuple:
        raise Malformed("origins are an array")
    for item in value:
        if type(item) is not bytes or len(item) != SHELF_ID_BYTES:
            raise Malformed(f"an origin has {SHELF_ID_BYTES} bytes")
    return [shelf, *[ShelfId(same(item)) for item in value]]


class _Context:
    """What the options of an op refer to."""

    __slots__ = ("last_dot", "last_time", "origins", "rights", "seq", "shelf", "time", "width")

    def __init__(self, shelf: ShelfId, seq: int, rights: Rights, time: int, origins: list[ShelfId], width: int) -> None:
        self.shelf = shelf
        self.seq = seq
        self.rights = rights
        self.time = time
        self.origins = origins
        self.width = width
        self.last_dot = seq * width
        self.last_time = time


def _ops_untrusted(
    items: tuple[Any, ...], shelf: ShelfId, seq: int, rights: Rights, time: int, origins: list[ShelfId], width: int
) -> tuple[tuple[Op, ...], int, bool]:
    """(ops, faulty, plain), as in `Body`."""
    context: _Context | None = None
    ops: list[Op] = []
    faulty = 0
    plain = True
    path: Path = ()
    own_dot = make_dot(seq, 0)
    new = tuple.__new__  # half the time of Op(...): there are 200,000 of them a second
    parent: Path = ()
    for index, item in enumerate(items):
        if type(item) is not tuple or not _FIELDS_FRESH <= (fields := len(item)) <= _FIELDS_MAX:
            raise Malformed("an op is an array of 4 to 9 fields")
        kind, type_code, steps, payload = item if fields == _FIELDS_FRESH else item[:4]
        if type(kind) is not int or not 0 <= kind < KIND_LIMIT or type(type_code) is not int or not 0 <= type_code < TYPE_LIMIT:
            raise Malformed("an op begins with its kind and its type")
        if (
            type(steps) is tuple
            and len(steps) == 2
            and steps[0] == len(parent) > 0
            and type(steps[0]) is int
            and type(steps[1]) is str
            and 0 < len(steps[1]) <= _CHARS_SURELY_SHORT
        ):
            path = (*parent, steps[1])  # a sibling of the op before, as most are: `_path_untrusted` would say the same
        else:
            path = _path_untrusted(path, steps)
            parent = path[:-1]
        if type(payload) not in _PLAIN:
            payload = codec.freeze_untrusted(payload, PAYLOAD_DEPTH_MAX)
        if fields == _FIELDS_FRESH:
            op = new(Op, (kind, type_code, path, payload, _NO_COVERS, shelf, own_dot | index, time, rights))
        else:
            plain = False
            context = context or _Context(shelf, seq, rights, time, origins, width)
            op = _op_with_options_untrusted(item, path, payload, own_dot | index, context)
            faulty |= (op.origin == shelf and op.dot != own_dot | index and dot_seq(op.dot) >= seq) << index
        if kind or not type_code:
            plain = False
            faulty |= _is_faulty_untrusted(op) << index
        ops.append(op)
    return tuple(ops), faulty, plain


_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})


def _path_untrusted(before: Path, steps: Any) -> Path:
    if type(steps) is not tuple or not steps:
        raise Malformed("a path is [shared, segment, ...]")
    shared = steps[0]
    if type(shared) is not int or not 0 <= shared <= len(before):
        raise Malformed("a path that shares more than there is")
    if not 0 < shared + len(steps) - 1 <= SEGMENTS_MAX:
        raise Malformed(f"a path has 1 to {SEGMENTS_MAX} segments")
    for segment in steps[1:]:
        if type(segment) is str:
            if not 0 < len(segment) <= _CHARS_SURELY_SHORT and not 0 < len(segment.encode()) <= SEGMENT_BYTES_MAX:
                raise Malformed(f"a segment has 1 to {SEGMENT_BYTES_MAX} bytes")
        elif type(segment) is not bytes or not 0 < len(segment) <= SEGMENT_BYTES_MAX:
            raise Malformed(f"a segment is text or bytes, 1 to {SEGMENT_BYTES_MAX}")
    if len(steps) == 2:
        return (*before[:shared], steps[1])
    # Parents come again with other deltas: one string for all of them.
    parents = [intern(segment) if type(segment) is str else segment for segment in steps[1:-1]]
    return (*before[:shared], *parents, *steps[1:][-1:])


def _op_with_options_untrusted(item: tuple[Any, ...], path: Path, payload: Value, own_dot: int, context: _Context) -> Op:
    covers, options = _NO_COVERS, item[4:]
    if type(options[0]) is tuple:
        covers, options = _covers_untrusted(options[0], context.origins), options[1:]
    fields = len(options)
    if fields > 4:
        raise Malformed("an op with more fields than there are")
    if not fields:
        return Op(item[0], item[1], path, payload, covers, context.shelf, own_dot, context.time, context.rights)
    context.last_dot = _stepped_untrusted(context.last_dot, options[0], SEQ_LIMIT * context.width)
    context.last_time = _stepped_untrusted(context.last_time, options[1] if fields > 1 else 0, TIME_LIMIT)
    dot = make_dot(*divmod(context.last_dot, context.width))
    origin = _origin_untrusted(options[2], context.origins) if fields > 2 else context.shelf
    rights = _rights_untrusted(options[3]) if fields > 3 else context.rights
    return Op(item[0], item[1], path, payload, covers, origin, dot, context.last_time, rights)


def linear(dot: int, width: int) -> int:
    """A dot as a number, where no index reaches `width`."""
    return dot_seq(dot) * width + dot_index(dot)


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
        if op.kind != VALUE or len(op.path) != 1 or len(op.path[0]) != HASH_BYTES or type(op.payload) is not bytes or op.covers:
            raise Malformed("a chunk is bytes at (their hash,)")
        return digest_16(op.payload) != op.path[0]
    return False


def _is_reference(payload: Value) -> bool:
    if type(payload) is not tuple or len(payload) != 4:
        return False
    depth, size, hashes, covers = payload
    numbers = all(type(number) is int and number >= 0 for number in (depth, size, covers))
    return numbers and type(hashes) is bytes and len(hashes) > 0 and not len(hashes) % HASH_BYTES
