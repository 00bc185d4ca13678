"""Writing to the own shelf: what a write covers, the draft, sealing it into signed deltas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from crdt import codec
from crdt.base import Base
from crdt.body import Decode, Encode
from crdt.chores import Chores
from crdt.chunks import chunk_key, plan
from crdt.delta import NO_HASH, Delta, Head, Header
from crdt.draft import Draft, Page
from crdt.errors import PathError, ValueTooLarge
from crdt.ids import Dot, ShelfId, dot_index, dot_seq
from crdt.index import Over
from crdt.limits import (
    BODY_BYTES_MAX,
    CORE_TYPE,
    COVERS_MAX,
    LARGE_BYTES_MAX,
    PAYLOAD_DEPTH_MAX,
    SEGMENT_BYTES_MAX,
    SEGMENTS_MAX,
    TYPE_LIMIT,
)
from crdt.native import mypyc_attr
from crdt.ops import DROPPED, LARGE, REMOVED, TAKEOVER, VALUE, WHILE_ALIVE, Cover, Key, Op, Path, Rights, Value
from crdt.packer import REISSUE_BYTES
from crdt.shelves import Shelves
from crdt.state import RULES, VoidOps, always, same_replica
from crdt.takeover import Record, takeover_key

CoverPolicy: TypeAlias = Literal["all", "own"]
""""all": a write covers what other origins have at the key (registers, sets). "own": it only replaces its author's former
cell, whose covers it keeps (counters)."""

CHUNK_ROOM = REISSUE_BYTES + 32
"""Bytes of a body around one chunk: what an op issued again needs, kind, type, path, length of the chunk."""
CHUNKS_PUSHED_MAX = 2
"""Of a value of at most so many chunks these are no bulk: who lacks them would have to ask before the value shows. Guess: values
of up to 1.7 kB, and writes of a key that fifty others write, too, whose covers alone fill a body."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Writer(Shelves):
    """`Shelves`, one of which is our own."""

    def __init__(
        self,
        shelf: ShelfId,
        *,
        sign: Callable[[bytes], bytes] = lambda _header_bytes: b"",
        encode: Encode = codec.encode,
        decode: Decode = codec.decode_untrusted,
        void_ops: VoidOps | None = None,
        alive: Callable[[ShelfId], bool] = always,
        heir: Callable[[ShelfId, ShelfId], bool] = same_replica,
        now_wall: Callable[[], int] = lambda: 0,
        rules: frozenset[str] = RULES,
        body_bytes_max: int = BODY_BYTES_MAX,
        large_bytes_max: int = LARGE_BYTES_MAX,
    ) -> None:
        """A new shelf: every start of a replica begins one.

        sign: the bare signature of header bytes. encode, decode: deterministic CBOR, strict (`crdt.codec`; cbor2 is faster).
        void_ops: what its author had no right to write. alive: whether a shelf is the live one of a live member (`while_alive`).
        heir: whether the second shelf may take over the first. now_wall: microseconds, for writes that name no time.
        """
        super().__init__(
            shelf,
            encode=encode,
            decode=decode,
            large_bytes_max=large_bytes_max,
            void_ops=void_ops,
            alive=alive,
            heir=heir,
            rules=rules,
        )
        self._sign = sign
        self._now_wall = now_wall
        self._large_bytes_max = large_bytes_max
        self._draft = Draft(shelf, encode, body_bytes_max)
        self._sealed: list[Delta] = []

    @property
    def rights(self) -> Rights:
        """What the next writes are written under."""
        return self._draft.rights

    @rights.setter
    def rights(self, rights: Rights) -> None:
        self._draft.rights = rights

    @property
    def draft_size(self) -> int:
        """Bytes of the bodies that `seal` would make now; 0 when nothing is drafted."""
        return self._draft.size

    @property
    def next_dot(self) -> int:
        """A number above every dot of this shelf so far."""
        return self._draft.next_dot()

    # --- one write

    def draft(
        self,
        type_code: int,
        path: Path,
        payload: Value = None,
        *,
        removed: bool = False,
        covers: CoverPolicy = "all",
        while_alive: bool = False,
        now_wall: int | None = None,
    ) -> Dot:
        """Write: it shows here at once and is not sealed yet. A second write of a key in one draft takes the place of the first.

        now_wall: microseconds. Raises PathError, UnsupportedValue, ValueTooLarge; then nothing was written.
        """
        _check_key(type_code, path)
        key = (type_code, path)
        payload = codec.freeze(payload, PAYLOAD_DEPTH_MAX)
        kind = (REMOVED if removed else VALUE) | (WHILE_ALIVE if while_alive else 0)
        covered = self._covers_of_write(key, "all" if removed else covers)
        time = self._draft.time_of_write(self._now_wall() if now_wall is None else now_wall)

        def make(dot: int) -> Op:
            return Op(kind, type_code, path, payload, covered, self.shelf, dot, time, self._draft.rights)

        op = self._draft_in_place(key, make) or self._draft.add(make, bulk=False) or self._draft_large(make(0))
        self._show_drafted(op)
        return Dot(self.shelf, dot_seq(op.dot), dot_index(op.dot))

    def _covers_of_write(self, key: Key, policy: CoverPolicy) -> tuple[Cover, ...]:
        """Rule 1: exactly the cells of others that are here, and what they and our own former cell covered; not what is gone."""
        if key not in self.index:
            return ()
        held: set[Cover] = set()
        inherited: set[Cover] = set()
        for origin, (_, _, op) in self.ranked(key).items():
            if op is None:
                continue
            own = origin == self.shelf
            if not own and policy == "all":
                held.add(Cover(origin, op.dot, self.check(op)))
            if "INHERIT" in self.rules and (own or policy == "all"):
                inherited.update(cover for cover in self.covers_of(op) if cover.origin != self.shelf)
        if "PRUNE" in self.rules:
            inherited = {cover for cover in inherited if not self.gone(key, cover)}
        return tuple(sorted([*sorted(held), *sorted(inherited - held)][:COVERS_MAX]))

    def _draft_in_place(self, key: Key, make: Callable[[int], Op]) -> Op | None:
        found = self._draft.place(key, self.shelf)
        if not found:
            return None
        page, at = found
        dot = page.writer.own_dot(at)
        if page.writer.rights != self.rights or not page.writer.replace(at, make(dot), self._draft.limit):
            return None
        page.bulk = False
        return page.writer.ops[at]

    def _show_drafted(self, op: Op) -> None:
        key, seq = op.key, dot_seq(op.dot)
        self.index.lift(key, self.shelf, seq)
        self.index.lay(key, Over(self.shelf, seq, op))
        self.changes[key] = None
        if op.kind & WHILE_ALIVE:
            self.presence.setdefault(op.origin, set()).add(key)

    # --- large values

    def _draft_large(self, op: Op) -> Op:
        """Chunks first, then the op that refers to them. Its covers go into them along with the payload."""
        size = len(self.encode(op.payload))
        if size > self._large_bytes_max:
            raise ValueTooLarge(
                f"the value at {_brief(op.path)} has {size} bytes encoded: at most {self._large_bytes_max} are allowed"
            )
        cut = plan(op.payload, op.covers, self._draft.limit - CHUNK_ROOM, self.encode)

        def make(dot: int) -> Op:
            return op._replace(kind=op.kind | LARGE, payload=cut.reference, covers=(), dot=dot)

        if not self._draft.has_room(make(self._draft.next_dot())):
            raise ValueTooLarge(f"the path {_brief(op.path)} leaves no room for a value in a delta of {self._draft.limit} bytes")
        for name, piece in cut.chunks:
            self._draft_chunk(name, piece, bulk=len(cut.chunks) > CHUNKS_PUSHED_MAX)
        drafted = self._draft.add(make, bulk=False)
        assert drafted is not None, "has_room said so"
        return drafted

    def _draft_chunk(self, name: bytes, piece: bytes, *, bulk: bool) -> None:
        key = chunk_key(name)
        if self._draft.mentions(key, self.shelf):
            rows = self.index.above.get(key, ())
            if any(row.host == self.shelf for row in rows):
                return  # it goes along already
        elif (slot := self.index.slot(key, self.shelf, self.shelf)) and slot[0].body.ops[slot[1]].kind == VALUE:
            return
        op = self._draft.add(
            lambda dot: Op(VALUE, CORE_TYPE, key[1], piece, (), self.shelf, dot, self._draft.time, self._draft.rights), bulk=bulk
        )
        assert op is not None, "a chunk is cut to fit"
        self._show_drafted(op)

    # --- housekeeping's ops

    def is_drafted(self, key: Key, origin: ShelfId) -> bool:
        """Whether the draft says something of this cell of our shelf."""
        return self._draft.mentions(key, origin)

    def has_large_draft(self) -> bool:
        return any(op.kind & LARGE for page in self._draft.pages for op in page.writer.ops)

    def drafted_gc_floor(self) -> int:
        return self._draft.gc_floor()

    def raise_gc_floor(self, gc_floor: int) -> None:
        """With the newest page: what is issued again is in it or before it."""
        self._draft.raise_gc_floor(gc_floor)

    def draft_takeover(self, former: ShelfId, record: Record) -> None:
        key = takeover_key(former)
        op = self._draft.add(
            lambda dot: Op(TAKEOVER, *key, record.payload(), (), self.shelf, dot, self._draft.time, self._draft.rights),
            bulk=False,
        )
        if op is None:
            raise ValueTooLarge("more gaps between loose deltas than one takeover can name")

    def draft_again(self, op: Op) -> None:
        """Issue an op of our shelf once more, as it is."""
        if self._draft.add(lambda _dot: op, bulk=True) is None:
            raise ValueTooLarge(f"the op at {_brief(op.path)} does not fit into a delta of {self._draft.limit} bytes")

    def draft_dropped(self, op: Op) -> None:
        """Take a cell off our shelf: an own one by a new dot, a hosted one by its own."""

        def make(dot: int) -> Op:
            dot = dot if op.origin == self.shelf else op.dot
            return Op(DROPPED, op.type, op.path, None, (), op.origin, dot, self._draft.time, self._draft.rights)

        dropped = self._draft.add(make, bulk=True)
        assert dropped is not None, "smaller than the op itself"

    # --- another shelf

    def begin_again(self, shelf: ShelfId) -> None:
        """Go on with a new shelf in this process: somebody else writes the one that we had. What is drafted becomes the last of
        the former here, for `take_over` or `close` to bring along. Rights of the former (bounded counters) are not inherited:
        two may have spent them."""
        self.seal_pages()
        self._sealed.clear()
        rights = self.rights
        self.shelf = shelf
        self.chores = Chores(shelf, self.chunks)
        self._draft = Draft(shelf, self.encode, self._draft.limit)
        self._draft.rights = rights

    # --- sealing

    def seal(self) -> list[Delta]:
        """The draft as signed deltas, in order; [] when there is nothing to send."""
        self.seal_pages()
        sealed, self._sealed = self._sealed, []
        return sealed

    def seal_pages(self) -> None:
        """Make the draft part of the own base. The deltas wait for `seal`."""
        for page in self._draft.take():
            self._sealed.append(self._seal_page(page))
        self.settle_takeovers()

    def _seal_page(self, page: Page) -> Delta:
        body = page.writer.finish()
        base = self.bases.setdefault(self.shelf, Base(self.shelf))
        gc_floor = max(base.gc_floor, page.gc_floor)
        self.apply(base, gc_floor, body, self.judge(body))
        for op in body.ops:
            self.index.lift(op.key, self.shelf, body.seq)
        previous = base.head.hash if base.head else NO_HASH
        header = Header(self.shelf, body.seq, previous, base.digest(), gc_floor, body.hash)
        header_bytes = header.encoded()
        head = Head(header, header_bytes, self._sign(header_bytes))
        base.advance(head)
        self.unsaved.heads.add(self.shelf)
        return Delta(head, body, bulk=page.bulk)

    def write(
        self,
        type_code: int,
        path: Path,
        payload: Value = None,
        *,
        removed: bool = False,
        covers: CoverPolicy = "all",
        while_alive: bool = False,
        now_wall: int | None = None,
    ) -> Delta:
        """`draft` and `seal` in one. Of several deltas (a large value, an earlier draft) the last; the others stay for `seal`."""
        self.draft(type_code, path, payload, removed=removed, covers=covers, while_alive=while_alive, now_wall=now_wall)
        self.seal_pages()
        return self._sealed.pop()


def _check_key(type_code: int, path: Path) -> None:
    if not CORE_TYPE < type_code < TYPE_LIMIT:
        raise PathError(f"type code {type_code}: 1 to {TYPE_LIMIT - 1} are for views")
    if type(path) is not tuple or not 0 < len(path) <= SEGMENTS_MAX:
        raise PathError(f"path {path!r:.80}: it is a tuple of 1 to {SEGMENTS_MAX} segments")
    segments: tuple[object, ...] = path
    for segment in segments:
        if type(segment) is not str and type(segment) is not bytes:
            raise PathError(f"segment {segment!r:.80} of path {path!r:.80} is neither str nor bytes")
        if len(segment) * 4 <= SEGMENT_BYTES_MAX and segment and (type(segment) is bytes or segment.isascii()):
            continue
        try:
            size = len(segment.encode() if isinstance(segment, str) else segment)
        except UnicodeEncodeError:
            raise PathError(f"segment {segment!r:.80} has characters that UTF-8 cannot carry") from None
        if not 0 < size <= SEGMENT_BYTES_MAX:
            raise PathError(f"segment {segment!r:.80} has {size} bytes: 1 to {SEGMENT_BYTES_MAX} are allowed")


def _brief(path: Path) -> str:
    """For people, and never longer than a line."""
    text = "/".join(segment if isinstance(segment, str) else f"0x{segment.hex()}" for segment in path)
    return text if len(text) <= 80 else text[:77] + "..."
