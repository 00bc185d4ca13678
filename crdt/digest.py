"""The shelf digest: an incremental set hash that a liar cannot steer.

LtHash16 (Bellare and Micciancio 1997; Lewi et al. 2019, "Securing update propagation with homomorphic hashing"): every
element becomes 1,024 lanes of 16 bits by SHAKE-128, the state is their sum lane by lane, and adding or removing an element
costs the same however many there are. A sum of plain hashes would fall to a birthday search over sums.

An element is the live part of one body on one shelf: (place, body shelf, body seq, body hash, mask of live ops), in fixed
width. So a full delta costs one element, and a list of entries is checked before any body is fetched.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b, shake_128
from struct import Struct
from typing import Final

from crdt.limits import HASH_BYTES

LANES: Final = 1024
STATE_BYTES: Final = 2 * LANES

_ELEMENT: Final = Struct(">Q12sQ16s32s")
MASK_BYTES: Final = 32
"""256 ops: one more than `ids.OPS_PER_DELTA_MAX`."""

# A Python int of 16,384 bits adds in 0.3 us, but its carries would spill from lane to lane. So the even and the odd lanes are
# kept apart, each in 32 bits: 32,767 additions or subtractions fit into them with a sign, and we cut them off before. The bias, a
# multiple of the lanes' modulus, makes all of them positive first, so that none borrows from the next.
_LOW: Final = int.from_bytes(b"\xff\xff\0\0" * (LANES // 2), "little")
_BIAS: Final = int.from_bytes(b"\0\0\0\x80" * (LANES // 2), "little")
_SUM_MAX: Final = (1 << 15) - 1
_REMEMBERED: Final = 1024
"""Elements, 2.3 kB each: what is written again is taken out, some time after it was put in, and replicas in one process share
them. To make one takes 5 us, a fifteenth of what a delta of one op costs; 256 did not reach as far back as 500 keys that are
written in turn."""


def digest_16(raw: bytes) -> bytes:
    """BLAKE2b of 16 bytes: hashes of headers, bodies, chunks and states."""
    return blake2b(raw, digest_size=HASH_BYTES).digest()


class SetHash:
    """The running LtHash16 of one shelf."""

    __slots__ = ("_even", "_odd", "_sums")

    def __init__(self) -> None:
        self._even = 0
        self._odd = 0
        self._sums = 0

    def copy(self) -> SetHash:
        twin = SetHash()
        twin._even, twin._odd, twin._sums = self._even, self._odd, self._sums
        return twin

    def add(self, place: int, shelf: bytes, seq: int, body_hash: bytes, mask: int) -> None:
        lanes = _lanes(place, shelf, seq, body_hash, mask)
        self._even += lanes & _LOW
        self._odd += lanes >> 16 & _LOW
        self._settle()

    def remove(self, place: int, shelf: bytes, seq: int, body_hash: bytes, mask: int) -> None:
        lanes = _lanes(place, shelf, seq, body_hash, mask)
        self._even -= lanes & _LOW
        self._odd -= lanes >> 16 & _LOW
        self._settle()

    def _settle(self) -> None:
        self._sums += 1
        if self._sums >= _SUM_MAX:
            self._even = self._even + _BIAS & _LOW
            self._odd = self._odd + _BIAS & _LOW
            self._sums = 0

    def digest(self) -> bytes:
        state = self._even + _BIAS & _LOW | (self._odd + _BIAS & _LOW) << 16
        return digest_16(state.to_bytes(STATE_BYTES, "little"))


@lru_cache(maxsize=_REMEMBERED)
def _lanes(place: int, shelf: bytes, seq: int, body_hash: bytes, mask: int) -> int:
    element = _ELEMENT.pack(place, shelf, seq, body_hash, mask.to_bytes(MASK_BYTES, "big"))
    return int.from_bytes(shake_128(element).digest(STATE_BYTES), "little")
