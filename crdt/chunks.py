"""Values and covers that do not fit into one datagram: a list of chunks under content hashes.

A large op's payload is a reference [depth, size, hashes, covers]. Its content is the deterministic CBOR of [payload, covers],
`size` bytes, cut into leaves; at depth 0 `hashes` names the leaves, at depth 1 nodes of leaf hashes, and so on. Every leaf
and node is a chunk cell of its own at the core's key (hash,), written before the op that needs it. `covers` counts those
inside.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple, cast

from crdt import codec
from crdt.body import Decode, Encode
from crdt.digest import digest_16
from crdt.ids import SHELF_ID_BYTES, ShelfId
from crdt.index import Index
from crdt.limits import CHECK_LIMIT, CORE_TYPE, COVERS_MAX, DOT_LIMIT, HASH_BYTES, LARGE_BYTES_MAX
from crdt.ops import LARGE, VALUE, Cover, Key, Op, Segment, Value

HASHES_INLINE_MAX: Final = 32
"""Hashes in a reference: 512 bytes, so that op and path still fit into one body."""
DEPTH_MAX: Final = 4
"""Levels of nodes: 32 hashes, 52 to a node, make 100 MB at depth 2."""
CHUNK_BYTES_MIN: Final = 64
"""Nobody cuts finer, so that nodes are at most a quarter of what they lead to."""
COVERS_ROOM: Final = 32 * COVERS_MAX + 16
"""Bytes that the covers add to a content."""
CACHE_BYTES_MAX: Final = 8 << 20
"""Contents kept put together, with their ops (guess: a few of the largest)."""
CACHED_BYTES: Final = 1_024
"""What one takes beside its content: an op of one body at most. So what has no content counts, too."""
READ_MAX: Final = 256
"""Contents of up to `READ_BYTES_MAX` that are remembered as they were read: replicas in one process share them. Guess: those
of the newest writes of hot keys, whose covers alone fill a body."""
READ_BYTES_MAX: Final = 4_096


class Reference(NamedTuple):
    """The payload of a large op."""

    depth: int
    size: int
    hashes: bytes
    covers: int


class Content(NamedTuple):
    """What a large op really says."""

    payload: Value
    covers: tuple[Cover, ...]


class Plan(NamedTuple):
    """How to write a large op: the chunks in the order in which they are sent, and the reference."""

    chunks: tuple[tuple[bytes, bytes], ...]
    reference: tuple[Value, ...]


def chunk_key(name: bytes) -> Key:
    return (CORE_TYPE, (name,))


def plan(payload: Value, covers: tuple[Cover, ...], chunk_bytes: int, encode: Encode = codec.encode) -> Plan:
    """Cut [payload, covers] into chunks of at most `chunk_bytes`."""
    flat = [field for cover in covers for field in (cover.origin, cover.dot, cover.check)]
    content = encode([payload, flat])
    chunks: dict[bytes, bytes] = {}
    level = content
    depth = -1
    while depth < 0 or len(level) > HASHES_INLINE_MAX * HASH_BYTES:
        step = chunk_bytes if depth < 0 else chunk_bytes - chunk_bytes % HASH_BYTES
        names = []
        for at in range(0, len(level), step):
            piece = level[at : at + step]
            names.append(digest_16(piece))
            chunks[names[-1]] = piece
        level = b"".join(names)
        depth += 1
    return Plan(tuple(chunks.items()), (depth, len(content), level, len(covers)))


def _reference_of(op: Op) -> Reference:
    """Of a large op, whose form `body_from_bytes_untrusted` has checked."""
    return Reference(*cast("tuple[int, int, bytes, int]", op.payload))


def _cost(op: Op, content: Content | None) -> int:
    """Bytes in the cache. A size that was only claimed is none."""
    return CACHED_BYTES + (_reference_of(op).size if content is not None else 0)


def _split(hashes: bytes) -> Iterator[bytes]:
    return (hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES))


class Chunks:
    """Finds and puts together the contents of large ops. `payload_bytes_max`: larger ones are not read either."""

    def __init__(self, index: Index, decode: Decode = codec.decode_untrusted, payload_bytes_max: int = LARGE_BYTES_MAX) -> None:
        self._index = index
        self._decode = decode
        self._content_bytes_max = payload_bytes_max + COVERS_ROOM
        self._cache: OrderedDict[int, tuple[Op, Content | None]] = OrderedDict()
        """By the identity of the op, which is kept so that it stays its own. No content: the chunks are all here, and are none.
        That is for ever, since their names prove them."""
        self._cache_bytes = 0
        self._awaited: dict[Segment, dict[tuple[ShelfId, int], tuple[Key, Op]]] = {}
        """By one missing chunk each: the large ops that are not complete, by origin and dot."""
        self._awaits: dict[tuple[ShelfId, int], Segment] = {}

    def expect(self, key: Key, op: Op) -> None:
        """Remember to look at `op` again when a chunk comes, unless it is complete."""
        self.forget(op)
        missing = self.missing(op)
        if missing:  # the middle one: whatever the order in which they come, few looks are needed
            name = self._awaits[op.origin, op.dot] = missing[len(missing) // 2]
            self._awaited.setdefault(name, {})[op.origin, op.dot] = (key, op)

    def forget(self, op: Op) -> None:
        """It is not here any more."""
        name = self._awaits.pop((op.origin, op.dot), None)
        if name is not None:
            rows = self._awaited[name]
            del rows[op.origin, op.dot]
            if not rows:
                del self._awaited[name]

    def arrived(self, name: Segment) -> list[tuple[Key, Op]]:
        """A chunk is here now. Returns the large ops that it made complete, by key."""
        awaited = [*self._awaited.get(name, {}).values()]
        for key, op in awaited:
            self.expect(key, op)
        return [(key, op) for key, op in awaited if (op.origin, op.dot) not in self._awaits]

    # --- reading

    def complete(self, op: Op) -> bool:
        """Whether all that the op needs is here. While it is loose, it counts as not received until then."""
        return not op.kind & LARGE or (not self.missing(op) and self.content(op) is not None)

    def covers(self, op: Op) -> tuple[Cover, ...]:
        """Of a large op: those in it, and those that went into its chunks."""
        content = self.content(op) if _reference_of(op).covers else None
        return op.covers + content.covers if content else op.covers

    def has_covers(self, op: Op) -> bool:
        """Whether there are covers in the chunks of this large op, and all of these are here."""
        return cast("tuple[int, int, bytes, int]", op.payload)[3] > 0 and self.content(op) is not None

    def content(self, op: Op) -> Content | None:
        """None while chunks are missing, and when they are not what the op says. One object for all replicas in a process, while
        it is remembered."""
        known = self._cache.get(id(op))
        if known is not None:
            if self._cache_bytes > CACHE_BYTES_MAX // 2:  # as long as there is room, order does not matter
                self._cache.move_to_end(id(op))
            return known[1]
        reference = _reference_of(op)
        raw = self._join(op.origin, reference)
        if raw is None:
            return None
        read = _short_content_untrusted if len(raw) <= READ_BYTES_MAX else _content_untrusted
        content = read(raw, self._decode)
        if content is not None and len(content.covers) != reference.covers:
            content = None
        self._cache[id(op)] = (op, content)
        self._cache_bytes += _cost(op, content)
        while self._cache_bytes > CACHE_BYTES_MAX:
            self._cache_bytes -= _cost(*self._cache.popitem(last=False)[1])
        return content

    def names(self, op: Op) -> list[bytes]:
        """Every chunk that the op needs, as far as the nodes that name them are here."""
        found: dict[bytes, None] = {}
        if op.kind & LARGE:
            reference = _reference_of(op)
            level = [reference.hashes]
            for below in range(min(reference.depth, DEPTH_MAX), -1, -1):
                fresh = dict.fromkeys(name for node in level for name in _split(node) if name not in found)
                found.update(fresh)  # each node once, however often it is named
                nodes = [self.piece(op.origin, name) for name in fresh] if below else []
                level = [node for node in nodes if node is not None]
        return list(found)

    def missing(self, op: Op) -> list[bytes]:
        """Names of chunks that are needed and not here."""
        return [name for name in self.names(op) if self.piece(op.origin, name) is None]

    def _join(self, origin: ShelfId, reference: Reference) -> bytes | None:
        """The content's bytes; None while some are missing; b"" where it cannot be: nodes that multiply, another size."""
        depth, size, level, _ = reference
        if depth > DEPTH_MAX or not 0 < size <= self._content_bytes_max:
            return b""
        for below in range(depth, -1, -1):
            room = size // (CHUNK_BYTES_MIN // HASH_BYTES) + HASH_BYTES if below else size
            pieces = []
            for name in _split(level):
                piece = self.piece(origin, name)
                if piece is None:
                    return None
                pieces.append(piece)
                room -= len(piece)
                if room < 0 or not piece:
                    return b""
            level = b"".join(pieces)
        return level if len(level) == size else b""

    def piece(self, origin: ShelfId, name: bytes) -> bytes | None:
        """The chunk of this hash that `origin` wrote. Its name would prove anybody's; but what shows must not depend on what
        others happen to keep."""
        key = chunk_key(name)
        for held, index in self._index.all_slots(key):
            op = held.body.ops[index]
            if op.origin == origin and op.kind == VALUE and not held.void >> index & 1:
                return op.payload  # type: ignore[return-value]  # the body was checked: chunks are bytes
        for row in self._index.above.get(key, ()):
            if row.op.origin == origin and row.op.kind == VALUE:
                return row.op.payload  # type: ignore[return-value]
        return None


def _content_untrusted(raw: bytes, decode: Decode) -> Content | None:
    try:
        parts = codec.freeze_untrusted(decode(raw))
    except Exception:  # noqa: BLE001  # an injected decoder has errors of its own; whatever they are, this is no content
        return None
    if not isinstance(parts, tuple) or len(parts) != 2 or not isinstance(parts[1], tuple):
        return None
    if len(parts[1]) % 3 or len(parts[1]) > 3 * COVERS_MAX:
        return None
    covers = []
    for at in range(0, len(parts[1]), 3):
        origin, dot, check = parts[1][at : at + 3]
        if type(origin) is not bytes or len(origin) != SHELF_ID_BYTES:
            return None
        if type(dot) is not int or not 0 <= dot < DOT_LIMIT or type(check) is not int or not 0 <= check < CHECK_LIMIT:
            return None  # who covers this op inherits its covers, and must be able to write them
        covers.append(Cover(ShelfId(origin), dot, check))
    return Content(parts[0], tuple(covers))


@lru_cache(maxsize=READ_MAX)
def _short_content_untrusted(raw: bytes, decode: Decode) -> Content | None:
    return _content_untrusted(raw, decode)
