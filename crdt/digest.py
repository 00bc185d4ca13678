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

# A Python int of 16,384 bits adds in 0.3 us, but its carries would spill from lane to lane. So the highest bit of each lane is
# left out of the sum, where it catches the carry of the bits below, and joins without one: exclusive or is addition modulo two.
_HIGH: Final = int.from_bytes(b"\0\x80" * LANES, "little")
_REST: Final = int.from_bytes(b"\xff\x7f" * LANES, "little")
_REMEMBERED: Final = 1024
"""Elements, 2.3 kB each: what is written again is taken out, some time after it was put in, and replicas in one process share
them. To make one takes 5 us, a fifteenth of what a delta of one op costs; 256 did not reach as far back as 500 keys that are
written in turn."""


# Copied and fed: to make one by its name and its options takes as long as to hash a header, and longer with cold caches.
_BLAKE2B: Final = blake2b(digest_size=HASH_BYTES)
_SHAKE: Final = shake_128()


def digest_16(raw: bytes) -> bytes:
    """BLAKE2b of 16 bytes: hashes of headers, bodies, chunks and states."""
    hash = _BLAKE2B.copy()
    hash.update(raw)
    return hash.digest()


class SetHash:
    """The running LtHash16 of one shelf."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = 0

    def copy(self) -> SetHash:
        twin = SetHash()
        twin._state = self._state
        return twin

    def add(self, place: int, shelf: bytes, seq: int, body_hash: bytes, mask: int) -> None:
        mine, more = self._state, _lanes(place, shelf, seq, body_hash, mask)
        self._state = (mine & _REST) + (more & _REST) ^ (mine ^ more) & _HIGH

    def remove(self, place: int, shelf: bytes, seq: int, body_hash: bytes, mask: int) -> None:
        """With every highest bit set first no lane borrows from the next."""
        mine, less = self._state, _lanes(place, shelf, seq, body_hash, mask)
        self._state = (mine | _HIGH) - (less & _REST) ^ (mine ^ less ^ _HIGH) & _HIGH

    def digest(self) -> bytes:
        return digest_16(self._state.to_bytes(STATE_BYTES, "little"))


@lru_cache(maxsize=_REMEMBERED)
def _lanes(place: int, shelf: bytes, seq: int, body_hash: bytes, mask: int) -> int:
    element = _ELEMENT.pack(place, shelf, seq, body_hash, mask.to_bytes(MASK_BYTES, "big"))
    hash = _SHAKE.copy()
    hash.update(element)
    return int.from_bytes(hash.digest(STATE_BYTES), "little")
