"""One replica: its own shelf, and what it holds of all others. Pure: no clock, no socket, no disk.

replica = Replica(shelf)
delta = replica.write(type_code, path, payload, now_wall=...)      # or draft(...) several times, then seal()
other.receive(delta)
other.shown((type_code, path))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from crdt import codec, statements
from crdt.base import Base, Entry, Listing
from crdt.body import (
    BODY_BYTES_MAX,
    CORE_TYPE,
    PAYLOAD_DEPTH_MAX,
    SEGMENT_BYTES_MAX,
    SEGMENTS_MAX,
    TYPE_LIMIT,
    Body,
    Decode,
    Encode,
)
from crdt.chunks import LARGE_BYTES_MAX, chunk_key, plan
from crdt.delta import NO_HASH, Delta, Head, Header
from crdt.digest import digest_16
from crdt.draft import Draft, Page
from crdt.errors import PathError, ValueTooLarge
from crdt.ids import Dot, ReplicaId, ShelfId, dot_index, dot_seq, replica_of
from crdt.index import Over, key_order
from crdt.ops import DROPPED, KIND_MASK, LARGE, REMOVED, TAKEOVER, VALUE, WHILE_ALIVE, Cover, Key, Op, Path, Rights, Value
from crdt.state import RULES, Fault, Loose, State, always, check_of, same_replica

CoverPolicy: TypeAlias = Literal["all", "own"]
""""all": the write covers what other origins have at the key (registers, sets). "own": it only replaces its author's former cell (counters)."""

MAX_LOOSE = 256
"""Loose deltas per shelf (DESIGN section 2); the furthest are dropped, they come again."""
MAX_SHELVES = 8
"""Shelves per replica that are not taken over (DESIGN section 2); later ones wait."""
CHUNK_ROOM = 64
"""Bytes of a body around one chunk: rights, time, arrays, key."""


class Replica(State):
    """Writes to its own shelf and takes in others. Deltas given to `receive` must have a verified signature."""

    def __init__(
        self,
        shelf: ShelfId,
        *,
        sign: Callable[[bytes], bytes] = lambda _header_bytes: b"",
        encode: Encode = codec.encode,
        decode: Decode = codec.decode_untrusted,
        allowed: Callable[[Op, ShelfId], bool] | None = None,
        alive: Callable[[ShelfId], bool] = always,
        heir: Callable[[ShelfId, ShelfId], bool] = same_replica,
        rules: frozenset[str] = RULES,
        body_bytes_max: int = BODY_BYTES_MAX,
        large_bytes_max: int = LARGE_BYTES_MAX,
    ) -> None:
        """`allowed(op, host)`: whether the rights of the body let `host` write this (None: everything). `alive(shelf)`: for cells written while
        alive. `heir(former, host)`: whether `host` may take over `former`."""
        super().__init__(shelf, encode=encode, allowed=allowed, alive=alive, heir=heir, rules=rules)
        self._sign = sign
        self._decode = decode
        self._large_bytes_max = large_bytes_max
        self._draft = Draft(shelf, encode, body_bytes_max)
        self._sealed: list[Delta] = []
        self._shelves_of: dict[ReplicaId, set[ShelfId]] = {}

    # --- reading

    def keys(self, prefix: Path = ()) -> list[Key]:
        """Every key at or below `prefix` that has a cell, sorted by path (text before bytes), then type."""
        found = [*self.index.below(prefix), *(self.index.at(prefix) if prefix else ())]
        return sorted((key for key in found if self.cells(key)), key=key_order)

    def value(self, op: Op) -> Value:
        """The payload; that of a large op put together. None while its chunks are missing."""
        if not op.kind & LARGE:
            return op.payload
        content = self.chunks.content(op)
        return content.payload if content else None

    # --- writing

    @property
    def rights(self) -> Rights:
        """What the next writes are written under."""
        return self._draft.rights

    @rights.setter
    def rights(self, rights: Rights) -> None:
        self._draft.rights = rights

    @property
    def draft_size(self) -> int:
        """Bytes of the body that the draft would become, the last one if it fills several; 0 when nothing is drafted."""
        return self._draft.size

    def draft(
        self,
        type_code: int,
        path: Path,
        payload: Value = None,
        *,
        removed: bool = False,
        covers: CoverPolicy = "all",
        while_alive: bool = False,
        now_wall: int,
    ) -> Dot:
        """Write, visible here at once, not yet sealed. A second write of a key in one draft takes the place of the first.

        `now_wall`: microseconds. Raises PathError, UnsupportedValue, ValueTooLarge; then nothing was written.
        """
        _check_key(type_code, path)
        key = (type_code, path)
        payload = codec.freeze(payload, PAYLOAD_DEPTH_MAX)
        kind = (REMOVED if removed else VALUE) | (WHILE_ALIVE if while_alive else 0)
        covered = self._covers_of_write(key, "all" if removed else covers)
        time = self._draft.time_of_write(now_wall)

        def make(dot: int) -> Op:
            return Op(kind, type_code, path, payload, covered, self.shelf, dot, time, self._draft.rights)

        op = self._draft_in_place(key, make) or self._draft.add(make, bulk=False) or self._draft_large(make(0))
        self.index.lift(key, self.shelf, dot_seq(op.dot))
        self.index.lay(key, Over(self.shelf, dot_seq(op.dot), op))
        self.changes[key] = None
        return Dot(self.shelf, dot_seq(op.dot), dot_index(op.dot))

    def _draft_in_place(self, key: Key, make: Callable[[int], Op]) -> Op | None:
        found = self._draft.place_of(key, self.shelf)
        if not found:
            return None
        page, at = found
        if not page.writer.replace(at, make(page.writer.ops[at].dot), self._draft.limit):
            return None
        page.bulk = False
        return page.writer.ops[at]

    def _draft_large(self, op: Op) -> Op:
        """Chunks first, then the op that refers to them. Covers go along when they alone are too many."""
        size = len(self._encode(op.payload))
        if size > self._large_bytes_max:
            raise ValueTooLarge(f"the value at {op.path!r} has {size} bytes encoded: at most {self._large_bytes_max} are allowed")
        covers_inside = op.covers
        cut = plan(op.payload, covers_inside, self._draft.limit - CHUNK_ROOM, self._encode)
        for name, piece in cut.chunks:
            self._draft_chunk(name, piece)

        def make(dot: int) -> Op:
            return op._replace(kind=op.kind | LARGE, payload=cut.reference, covers=(), dot=dot)

        drafted = self._draft.add(make, bulk=False)
        if drafted is None:
            raise ValueTooLarge(f"the path {op.path!r} leaves no room for a value in a delta of {self._draft.limit} bytes")
        return drafted

    def _draft_chunk(self, name: bytes, piece: bytes) -> None:
        key = chunk_key(name)
        mine = self.index.slot(key, self.shelf, self.shelf)
        if (mine and mine[0].body.ops[mine[1]].kind == VALUE) or any(
            row.host == self.shelf for row in self.index.above.get(key, ())
        ):
            return
        op = self._draft.add(
            lambda dot: Op(VALUE, CORE_TYPE, key[1], piece, (), self.shelf, dot, self._draft.time, self._draft.rights), bulk=True
        )
        assert op is not None, "a chunk is cut to fit"
        self.index.lay(key, Over(self.shelf, dot_seq(op.dot), op))

    def _covers_of_write(self, key: Key, policy: CoverPolicy) -> tuple[Cover, ...]:
        """Rule 1: exactly the cells of others that are here, and what they and our own former cell covered; not what is gone."""
        if key not in self.index.slots and key not in self.index.above:
            return ()
        covers: set[Cover] = set()
        for origin, (_, _, op) in self.ranked(key).items():
            if op is None:
                continue
            own = origin == self.shelf
            if not own and policy == "all":
                covers.add(Cover(origin, op.dot, check_of(op, self._encode)))
            if "INHERIT" in self.rules and (own or policy == "all"):
                covers.update(cover for cover in self.covers_of(op) if cover.origin != self.shelf)
        if "PRUNE" in self.rules:
            covers = {cover for cover in covers if not self.gone(key, cover)}
        return tuple(sorted(covers))

    def seal(self) -> list[Delta]:
        """The draft as signed deltas, in order; [] when nothing is drafted."""
        for page in self._draft.take():
            self._sealed.append(self._seal(page))
        self.settle_takeovers()
        sealed, self._sealed = self._sealed, []
        return sealed

    def _seal(self, page: Page) -> Delta:
        body = page.writer.finish()
        base = self.bases.setdefault(self.shelf, Base(self.shelf))
        gc_floor = max(base.gc_floor, page.gc_floor)
        self.apply(base, body.seq, gc_floor, body)
        for op in body.ops:
            self.index.lift(op.key, self.shelf, body.seq)
        previous = base.head.hash if base.head else NO_HASH
        header = Header(self.shelf, body.seq, previous, base.digest(), gc_floor, body.hash)
        header_bytes = header.encoded(self._encode)
        head = Head(header, header_bytes, self._sign(header_bytes))
        base.advance(head)
        self.heads_changed.add(self.shelf)
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
        now_wall: int = 0,
    ) -> Delta:
        """`draft` and `seal` in one; what was drafted before goes along. Of several deltas (large values) the last: `seal` gives them all."""
        self.draft(type_code, path, payload, removed=removed, covers=covers, while_alive=while_alive, now_wall=now_wall)
        return self.seal()[-1]

    # --- receiving

    def receive(self, delta: Delta, mask: int | None = None) -> bool:
        """Take in a delta whose signature was verified; True when it is new. `mask`: the ops that a peer says are live."""
        head = delta.head
        shelf, seq = head.header.shelf, head.header.seq
        base = self.bases.get(shelf)
        floor = base.floor if base else 0
        if seq <= floor or shelf == self.shelf or shelf in self.ended:
            self._check_old(base, delta)
            return False
        if shelf in self.records and self.speakers(shelf, seq):
            return False
        if base is None and shelf not in self.loose and not self._has_room(shelf):
            return False
        if seq == floor + 1 and shelf not in self.loose and self._follows(base, delta):
            self._extend_by(base, delta)
        elif shelf in self.ended or not self._keep_loose(delta, mask):
            return False
        else:
            self._extend(shelf)
        if self._formers_changed or shelf in self.records:
            self._formers_changed[shelf] = None
            self.settle_takeovers()
        return True

    def _follows(self, base: Base | None, delta: Delta) -> bool:
        previous = base.head.hash if base and base.head else NO_HASH
        if delta.header.prev_hash != previous:
            self._fork(
                delta.shelf,
                "a successor names another predecessor",
                (base.head, delta.head) if base and base.head else (delta.head,),
            )
            return False
        return delta.content.takeover < 0 or self.can_follow(delta.shelf, delta.content)

    def _extend_by(self, base: Base | None, delta: Delta) -> None:
        if base is None:
            base = self.bases[delta.shelf] = Base(delta.shelf)
            self._shelves_of.setdefault(replica_of(delta.shelf), set()).add(delta.shelf)
        header = delta.header
        self.apply(base, header.seq, header.gc_floor, delta.content)
        base.advance(delta.head)
        self.heads_changed.add(delta.shelf)
        self.chores.moved(delta.shelf)

    def _extend(self, shelf: ShelfId) -> None:
        """Fold in the loose deltas that the floor has come to."""
        while shelf in self.loose:
            base = self.bases.get(shelf)
            seq = base.floor + 1 if base else 1
            loose = self.loose[shelf].get(seq)
            if loose is None or not self._follows(base, loose.delta):
                return
            self._extend_by(base, loose.delta)
            self._forget_loose(shelf, seq, loose)

    def _keep_loose(self, delta: Delta, mask: int | None) -> bool:
        shelf, seq = delta.shelf, delta.seq
        rows = self.loose.get(shelf, {})
        had = rows.get(seq)
        if had:
            if had.delta.head.hash != delta.head.hash:
                self._fork(shelf, f"two deltas {seq}", (had.delta.head, delta.head))
                return False
            mask = None if mask is None or had.mask is None else mask | had.mask
            if mask == had.mask:
                return False
            self.lift(had)
        elif len(rows) >= MAX_LOOSE:
            furthest = max(rows)
            if seq >= furthest:
                return False
            self._forget_loose(shelf, furthest, rows[furthest])
        loose = Loose(delta, mask)
        self._shelves_of.setdefault(replica_of(shelf), set()).add(shelf)
        self.loose.setdefault(shelf, {})[seq] = loose
        self.loose_changed[shelf, seq] = None
        self.lay(loose)
        return True

    def _forget_loose(self, shelf: ShelfId, seq: int, loose: Loose) -> None:
        self.drop_loose(shelf, seq, loose)

    def _has_room(self, shelf: ShelfId) -> bool:
        """Whether one more shelf of this replica is taken in: at most `MAX_SHELVES` that nobody has taken over."""
        siblings = self._shelves_of.get(replica_of(shelf), set())
        if len(siblings) < MAX_SHELVES:
            return True
        siblings &= self.bases.keys() | self.loose.keys()
        if len(siblings) < MAX_SHELVES:
            return True
        self.faults.append(Fault(shelf, "crowd", f"{len(siblings)} shelves of this replica are not taken over yet"))
        return False

    def _check_old(self, base: Base | None, delta: Delta) -> None:
        known = base.recent_hash(delta.seq) if base else None
        if known is None and delta.shelf != self.shelf:
            return
        if known != delta.head.hash:
            self._fork(delta.shelf, f"two deltas {delta.seq}", (delta.head,))

    def _fork(self, shelf: ShelfId, detail: str, proof: tuple[Head, ...]) -> None:
        if shelf not in self.ended:
            self.faults.append(Fault(shelf, "fork", detail, proof))
            if shelf != self.shelf:
                self.end(shelf)

    def end(self, shelf: ShelfId) -> None:
        """Nothing more of this shelf is taken (a proven fork, a cut); what is here stays as it is."""
        self.ended.add(shelf)

    # --- statements

    def digest(self, shelf: ShelfId) -> bytes:
        """Of our base as it is; equal to `head(shelf).header.shelf_digest` when all is well."""
        base = self.bases.get(shelf)
        return base.digest() if base else Base(shelf).digest()

    def listing(self, shelf: ShelfId, floor: int = 0) -> Listing | None:
        """What a peer at `floor` needs: all live ops above it, or the whole shelf when it is below gc_floor. None when we have no more than it."""
        return statements.listing(self, shelf, floor)

    def listing_matches(self, head: Head, entries: Sequence[Entry]) -> bool:
        """Whether a full list is the one that the author signed: before any body is fetched."""
        return statements.matches(head, entries)

    def missing_bodies(self, entries: Iterable[Entry]) -> list[tuple[ShelfId, int]]:
        """(body shelf, seq) of the bodies that are nowhere here."""
        return [(entry.shelf, entry.seq) for entry in entries if self.body(entry.shelf, entry.seq, entry.body_hash) is None]

    def body(self, shelf: ShelfId, seq: int, body_hash: bytes) -> Body | None:
        """A body by its name, whoever hosts it."""
        return statements.find_body(self, shelf, seq, body_hash)

    def jump(self, head: Head, since: int, entries: Sequence[Entry], bodies: Iterable[Body]) -> bool:
        """Take a peer's statement as our base: all of it, or nothing when a body is missing or the digest is not the author's.

        `head` has a verified signature; `bodies` need their hash only. They may be fewer than the entries where `missing_bodies` said so.
        """
        shelf = head.header.shelf
        if shelf == self.shelf or shelf in self.ended:
            return False
        if shelf not in self.bases and shelf not in self.loose and not self._has_room(shelf):
            return False
        if not statements.jump(self, head, since, entries, bodies):
            return False
        self._shelves_of.setdefault(replica_of(shelf), set()).add(shelf)
        self.heads_changed.add(shelf)
        self.chores.moved(shelf)
        for seq in self.loose_seqs(shelf):
            if seq <= head.header.seq:
                self._forget_loose(shelf, seq, self.loose[shelf][seq])
        self._extend(shelf)
        self._formers_changed[shelf] = None
        self.settle_takeovers()
        return True

    # --- for watchers

    def take_changes(self) -> list[Key]:
        """Keys whose cells changed since the last call, in the order of their first change."""
        changes = [key for key in self.changes if key[0] != CORE_TYPE]
        self.changes.clear()
        return changes

    def state_digest(self) -> bytes:
        """One hash over all that is shown, in order: equal on replicas that show the same. Presence is left to each one's own eyes."""
        parts = []
        for key in self.keys():
            cells = self.cells(key)
            for op in cells:
                if op.kind & KIND_MASK == VALUE and not self.is_covered(op, cells):
                    parts.append(self._encode((op.kind, op.type, op.path, self.value(op), op.origin, op.dot, op.time)))
        return digest_16(b"".join(parts))


def _check_key(type_code: int, path: Path) -> None:
    if not CORE_TYPE < type_code < TYPE_LIMIT:
        raise PathError(f"type code {type_code}: 1 to {TYPE_LIMIT - 1} are for views")
    if type(path) is not tuple or not 0 < len(path) <= SEGMENTS_MAX:
        raise PathError(f"path {path!r:.80} has {len(path)} segments: 1 to {SEGMENTS_MAX} are allowed")
    for segment in path:
        if type(segment) not in (str, bytes):
            raise PathError(f"segment {segment!r:.80} of path {path!r:.80} is neither str nor bytes")
        raw = segment.encode("utf-8", "surrogatepass") if isinstance(segment, str) else segment
        if not 0 < len(raw) <= SEGMENT_BYTES_MAX:
            raise PathError(f"segment {segment!r:.80} has {len(raw)} bytes: 1 to {SEGMENT_BYTES_MAX} are allowed")


__all__ = ["DROPPED", "RULES", "TAKEOVER", "CoverPolicy", "Fault", "Loose", "Replica"]
