"""A member's replica apart from its process: what a thief of its key, a clone of its machine or a program of its own signs."""

from __future__ import annotations

from typing import Any

import crdt
from crdt.ids import shelf_id
from mesh.trust import Directory, Identity
from mesh.wire import cbor
from mesh.wire.delta import BODY_BYTES_MAX, sign_header


def replica_apart(identity: Identity, directory: Directory, birth: int, **options: Any) -> crdt.Replica:
    """Writes under the rights that the directory knows of this member, which must have some. `options`: of `crdt.Replica`, for
    instance `void_ops`, without which it judges nothing."""
    replica = crdt.Replica(
        shelf_id(identity.replica_id, birth),
        sign=lambda header: sign_header(identity.sign, header, directory.mesh_id),
        encode=cbor.encode,
        decode=cbor.decode_untrusted,
        body_bytes_max=BODY_BYTES_MAX,
        **options,
    )
    rights = directory.rights(identity.replica_id)
    assert rights is not None
    replica.rights = rights
    return replica
