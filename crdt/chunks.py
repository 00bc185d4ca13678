"""Values and covers that do not fit into one datagram: a list of chunks under content hashes.

A large op's payload is a reference [depth, size, hashes, covers]. Its content is the deterministic CBOR of [payload, covers], `size` bytes, cut
into leaves; at depth 0 `hashes` names the leaves, at depth 1 nodes of leaf hashes, and so on. Every leaf and node is a chunk cell of its
own at the core's key (hash,), written before the op that needs it. `covers` counts those inside.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from crdt import codec
from crdt.body import Decode, Encode
from crdt.digest import digest_16
from crdt.ids import SHELF_ID_BYTES, ShelfId
from crdt.index import Index
from crdt.limits import CORE_TYPE, HASH_BYTES, LARGE_BYTES_MAX
from crdt.ops import LARGE, VALUE, Cover, Key, Op, Value

DEPTH_LIMIT: Final = 4
HASHES_INLINE_MAX: Final = 32
"""Hashes in a reference: 512 bytes, so that op and path still fit into one body."""
CACHE_BYTES_MAX: Final = 8 << 20
"""Contents kept put together (guess: a few of the largest)."""


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


def _split(hashes: bytes) -> Iterator[bytes]:
    return (hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES))


class Chunks:
    """Finds and puts together the contents of large ops."""

    def __init__(self, index: Index, decode: Decode = codec.decode_untrusted) -> None:
        self._index = index
        self._decode = decode
        self._cache: OrderedDict[bytes, tuple[Content, int]] = OrderedDict()
        self._cache_bytes = 0

    def complete(self, op: Op) -> bool:
        """Whether all that the op needs is here. While it is loose, it counts as not received until then."""
        return not op.kind & LARGE or self.content(op) is not None

    def covers(self, op: Op) -> tuple[Cover, ...]:
        count = op.payload[3] if isinstance(op.payload, tuple) else 0
        if not count:
            return op.covers
        content = self.content(op)
        return op.covers + content.covers if content else op.covers

    def content(self, op: Op) -> Content | None:
        """None while chunks are missing, or for ever when they are not what the op says."""
        assert isinstance(op.payload, tuple)
        depth, size, hashes, count = op.payload
        assert isinstance(depth, int)
        assert isinstance(size, int)
        assert isinstance(hashes, bytes)
        name = (
            hashes + size.to_bytes(8, "big") + bytes((depth & 255,))
            if depth <= DEPTH_LIMIT and size <= 2 * LARGE_BYTES_MAX
            else b""
        )
        if not name:
            return None
        cached = self._cache.get(name)
        if cached:
            self._cache.move_to_end(name)
            return cached[0]
        raw = self._join(depth, size, hashes)
        if raw is None:
            return None
        content = self._content_untrusted(raw)
        if content is not None and len(content.covers) == count:
            self._remember(name, content, len(raw))
            return content
        return None

    def _remember(self, name: bytes, content: Content, size: int) -> None:
        self._cache[name] = (content, size)
        self._cache_bytes += size
        while self._cache_bytes > CACHE_BYTES_MAX:
            _, (_, dropped) = self._cache.popitem(last=False)
            self._cache_bytes -= dropped

    def names(self, op: Op) -> list[bytes]:
        """Every chunk that the op needs, as far as the nodes that name them are here."""
        if not op.kind & LARGE:
            return []
        assert isinstance(op.payload, tuple)
        depth, _, hashes, _ = op.payload
        assert isinstance(depth, int)
        assert isinstance(hashes, bytes)
        found: dict[bytes, None] = {}
        level = [hashes]
        for below in range(min(depth, DEPTH_LIMIT), -1, -1):
            fresh = [name for node in level for name in _split(node) if name not in found]
            found.update(dict.fromkeys(fresh))
            level = [node for node in map(self.piece, fresh) if node is not None] if below else []
        return list(found)

    def missing(self, op: Op) -> list[bytes]:
        """Names of chunks that are needed and not here."""
        return [name for name in self.names(op) if self.piece(name) is None]

    def _join(self, depth: int, size: int, hashes: bytes) -> bytes | None:
        level = hashes
        for _ in range(depth + 1):
            pieces = []
            held = 0
            for name in _split(level):
                piece = self.piece(name)
                if piece is None:
                    return None
                pieces.append(piece)
                held += len(piece)
                if held > 2 * LARGE_BYTES_MAX:
                    return None  # a node that names itself over and over
            level = b"".join(pieces)
        return level if len(level) == size else None

    def piece(self, name: bytes) -> bytes | None:
        """The chunk of this hash, from whichever shelf: its name proves it."""
        key = chunk_key(name)
        for held, index in self._index.all_slots(key):
            op = held.body.ops[index]
            if op.kind == VALUE and not held.body.void >> index & 1:
                return op.payload  # type: ignore[return-value]  # the body was checked: chunks are bytes
        for row in self._index.above.get(key, ()):
            if row.op.kind == VALUE:
                return row.op.payload  # type: ignore[return-value]
        return None

    def _content_untrusted(self, raw: bytes) -> Content | None:
        try:
            parts = codec.freeze_untrusted(self._decode(raw))
        except Exception:  # noqa: BLE001  # an injected decoder has errors of its own; whatever they are, this is no content
            return None
        if not isinstance(parts, tuple) or len(parts) != 2 or not isinstance(parts[1], tuple) or len(parts[1]) % 3:
            return None
        covers = []
        for at in range(0, len(parts[1]), 3):
            origin, dot, check = parts[1][at : at + 3]
            if type(origin) is not bytes or len(origin) != SHELF_ID_BYTES or type(dot) is not int or type(check) is not int:
                return None
            covers.append(Cover(ShelfId(origin), dot, check))
        return Content(parts[0], tuple(covers))
