"""Who signed what: this agent's own signatures, and the keys that those of others are held against."""

from __future__ import annotations

import crdt
from crdt.ids import ReplicaId, ShelfId, replica_of
from mesh.trust import Directory, Identity
from mesh.wire.cose import to_be_signed
from mesh.wire.crypto import Crypto
from mesh.wire.delta import head_from_parts_untrusted, sign_header, verify_delta, verify_header


class Notary:
    """`identity` is what this agent signs with now: a rotation replaces it."""

    def __init__(self, identity: Identity, directory: Directory, crypto: Crypto) -> None:
        self.identity = identity
        self._directory = directory
        self._mesh_id = directory.mesh_id
        self._verify = crypto.verify

    def sign_header(self, header: bytes) -> bytes:
        return sign_header(self.identity.sign, header, self._mesh_id)

    def sign_claim(self, purpose: bytes, payload: bytes) -> bytes:
        return self.identity.sign(to_be_signed(payload, purpose, self._mesh_id))

    def verify_claim(self, replica: ReplicaId, purpose: bytes, payload: bytes, signature: bytes) -> bool:
        """By a key that is in force."""
        if self._directory.revoked(replica):
            return False
        message = to_be_signed(payload, purpose, self._mesh_id)
        return any(self._verify(key, message, signature) for key in self._directory.open_keys(replica))

    def verify_vote(self, replica: ReplicaId, purpose: bytes, payload: bytes, signature: bytes) -> bool:
        """Also of who was revoked since: what it signed as a voter stays proof, and configurations say who votes."""
        message = to_be_signed(payload, purpose, self._mesh_id)
        return any(self._verify(key, message, signature) for key in self._directory.keys_ever(replica))

    def verify_delta(self, delta: crdt.Delta) -> bool:
        public_key = self._directory.signing_key(delta.shelf, delta.seq, delta.content.rights)
        return public_key is not None and verify_delta(delta, public_key, self._mesh_id, self._verify)

    def check_head_untrusted(self, shelf: ShelfId, header: bytes, signature: bytes) -> crdt.Head | None:
        """None: not signed by a key that may sign this header. Raises Malformed."""
        head = head_from_parts_untrusted(shelf, header, signature)
        keys = self._directory.public_keys(replica_of(shelf), shelf, head.header.seq)
        return head if any(verify_header(header, signature, key, self._mesh_id, self._verify) for key in keys) else None
