"""Deltas as bytes: COSE_Sign1(header) || body.

The signature covers the header, the header names the body by its hash. So a header travels alone as the signed head of a shelf,
and a body alone by reference, and any COSE library checks either. The replica id is the kid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crdt import body as crdt_body
from crdt import delta as crdt_delta
from crdt.body import Body
from crdt.delta import HEADER_BYTES_MAX, Delta, Head
from crdt.errors import Malformed as CrdtMalformed
from crdt.ids import ReplicaId, ShelfId, replica_of
from mesh.errors import Malformed
from mesh.wire.cbor import decode_body_untrusted
from mesh.wire.cose import assembled, split1_untrusted, to_be_signed
from mesh.wire.crypto import LIBSODIUM
from mesh.wire.packer import FRAME_BYTES_MAX

PURPOSE: Final = b"delta"
COSE_BYTES_MAX: Final = 9 + 8 + 2 + HEADER_BYTES_MAX + 2 + 64
"""Around and with a header: template, kid, length, header, length, signature."""
BODY_BYTES_MAX: Final = FRAME_BYTES_MAX - COSE_BYTES_MAX
"""The largest body whose delta fits one frame of one datagram, 1,005 bytes, whatever the numbers in its header."""

Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, message, signature) -> valid. A simulator injects one that remembers."""


_decode_untrusted: Final = decode_body_untrusted
"""This module's own: found without a look into a dictionary, compiled."""


def sign_header(sign: Callable[[bytes], bytes], header_bytes: bytes, mesh_id: bytes) -> bytes:
    """What a `crdt.Replica` is given to sign its headers with. `sign` makes the bare signature of the replica's identity."""
    return sign(to_be_signed(header_bytes, PURPOSE, mesh_id))


def verify_header(
    header_bytes: bytes, signature: bytes, public_key: bytes, mesh_id: bytes, verify: Verify = LIBSODIUM.verify
) -> bool:
    """Whether the holder of the key signed this header in this mesh."""
    return verify(public_key, to_be_signed(header_bytes, PURPOSE, mesh_id), signature)


def verify_delta(delta: Delta, public_key: bytes, mesh_id: bytes, verify: Verify = LIBSODIUM.verify) -> bool:
    """Whether the holder of the key is the author. That the body is the one that the header names was checked when it was
    read."""
    return verify_header(delta.header_bytes, delta.signature, public_key, mesh_id, verify)


def delta_bytes(delta: Delta) -> bytes:
    return head_bytes(delta.head) + delta.body


def head_bytes(head: Head) -> bytes:
    """A signed header alone."""
    return assembled(replica_of(head.header.shelf), head.header_bytes, head.signature)


def delta_from_bytes_untrusted(raw: bytes) -> Delta:
    """All is checked but the signature. Raises `Malformed`."""
    kid, header, signature, end = split1_untrusted(raw)
    try:
        delta = crdt_delta.delta_from_parts_untrusted(ReplicaId(kid), header, signature, raw[end:], _decode_untrusted)
    except CrdtMalformed as error:
        raise Malformed(str(error)) from error
    delta.wire = raw
    return delta


def head_from_parts_untrusted(shelf: ShelfId, header_bytes: bytes, signature: bytes) -> Head:
    """The signed header of a listing; all is checked but the signature. Raises `Malformed`."""
    try:
        head = crdt_delta.head_from_bytes_untrusted(replica_of(shelf), header_bytes, signature)
    except CrdtMalformed as error:
        raise Malformed(str(error)) from error
    if head.header.shelf != shelf:
        raise Malformed("a header of another shelf")
    return head


def body_from_bytes_untrusted(shelf: ShelfId, seq: int, raw: bytes) -> Body:
    """A body without its header, of which nothing but the form is checked. Raises `Malformed`."""
    try:
        return crdt_body.body_from_bytes_untrusted(shelf, seq, raw, decode_body_untrusted)
    except CrdtMalformed as error:
        raise Malformed(str(error)) from error
