"""How the quorum signs and encodes inside a mesh: each signature for one purpose and one mesh only; CBOR by cbor2."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from consensus_escalation.types import HASH_BYTES, Keys, Purpose
from crdt.ids import ReplicaId
from mesh.wire import cbor

PURPOSES: Final = {purpose: b"gossipmesh quorum " + purpose.value for purpose in Purpose}


REMEMBERED_MAX: Final = 512
"""Twice at most: of the last few seconds, about 0.5 MB."""


def hash_16(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=HASH_BYTES).digest()


class Remembered:
    """Signatures that were found good, or made here: an acknowledgement is looked at when it comes, in the certificate that is
    made of it, and again by the chain; a block and its entries more than once. 40 us each."""

    def __init__(self, verify: Callable[[ReplicaId, bytes, bytes, bytes], bool]) -> None:
        self._verify = verify
        self._good: set[tuple[ReplicaId, bytes, bytes, bytes]] = set()
        self._former: set[tuple[ReplicaId, bytes, bytes, bytes]] = set()

    def add(self, who: ReplicaId, purpose: bytes, raw: bytes, signature: bytes) -> None:
        if len(self._good) >= REMEMBERED_MAX:
            self._good, self._former = set(), self._good
        self._good.add((who, purpose, raw, signature))

    def verify(self, who: ReplicaId, purpose: bytes, raw: bytes, signature: bytes) -> bool:
        token = (who, purpose, raw, signature)
        if token in self._good or token in self._former:
            return True
        if not self._verify(who, purpose, raw, signature):
            return False
        self.add(who, purpose, raw, signature)
        return True


def keys_of(
    me: ReplicaId, sign: Callable[[bytes, bytes], bytes], verify: Callable[[ReplicaId, bytes, bytes, bytes], bool]
) -> Keys:
    """`sign` and `verify`: (purpose, bytes) with this agent's key, (who, purpose, bytes, signature) with anybody's."""
    remembered = Remembered(verify)

    def sign_for(purpose: Purpose, raw: bytes) -> bytes:
        signature = sign(PURPOSES[purpose], raw)
        remembered.add(me, PURPOSES[purpose], raw, signature)
        return signature

    return Keys(
        hash=hash_16,
        sign=sign_for,
        verify=lambda who, purpose, raw, signature: remembered.verify(who, PURPOSES[purpose], raw, signature),
        encode=cbor.encode,
        decode_untrusted=cbor.decode_untrusted,
    )
