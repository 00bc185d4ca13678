"""The door of a member, and strangers who knock at it: real handshakes, over no network."""

from __future__ import annotations

from crdt.ids import ReplicaId
from mesh.testing import Mesh
from mesh.trust import Identity
from mesh.wire.transport import Transport


def knock(mesh: Mesh, identity: Identity, presentation: bytes, at: int = 0) -> Transport:
    """A stranger opens a session with a member, over no network at all. Gives the stranger's side."""
    host = mesh.hosts[at]
    rng = mesh.world.rng("stranger", identity.replica_id.hex(), at, mesh.world.time)
    stranger = Transport(
        identity=identity,
        mesh_id=mesh.authority.mesh_id,
        boot_id=rng.randbytes(16),
        credential=presentation,
        admit=lambda public_key, _credential, _now: ReplicaId(Identity.generate(public_key).replica_id),
        rng=rng,
        entropy=rng.randbytes,
        crypto=mesh.crypto,
    )
    here = ("203.0.113.77", 1 + at)
    stranger.contact(host.address, host.now())
    for _ in range(3):
        for transmit in stranger.flush(host.now()):
            mesh.peer(at).handle_untrusted(transmit.datagram, here, host.now())
        for transmit in mesh.peer(at).transmits(host.now()):
            if transmit.address == here:
                stranger.receive_untrusted(transmit.datagram, host.address, host.now())
    return stranger
