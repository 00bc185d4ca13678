"""From nothing to nearly valid: every format of the wire as a random sentence, most of its parts right and some of them not.

A sentence of a grammar reaches what a mutation of a recorded message rarely does: fields that
are each valid and together are not.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import cbor2

from crdt.digest import digest_16
from tools.fuzz.mutate import INTERESTING, Mutator

WRONG: Final = 0.03
"""Share of parts that are something else than the grammar says: a message of a dozen parts is then mostly right but for one."""


class Grammar:
    """`shelves`, `replicas` and ids of `statements`: real ones, so that sentences are about somebody."""

    def __init__(
        self, rng: random.Random, shelves: Sequence[bytes] = (), replicas: Sequence[bytes] = (), statements: Sequence[bytes] = ()
    ) -> None:
        self.rng = rng
        self.wrong = rng.choice((0.0, WRONG, WRONG, 0.2))
        self._shelves = tuple(shelves) or (bytes(12),)
        self._replicas = tuple(replicas) or (bytes(8),)
        self._statements = tuple(statements) or (bytes(8),)
        self._mutator = Mutator(rng, ())

    # ---- parts

    def maybe(self, part: Any) -> Any:
        return self._mutator.leaf() if self.rng.random() < self.wrong else part

    def number(self, limit: int = 1 << 64) -> Any:
        rng = self.rng
        number = rng.choice((0, 1, 2, 3, rng.randrange(20), rng.randrange(300), rng.choice(INTERESTING)))
        return self.maybe(number if 0 <= number < limit else rng.randrange(min(limit, 100)))

    def blob(self, length: int) -> Any:
        return self.maybe(self.rng.choice((bytes(length), self.rng.randbytes(length), b"\xff" * length)))

    def some_bytes(self, most: int) -> Any:
        return self.maybe(self.rng.randbytes(self.rng.randint(0, most)))

    def flag(self) -> Any:
        return self.maybe(self.rng.random() < 0.5)

    def shelf(self) -> Any:
        known = self.rng.choice(self._shelves)
        return self.maybe(known if self.rng.random() < 0.7 else known[:8] + self.rng.randbytes(4))

    def replica(self) -> Any:
        return self.maybe(self.rng.choice(self._replicas) if self.rng.random() < 0.8 else self.rng.randbytes(8))

    def text(self) -> Any:
        return self.maybe(self.rng.choice(("a", "b", "robots", "pose", "\u00fc", "**", "*", "a b", "0")))

    def many(self, part: Callable[[], Any], most: int = 5) -> Any:
        return self.maybe([part() for _ in range(self.rng.randint(0, most))])

    def one_of(self, *parts: Callable[[], Any]) -> Any:
        return self.rng.choice(parts)()

    def payload(self, depth: int = 0) -> Any:
        if depth < 3 and self.rng.random() < 0.2:
            if self.rng.random() < 0.5:
                return [self.payload(depth + 1) for _ in range(self.rng.randrange(4))]
            return {self.rng.choice(("a", "b", b"c")): self.payload(depth + 1) for _ in range(self.rng.randrange(3))}
        return self._mutator.leaf()

    def encode(self, value: Any) -> bytes:
        try:
            return cbor2.dumps(value, canonical=True)
        except (cbor2.CBORError, ValueError, TypeError, OverflowError):
            return cbor2.dumps([])

    # ---- CBOR itself, right and wrong

    def cbor(self, depth: int = 0) -> bytes:
        """Also what deterministic CBOR must not be: tags, long forms, open ends, counts of what is not there."""
        rng = self.rng
        kind = rng.choice((0, 1, 2, 3, 4, 4, 5, 6, 7)) if depth < 20 else rng.choice((0, 1, 2, 3, 7))
        number = rng.choice((rng.randrange(24), rng.randrange(300), abs(rng.choice(INTERESTING))))
        if kind in (0, 1):
            return self._head(kind, number)
        if kind in (2, 3):
            content = (
                rng.randbytes(rng.randrange(6)) if kind == 2 else rng.choice((b"a", b"", b"\xc3\xa9", b"\xff", b"\xed\xa0\x80"))
            )
            return self._head(kind, len(content) if rng.random() < 0.9 else number) + content
        if kind == 6:
            return self._head(6, rng.choice((*range(6), 18, *range(21, 40), 43000, 55799, number))) + self.cbor(depth + 1)
        if kind == 7:
            return self._simple()
        count = rng.randrange(4)
        items = b"".join(self.cbor(depth + 1) for _ in range(count * (kind - 3)))
        if rng.random() < 0.05:
            return bytes((kind << 5 | 31,)) + items + b"\xff"
        return self._head(kind, count if rng.random() < 0.9 else number) + items

    def _head(self, major: int, number: int) -> bytes:
        size = 0 if number < 24 else 1 if number < 1 << 8 else 2 if number < 1 << 16 else 4 if number < 1 << 32 else 8
        if self.rng.random() < 0.05:
            size = self.rng.choice([each for each in (1, 2, 4, 8) if each >= size])
        if not size:
            return bytes((major << 5 | number,))
        short = {1: 24, 2: 25, 4: 26, 8: 27}[size]
        return bytes((major << 5 | short,)) + (number % (1 << 8 * size)).to_bytes(size, "big")

    def _simple(self) -> bytes:
        rng = self.rng
        value = rng.choice((0.0, -0.0, 1.5, 0.1, 65504.0, 65505.0, 1e39, float("nan"), float("inf")))
        forms: tuple[Callable[[], bytes], ...] = (
            lambda: bytes((0xE0 | rng.randrange(32),)),
            lambda: bytes((0xF8, rng.randrange(256))),
            lambda: b"\xf9" + rng.randbytes(2),
            lambda: struct.pack(">Bf", 0xFA, min(value, 3e38)),
            lambda: struct.pack(">Bd", 0xFB, value),
            lambda: cbor2.dumps(value, canonical=True),
        )
        return rng.choice(forms)()

    # ---- crdt

    def header(self) -> bytes:
        seq = self.number(1 << 48)
        prev = bytes(16) if seq == 1 and self.rng.random() < 0.9 else self.blob(16)
        return self.encode([self.maybe(1), self.number(1 << 32), seq, prev, self.blob(16), self.number(4), self.blob(16)])

    def body(self, seq: int = 1) -> bytes:
        """Ops of every kind that a hostile author could sign."""
        rng, origins = self.rng, [self.shelf() for _ in range(self.rng.choice((0, 0, 1, 2)))]
        time = rng.choice((1_767_225_600_000_000, 0, 1, (1 << 63) - 1))
        rights = [rng.choice((0, 1, 2)), rng.choice((0, 1))]
        ops = [self.op(len(origins), seq) for _ in range(rng.choice((1, 1, 2, 3, 8)))]
        if rng.random() < 0.1:
            ops += self._large()
        return self.encode([self.maybe(rights), self.maybe(time), self.maybe(origins), self.maybe(ops)])

    def op(self, origins: int, seq: int) -> list[Any]:
        rng = self.rng
        kind = rng.choice((0, 0, 0, 0, 1, 1, 2, 3, 4, 8, 9, 12, 5))
        code = rng.choice((0, *range(1, 14), 14, 255))
        path: list[Any] = [rng.choice((0, 0, 0, 1)), *(self.segment() for _ in range(rng.choice((1, 1, 2, 3))))]
        payload: Any = self.payload()
        if kind == 2:
            payload = None
        if kind == 3:
            code, path = 0, [0, self.shelf()]
            payload = [
                rng.choice((0, 1, seq, rng.randrange(50))),
                rng.randrange(5),
                *[rng.randrange(4) for _ in range(rng.choice((0, 0, 2, 4)))],
            ]
        if kind & 8:
            payload = [
                rng.randrange(6),
                rng.choice((0, 10, 1 << 20, 1 << 62)),
                rng.randbytes(16 * rng.randrange(4)),
                rng.randrange(3),
            ]
        if rng.random() < 0.15 and code == 0 and kind == 0:
            path, payload = [0, rng.randbytes(16)], rng.randbytes(20)
        op = [self.maybe(kind), self.maybe(code), self.maybe(path), payload]
        if rng.random() < 0.5:
            op.append(self.maybe([part for _ in range(rng.choice((0, 0, 1, 3))) for part in self._cover(origins)]))
            if rng.random() < 0.5:
                op.append(self.maybe(rng.choice((0, 1, -1, -(seq << 8), 256, -256, rng.choice(INTERESTING)))))
                op.append(self.maybe(rng.choice((0, 1, -1, 1_000_000))))
                if rng.random() < 0.7:
                    op.append(self.maybe(rng.randint(0, origins)))
                    if rng.random() < 0.3:
                        op.append(self.maybe([rng.choice((0, 1, 1 << 62)), 0]))
        return op

    def _large(self) -> list[list[Any]]:
        """A value in chunks that are all there; what they hold together is anything."""
        rng = self.rng
        covers = [
            part
            for _ in range(rng.choice((0, 1)))
            for part in (rng.choice(self._shelves), rng.randrange(999), rng.getrandbits(32))
        ]
        content = self.encode(self.maybe([self.payload(), self.maybe(covers)]))[:400]
        cut = rng.randint(0, len(content))
        pieces = [piece for piece in (content[:cut], content[cut:]) if piece]
        names = b"".join(digest_16(piece) for piece in pieces)
        reference = [0, self.maybe(len(content)), names, len(covers) // 3]
        if rng.random() < 0.3:  # one level more, perhaps a node that names itself
            pieces.append(names)
            reference = [1, len(content), digest_16(names), len(covers) // 3]
        chunks: list[list[Any]] = [[0, 0, [0, digest_16(piece)], piece] for piece in pieces]
        return [*chunks, [8, rng.choice((1, 2, 5, 11)), [0, "large"], self.maybe(reference)]]

    def _cover(self, origins: int) -> tuple[Any, Any, Any]:
        rng = self.rng
        return (
            rng.randint(0, origins),
            self.maybe(rng.randrange(20) << 8 | rng.choice((0, 0, 1))),
            rng.choice((0, rng.getrandbits(32))),
        )

    def segment(self) -> Any:
        """Text, and the bytes that elements, keys, log entries and list places are made of."""
        rng = self.rng
        return self.one_of(
            lambda: rng.choice(("a", "b", "c")),
            lambda: rng.choice(("a", "b", "c")),
            lambda: self.encode(self.payload())[:256] or b"\0",
            lambda: b"\xff" + rng.randbytes(16),
            self.place,
            lambda: self.ordered() + self.ordered(),
        )

    def ordered(self) -> bytes:
        size = self.rng.choice((1, 1, 1, 2, 8, 0, 9))
        return bytes((0x80 + self.rng.choice((size, size, -size)),)) + self.rng.randbytes(size if self.rng.random() < 0.9 else 1)

    def place(self) -> bytes:
        """A position in a list."""
        steps = b""
        for at in range(self.rng.choice((1, 1, 2, 5))):
            known = self.rng.randrange(3) if at and self.rng.random() < 0.6 else 0xF0
            steps += bytes((known,)) + (self.rng.choice(self._shelves) if known == 0xF0 else b"") + self.ordered()
        return steps

    # ---- mesh.sync

    def floor(self) -> Any:
        seq = self.number()
        hashed = self.blob(4) if seq else b""
        return self.maybe([self.shelf(), seq, hashed, *[self.number() for _ in range(self.rng.choice((0, 0, 0, 1, 4)))]])

    def floors(self) -> Any:
        return self.many(self.floor, self.rng.choice((3, 3, 40)))

    def floor_note(self) -> bytes:
        return self.encode([self.floors(), self.maybe(self.rng.randrange(6))])

    def digest(self) -> bytes:
        return self.encode(
            [self.flag(), self.floor(), self.blob(8), self.blob(self.rng.choice((384, 384, 384, 64))), self.floors()]
        )

    def bucket_page(self) -> bytes:
        return self.encode([self.number(200), self.shelf(), self.shelf(), self.floors()])

    def want(self) -> bytes:
        return self.encode(self.floors())

    def want_listing(self) -> bytes:
        return self.encode([self.shelf(), self.number(), self.number(), self.number()])

    def listing(self) -> bytes:
        def entry() -> Any:
            mask = self.maybe(self.rng.choice((b"\x01", b"\x03", b"\xff" * 32, b"\0", b"", b"\x80\0")))
            hosted = [self.shelf(), self.number()] if self.rng.random() < 0.3 else []
            return self.maybe([self.number(), self.blob(16), mask, *hosted])

        return self.encode(
            [
                self.shelf(),
                self.number(),
                self.maybe(self.header()),
                self.blob(64),
                self.number(),
                self.number(),
                self.many(entry, 12),
            ]
        )

    def want_bodies(self) -> bytes:
        def named() -> Any:
            return self.number() if self.rng.random() < 0.5 else [self.shelf(), self.number()]

        return self.encode([self.shelf(), self.number(), self.many(named, 30)])

    def body_note(self) -> bytes:
        shelf, seq = self.shelf(), self.rng.choice((1, 2, 3, (1 << 64) - 1))
        return (shelf if isinstance(shelf, bytes) else b"") + seq.to_bytes(8, "big") + self.body(min(seq, 9))

    def trust_ids(self) -> bytes:
        def identifier() -> bytes:
            return self.rng.choice(self._statements) if self.rng.random() < 0.7 else self.rng.randbytes(8)

        low, high = self.rng.choice(((bytes(8), b"\xff" * 8), (self.blob(8), self.blob(8))))
        ids = b"".join(sorted(identifier() for _ in range(self.rng.choice((0, 1, 3, 130)))))
        return self.encode([low, high, self.maybe(ids)])

    # ---- mesh.swim

    def claim_body(self) -> bytes:
        host = self.maybe(self.rng.choice(("10.0.0.1", "::1", "fe80::1%eth0", "localhost", "", "1.2.3", "0" * 45)))
        over = self.one_of(lambda: b"", lambda: self.blob(8))
        alive = [
            1,
            self.replica(),
            self.number(1 << 32),
            self.number(1 << 32),
            host,
            self.number(1 << 16),
            self.text(),
            self.some_bytes(130),
            over,
        ]
        left = [2, self.replica(), self.number(1 << 32), self.number(1 << 32)]
        accusation = [
            3,
            self.replica(),
            self.number(1 << 32),
            self.replica(),
            self.number(1 << 32),
            self.maybe(self.rng.randrange(3)),
        ]
        return self.encode(self.rng.choice((alive, left, accusation)))

    def claim(self) -> bytes:
        return self.encode([self.maybe(self.claim_body()), self.blob(64)])

    def ping(self) -> bytes:
        return self.encode(
            self.one_of(
                lambda: [self.number(), self.number(64), self.blob(self.rng.choice((4, 4, 4, 8)))],
                lambda: [self.number(), self.replica(), self.number()],
            )
        )

    def ack(self) -> bytes:
        digest = self.blob(self.rng.choice((4, 4, 4, 8)))
        return self.encode(
            self.one_of(
                lambda: [self.number(), digest],
                lambda: [self.number(), digest, self.maybe(self.rng.choice(INTERESTING)), self.maybe(self.coordinate())],
                lambda: [self.number(), digest, self.blob(64)],
                lambda: [self.number(), self.blob(64)],
            )
        )

    def coordinate(self) -> bytes:
        return struct.pack(
            ">6e", *(self.rng.choice((0.0, 0.5, -1.0, 1e-5, float("inf"), float("nan"), 60000.0)) for _ in range(6))
        )

    def ping_request(self) -> bytes:
        return self.encode([self.number(), self.replica(), self.number(70_000)])

    def nack(self) -> bytes:
        return self.encode([self.number()])

    def members(self) -> bytes:
        return self.encode([self.blob(self.rng.choice((64, 64, 64, 32)))])

    def member_rows(self) -> bytes:
        rows = b"".join(
            self.rng.choice(self._replicas) + self.rng.randbytes(4) + bytes((self.rng.randrange(4),)) + self.rng.randbytes(4)
            for _ in range(self.rng.randrange(60))
        )
        first, last = self.rng.choice(((bytes(8), b"\xff" * 8), (self.blob(8), self.blob(8))))
        return self.encode(
            [
                self.maybe(self.rng.choice((1, 255, (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1))),
                first,
                last,
                self.maybe(rows),
                self.flag(),
            ]
        )

    def member_want(self) -> bytes:
        return self.encode([self.maybe(b"".join(self.rng.choice(self._replicas) for _ in range(self.rng.randrange(20))))])

    # ---- mesh.trust

    def statement_payload(self) -> bytes:
        def terms() -> list[Any]:
            patterns = self.many(lambda: self.rng.choice(("**", "a/*", "robots/**", "/", "", "a//b", "*" * 70)), 4)
            name = self.maybe(self.rng.choice((None, "node", "a/b", " ", "\u202e", "x" * 65)))
            return [name, patterns, self.flag(), self.maybe(self.rng.randrange(17)), self.one_of(lambda: None, self.number)]

        def honoured() -> Any:
            pairs = sorted([self.rng.getrandbits(32), self.rng.randrange(3)] for _ in range(self.rng.choice((0, 1, 2, 41))))
            return self.maybe(pairs)

        limits = {"value_bytes_max": self.number(), **({"x": self.number()} if self.rng.random() < 0.2 else {})}
        bodies: tuple[Callable[[], list[Any]], ...] = (
            lambda: [
                1,
                self.number(),
                self.blob(16),
                self.many(lambda: self.blob(32), 3),
                self.many(self.text, 3),
                self.maybe(limits),
            ],
            lambda: [2, self.number(), self.blob(32), *terms(), self.one_of(lambda: None, honoured)],
            lambda: [3, self.number(), self.blob(32), *terms(), self.one_of(lambda: None, self.number)],
            lambda: [4, self.blob(32), self.maybe(self.rng.choice((None, "node", "")))],
            lambda: [5, self.number(), self.replica(), honoured()],
            lambda: [7, self.replica(), self.blob(32)],
            lambda: [self.number(), *[self.payload() for _ in range(self.rng.randrange(6))]],
        )
        return self.encode([self.maybe(1), *self.one_of(*bodies)])

    def statement(self) -> bytes:
        return self.sign1(self.statement_payload())

    def sign1(self, payload: bytes) -> bytes:
        """The profile of mesh.wire.cose, its lengths mostly right."""
        head = cbor2.dumps(payload)[: -len(payload) or None] if payload else b"\x40"
        kid, signature = self.replica(), self.blob(64)
        parts = (kid if isinstance(kid, bytes) else b"", signature if isinstance(signature, bytes) else b"")
        return bytes.fromhex("d28443a10127a10448") + parts[0] + head + payload + b"\x58\x40" + parts[1]

    def presentation(self) -> bytes:
        return self.encode(self.many(self.statement, 5))

    # ---- mesh.control

    def json(self, depth: int = 0) -> str:
        rng = self.rng
        if depth < 6 and rng.random() < 0.5:
            parts = [self.json(depth + 1) for _ in range(rng.randrange(3))]
            if rng.random() < 0.4:
                return "[" + ",".join(parts) + "]"
            names = ('"do"', '"path"', '"$bytes"', '"$float"', '"$map"', '"a"', '""', '"$x"')
            return "{" + ",".join(f"{rng.choice(names)}:{part}" for part in parts) + "}"
        leaves = (
            '"get"',
            '"put"',
            '"QUJD"',
            '"inf"',
            '"\\ud800"',
            "1",
            "-1e999",
            "NaN",
            "null",
            "true",
            "9" * 30,
            '[["a",1]]',
            "0.1",
            "}",
        )
        return rng.choice(leaves)

    def line(self) -> bytes:
        rng = self.rng
        if rng.random() < 0.02:
            depth = rng.choice((10, 100, 400, 900, 5_000, 100_000))
            start, end = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"$map":[["a",', b"]]}")))
            return b'{"value":' + start * depth + b"1" + end * (depth if rng.random() < 0.9 else 1) + b"}"
        return self.json().encode("utf-8", "surrogatepass")
