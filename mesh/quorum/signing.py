"""How the quorum signs and encodes inside a mesh: each signature for one purpose and one mesh only; CBOR by cbor2."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from consensus_escalation.types import HASH_BYTES, Keys, Purpose
from crdt.ids import ReplicaId
from mesh.wire import cbor

PURPOSES: Final = {purpose: b"gossipmesh quorum " + purpose.value for purpose in Purpose}


def hash_16(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=HASH_BYTES).digest()


def keys_of(sign: Callable[[bytes, bytes], bytes], verify: Callable[[ReplicaId, bytes, bytes, bytes], bool]) -> Keys:
    """`sign` and `verify`: (purpose, bytes) with this agent's key, (who, purpose, bytes, signature) with anybody's."""
    return Keys(
        hash=hash_16,
        sign=lambda purpose, raw: sign(PURPOSES[purpose], raw),
        verify=lambda who, purpose, raw, signature: verify(who, PURPOSES[purpose], raw, signature),
        encode=cbor.encode,
        decode_untrusted=cbor.decode_untrusted,
    )
