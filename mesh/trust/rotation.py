"""Asking for a further key: what an agent shows the authority, as one line.

The agent makes the new key itself, so the secret never travels. The line is signed by the former and by the new key: the
authority sees that the replica wants this, and that somebody holds the new key. It is no statement; the authority makes one of
it (`Authority.rotate`), which goes to the agent like any other. The agent's own statements are in it, for an authority that has
not met it yet.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from crdt.ids import REPLICA_ID_BYTES, ReplicaId
from mesh.errors import ConfigError, Malformed
from mesh.trust.armour import armour, unarmour
from mesh.trust.directory import Directory
from mesh.trust.identity import Identity
from mesh.trust.membership import Membership, presented_untrusted
from mesh.wire import cbor
from mesh.wire.cose import to_be_signed
from mesh.wire.crypto import LIBSODIUM, PUBLIC_KEY_BYTES, SIGNATURE_BYTES

PREFIX: Final = "meshrotate1-"
PURPOSE: Final = b"gossipmesh rotation"


class Request(NamedTuple):
    replica: ReplicaId
    public_key: bytes
    """The new one."""


def write_request(membership: Membership, new: Identity) -> str:
    """One line. It is no secret, and of use to nobody but the authority."""
    former = membership.identity
    message = to_be_signed(cbor.encode([former.replica_id, new.public_key]), PURPOSE, membership.mesh_id)
    signatures = former.sign(message), new.sign(message)
    return armour(PREFIX, cbor.encode([former.replica_id, new.public_key, *signatures, membership.presentation]))


def read_request(line: str, directory: Directory) -> Request:
    """What is asked for, both signatures checked; the directory learns who asks. Raises ConfigError."""
    what = "the request"
    try:
        fields: Any = cbor.decode_untrusted(unarmour(PREFIX, line, what))
        if not isinstance(fields, tuple) or len(fields) != 5 or not all(type(each) is bytes for each in fields):
            raise Malformed("it holds something else than keys and signatures")
        replica, public_key, by_former, by_new, presentation = fields
        if tuple(map(len, fields[:4])) != (REPLICA_ID_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SIGNATURE_BYTES):
            raise Malformed("a key or signature in it has a wrong length")
        directory.restore(presented_untrusted(presentation))
    except Malformed as error:
        raise ConfigError(f"{what} is damaged: {error}") from None
    former = directory.public_key(ReplicaId(replica))
    if former is None:
        raise ConfigError(f"{what} is of {replica.hex()}, which is no member as far as is known here")
    message = to_be_signed(cbor.encode([replica, public_key]), PURPOSE, directory.mesh_id)
    if not LIBSODIUM.verify(former, message, by_former):
        raise ConfigError(f"{what} is not signed by the key that {directory.name(ReplicaId(replica))} has now")
    if not LIBSODIUM.verify(public_key, message, by_new):
        raise ConfigError(f"{what} is not signed by the new key")
    return Request(ReplicaId(replica), public_key)
