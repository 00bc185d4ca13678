"""From valid bytes to nearly valid ones: bits, lengths, splices, and changes inside the CBOR tree."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import cbor2

INTERESTING: Final = tuple(
    sorted(
        {
            sign * (1 << bits) + off
            for bits in (0, 7, 8, 15, 16, 23, 31, 32, 47, 48, 56, 63, 64)
            for off in (-1, 0, 1)
            for sign in (1, -1)
        }
    )
)
"""Numbers at which formats change their minds."""
LENGTHS: Final = (0, 1, 4, 7, 8, 12, 16, 23, 24, 32, 64, 255, 256, 257)
BYTES_MAX: Final = 4_096
"""Longer than any datagram: what grows is cut off here."""


class Mutator:
    """Draws from one generator only, so an input is a function of its seed. `pool`: valid inputs to splice with."""

    def __init__(self, rng: random.Random, pool: Sequence[bytes]) -> None:
        self._rng = rng
        self._pool = pool

    def mutated(self, raw: bytes) -> bytes:
        """One to four changes of any sort. Half of the time the bytes stay CBOR of the right form, if they are any."""
        if self._rng.random() < 0.5:
            changed = self.mutated_tree(raw)
            if changed is not None:
                return changed
        for _ in range(self._rng.choice((1, 1, 1, 2, 4))):
            raw = self._step(raw)
        return raw[:BYTES_MAX]

    def _step(self, raw: bytes) -> bytes:
        rng = self._rng
        at, end = sorted((rng.randint(0, len(raw)), rng.randint(0, len(raw))))
        match rng.randrange(9):
            case 0:
                return raw[:at]
            case 1:
                return raw[:at] + rng.randbytes(rng.choice((1, 1, 2, 9))) + raw[at:]
            case 2:
                return raw[:at] + raw[end:]
            case 3:
                return raw[:end] + raw[at:end] * rng.choice((1, 1, 3)) + raw[end:]
            case 4:
                return raw[:at] + rng.choice(self._pool)[rng.randint(0, 40) :] if self._pool else raw[at:]
            case 5 if raw:
                number = rng.choice(INTERESTING) % (1 << 64)
                size = rng.choice((1, 2, 4, 8))
                return raw[:at] + (number % (1 << 8 * size)).to_bytes(size, "big") + raw[at + size :]
            case _ if raw:
                where = rng.randrange(len(raw))
                value = raw[where] ^ (1 << rng.randrange(8)) if rng.random() < 0.6 else rng.randrange(256)
                return raw[:where] + bytes((value,)) + raw[where + 1 :]
        return raw + rng.randbytes(3)

    def mutated_tree(self, raw: bytes) -> bytes | None:
        """The same array with one to three of its parts changed; None when these bytes are no CBOR."""
        try:
            value = cbor2.loads(raw)
        except (cbor2.CBORError, ValueError, TypeError, OverflowError):
            return None
        for _ in range(self._rng.choice((1, 1, 2, 3))):
            value = self._changed(value)
        try:
            return cbor2.dumps(value, canonical=True)[:BYTES_MAX]
        except (cbor2.CBORError, ValueError, TypeError, OverflowError):
            return None

    def _changed(self, value: Any) -> Any:
        rng = self._rng
        if isinstance(value, list | tuple) and value and rng.random() < 0.85:
            items, at = list(value), rng.randrange(len(value))
            match rng.randrange(12):
                case 0:
                    del items[at]
                case 1:
                    items.insert(at, items[rng.randrange(len(items))])
                case 2:
                    other = rng.randrange(len(items))
                    items[at], items[other] = items[other], items[at]
                case 3:
                    items.append(self.leaf())
                case 4:
                    items *= rng.choice((2, 3, 40)) if len(items) < 40 else 1
                case _:
                    items[at] = self._changed(items[at])
            return items
        if isinstance(value, dict) and value and rng.random() < 0.85:
            name = rng.choice(sorted(value, key=repr))
            return {**value, name: self._changed(value[name])}
        if isinstance(value, bytes) and rng.random() < 0.7:
            return self._changed_bytes(value)
        if type(value) is int and rng.random() < 0.8:
            return rng.choice((value + 1, value - 1, -value, value << 8, rng.choice(INTERESTING), rng.randrange(300)))
        return rng.choice((self.leaf(), [value], {"a": value}, [value, value]))

    def _changed_bytes(self, value: bytes) -> bytes:
        rng = self._rng
        inner = self.mutated_tree(value) if len(value) > 8 and rng.random() < 0.3 else None  # CBOR inside CBOR
        if inner is not None:
            return inner
        return self._step(value) if rng.random() < 0.5 else rng.randbytes(rng.choice(LENGTHS))

    def leaf(self) -> Any:
        rng = self._rng
        return rng.choice(
            (
                None,
                rng.random() < 0.5,
                rng.choice(INTERESTING),
                rng.randrange(100),
                rng.choice((0.0, -0.0, 0.1, float("inf"), float("nan"), 1e300)),
                rng.choice(("", "a", "\0", "\u00e9" * 70, "a/b", "**", "\u202e", "x" * 300)),
                rng.randbytes(rng.choice(LENGTHS)),
                [],
                {},
            )
        )
