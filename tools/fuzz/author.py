"""An author who signs whatever he likes: his deltas are well-formed and his digests right, what they say is anything.

A shelf is a function of its author's chain, whoever reads it and in whatever order it comes. So replicas that get the same
deltas in order, backwards, with gaps, or as one listing must show the same, and no view may stumble over what it is shown.
"""

from __future__ import annotations

import random
from typing import Final

from crdt.base import Entry, digest_of
from crdt.body import Body, body_from_bytes_untrusted
from crdt.delta import Delta, Head, delta_from_parts_untrusted, head_from_bytes_untrusted
from crdt.digest import digest_16
from crdt.errors import Malformed
from crdt.ids import ReplicaId, ShelfId, birth_of, replica_of, shelf_id
from crdt.replica import Replica
from crdt.state import RULES
from crdt.types import value_key
from mesh.values import history_of, read_value
from mesh.wire import cbor
from tools.fuzz.grammar import Grammar
from tools.fuzz.material import material
from tools.fuzz.subject import Broken, Source, Subject, Target, mixed, same

COMPARED_EVERY: Final = 40
"""Inputs between two comparisons of all replicas."""
AUTHOR: Final = shelf_id(ReplicaId(b"hostile!"), 1)
READERS: Final = tuple(shelf_id(ReplicaId(b"reader%02d" % number), 1) for number in range(3))


class Chain:
    """One shelf of the hostile author, its digests computed by a replica that believes everything."""

    def __init__(self, shelf: ShelfId) -> None:
        self.shelf = shelf
        self.seq = 0
        self._hash = bytes(16)
        self._shadow = Replica(shelf_id(replica_of(shelf), birth_of(shelf) ^ 1), rules=RULES - {"VERIFY"})
        self._shadow_hash = bytes(16)

    def header(self, raw: bytes) -> bytes:
        """The header of the next delta with this body, of which S(n) has the right digest. Raises Malformed for no body."""
        body_from_bytes_untrusted(self.shelf, self.seq + 1, raw)
        blank = self._header(raw, self._shadow_hash, bytes(16))
        delta = delta_from_parts_untrusted(replica_of(self.shelf), blank, b"", raw)
        self._shadow.receive(delta)
        self._shadow_hash = digest_16(blank)
        header = self._header(raw, self._hash, self._shadow.digest(self.shelf))
        self._hash = digest_16(header)
        self.seq += 1
        return header

    def _header(self, raw: bytes, previous: bytes, digest: bytes) -> bytes:
        return cbor.encode([1, birth_of(self.shelf), self.seq + 1, previous, digest, 0, digest_16(raw)])


class Author(Subject):
    def __init__(self) -> None:
        self._rng = random.Random(1)
        self._chain = Chain(AUTHOR)
        self._prompt, self._late, self._away = (Replica(shelf) for shelf in READERS)
        self._waiting: list[Delta] = []
        self._fed = 0

    def feed(self, data: bytes) -> bool:
        self._fed += 1
        try:
            header = self._chain.header(data)
        except Malformed:
            return False
        delta = delta_from_parts_untrusted(replica_of(AUTHOR), header, b"", data)
        self._prompt.receive(delta)
        self._waiting.append(delta)
        for replica in (self._prompt, self._late):
            read_everything(replica)
        if self._rng.random() < 0.3:
            self._deliver_late()
        if not self._fed % COMPARED_EVERY:
            self._compare()
        return True

    def _deliver_late(self) -> None:
        """Newest first, or with a gap: what is loose is shown, too."""
        self._rng.shuffle(self._waiting)
        kept = []
        for delta in self._waiting:
            if self._rng.random() < 0.7:
                self._late.receive(delta)
            else:
                kept.append(delta)
        self._waiting = kept

    def _compare(self) -> None:
        for delta in sorted(self._waiting, key=lambda delta: delta.seq):
            self._late.receive(delta)
        self._waiting.clear()
        jump(self._away, self._prompt, AUTHOR)
        for replica in (self._prompt, self._late, self._away):
            replica.take_changes()
            same(
                [fault for fault in replica.take_faults() if fault.kind in ("digest", "fork")],
                [],
                "blames an author who did no wrong",
            )
        wanted = self._prompt.state_digest()
        for name, replica in (("whoever got them late", self._late), ("whoever jumped", self._away)):
            if replica.floor(AUTHOR) == self._prompt.floor(AUTHOR):
                same(
                    replica.state_digest().hex(),
                    wanted.hex(),
                    f"the same deltas show something else to {name}, after {self._chain.seq}",
                )

    def finish(self) -> None:
        self._compare()
        for replica in (self._prompt, self._late, self._away):
            replica.drop(1e9)
            replica.repack()
            read_everything(replica)


def jump(reader: Replica, source: Replica, shelf: ShelfId) -> bool:
    """Anti-entropy in one call: the listing, the bodies that are missing, the jump. False when there was nothing to jump to."""
    listing = source.listing(shelf, reader.floor(shelf))
    if listing is None:
        return False
    held = {(body.shelf, body.seq): body for body in listing.bodies}
    bodies: list[Body] = [held[name] for name in reader.missing_bodies(listing.entries)]
    head: Head = listing.head
    if not reader.jump(head, listing.since, listing.entries, bodies) and not listing.since:
        raise Broken(f"a full listing of S({head.header.seq}) does not lead there")
    return True


class Lister(Subject):
    """Statements ("these are the live ops of S(n)") of any content, each with the digest that its author signed."""

    SHELVES: Final = (AUTHOR, shelf_id(replica_of(AUTHOR), 2), shelf_id(ReplicaId(b"another!"), 1))

    def __init__(self) -> None:
        self._first, self._second, self._third = (Replica(shelf) for shelf in READERS)
        self._bodies: dict[tuple[ShelfId, int], Body] = {}
        self._fed = 0

    def feed(self, data: bytes) -> bool:
        """The bytes are a seed: a statement is consistent in itself, and no mutation of one is."""
        self._fed += 1
        rng = random.Random(data)
        shelf = rng.choice(self.SHELVES)
        head, entries, bodies = self._statement(rng, shelf)
        taken = self._first.jump(head, 0, entries, bodies)
        if taken:
            # What it says may make the replica take over or let go at once; while the base is there it is what was signed.
            listing = self._first.listing(shelf, 0)
            if listing is not None and listing.head == head:
                same(listing.entries, entries, "what was jumped to lists otherwise")
            same(
                self._second.jump(head, 0, entries, bodies),
                True,
                "the same statement, taken by one of two replicas alike",
            )
            read_everything(self._first)
        if not self._fed % COMPARED_EVERY:
            self._compare()
        return taken

    def _floors(self, replica: Replica) -> list[tuple[ShelfId, int]]:
        return [(shelf, replica.floor(shelf)) for shelf in replica.shelves()]

    def _statement(self, rng: random.Random, shelf: ShelfId) -> tuple[Head, tuple[Entry, ...], list[Body]]:
        seq = max(1, self._first.floor(shelf) + rng.choice((1, 1, 2, 5, 0)))
        grammar = material().grammar(rng, self.SHELVES * 9)
        grammar.wrong = 0.0
        found: dict[tuple[int, ShelfId, int], tuple[Entry, Body]] = {}
        for _ in range(rng.choice((0, 1, 2, 5))):
            place = rng.randint(1, seq)
            of = shelf if rng.random() < 0.7 else rng.choice(self.SHELVES)
            number = place if of == shelf else rng.randint(1, 9)
            body = self._body(grammar, of, number)
            if body is not None and body.ops:
                mask = rng.getrandbits(len(body.ops)) or 1
                found[place, of, number] = Entry(place, of, number, body.hash, mask), body
        rows = [found[name] for name in sorted(found)]
        entries = tuple(entry for entry, _ in rows)
        previous = rng.randbytes(16) if seq > 1 else bytes(16)
        gc_floor = rng.choice((0, seq, rng.randint(0, seq)))
        raw = cbor.encode([1, birth_of(shelf), seq, previous, digest_of(entries), gc_floor, rng.randbytes(16)])
        return head_from_bytes_untrusted(replica_of(shelf), raw, b""), entries, [body for _, body in rows]

    def _body(self, grammar: Grammar, shelf: ShelfId, seq: int) -> Body | None:
        """The one of that name, mostly; an author who signs two is caught by their hashes."""
        known = self._bodies.get((shelf, seq))
        if known is not None and grammar.rng.random() < 0.9:
            return known
        try:
            body = body_from_bytes_untrusted(shelf, seq, grammar.body(seq))
        except Malformed:
            return known
        self._bodies[shelf, seq] = body
        return body

    def _compare(self) -> None:
        same(self._second.state_digest().hex(), self._first.state_digest().hex(), "the same statements make two states")
        for shelf in self._first.shelves():
            jump(self._third, self._first, shelf)
        if self._floors(self._third) == self._floors(self._first):
            same(self._third.state_digest().hex(), self._first.state_digest().hex(), "who came late shows another state")
        for replica in (self._second, self._third):
            replica.take_changes()

    def finish(self) -> None:
        self._compare()
        for replica in (self._first, self._second):
            replica.drop(1e9)
            replica.repack()
            replica.take_over()
            replica.seal()
            read_everything(replica)
            restored = Replica(shelf_id(replica_of(replica.shelf), 2))
            restored.restore(replica.take_journal())
            read_everything(restored)


def read_everything(replica: Replica) -> None:
    """What a program on this replica may ask for; hostile cells are its business no more than a sensor's."""
    for key in replica.take_changes():
        of_value = value_key(key)
        read_value(replica, of_value)
        for path in {key[1], of_value[1]}:
            history_of(replica, path, bytes.hex)


def _source(rng: random.Random) -> Source:
    def sentence(grammar: Grammar) -> bytes:
        grammar.wrong = rng.choice(
            (0.0, 0.0, 0.0, grammar.wrong)
        )  # what cannot be read never gets past the decoders' own targets
        return grammar.body(rng.randrange(1, 60))

    return mixed(lambda stuff: stuff.bodies, sentence, noise=0.0)(rng)


def _seeds(rng: random.Random) -> Source:
    return lambda: rng.randbytes(8)


AUTHORS: Final[tuple[Target, ...]] = (
    Target(
        "lister",
        "statements of any content that their author signed",
        Lister,
        lambda rng: lambda: rng.randbytes(8),
        block=400,
        weight=4,
    ),
    Target("author", "deltas of any content that their author signed, in any order", Author, _source, block=400, weight=6),
)
