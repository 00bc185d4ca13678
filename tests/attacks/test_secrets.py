"""Read what is encrypted for others, make oneself its reader, or bend it without being able to read it."""

from __future__ import annotations

import contextlib
from typing import Any

from crdt.ops import Path, Value
from mesh.errors import KeyMissing
from mesh.secrecy import vault
from mesh.secrecy.prefixes import epoch_key, wrap_key_of
from mesh.secrecy.sealing import where_of, wrap_key
from mesh.secrecy.vault import Vault
from mesh.testing import Mesh, open_mesh
from mesh.trust import ledger, matching
from tests.attacks.stage import REGISTER, both, shows, without
from tests.secrecy.test_encrypted import RIGHTS, ids, secrets_seen

THREAT = "secrets of encrypted prefixes"
AUTHOR, READER, LIAR = 0, 1, 2


def keep_secret(mesh: Mesh) -> None:
    """`AUTHOR` writes what only `READER` may read besides."""
    mesh.node(AUTHOR).encrypt("secret/**", ids(mesh, READER))
    mesh.node(AUTHOR).register("secret/code").set("attack at dawn")
    mesh.node(AUTHOR).register("secret/target").set("the harbour")
    mesh.run(1.0)
    assert shows(mesh, READER, "secret/code") == "attack at dawn"


def write_raw(mesh: Mesh, host: int, *cells: tuple[int, Path, Value]) -> None:
    """By a program that asks neither its rights nor its vault."""
    peer, now = mesh.peer(host), mesh.hosts[host].now()
    for kind, path, payload in cells:
        peer.replica.draft(kind, path, payload, now_wall=now.wall)
    peer._draft_due = now.monotonic
    mesh.hosts[host].wake()
    mesh.run(1.0)


def reads(mesh: Mesh, host: int, path: str) -> Any:
    with contextlib.suppress(KeyMissing):
        return shows(mesh, host, path)
    return None


@both
def test_who_carries_it_looks_into_what_it_carries(defended: bool) -> None:
    def in_the_clear(self: Vault, key: Any, value: Value, origin: Any) -> Value:
        return value

    with without(defended, Vault, "seal", in_the_clear), open_mesh(3, seed=1, may_write=RIGHTS) as mesh:
        keep_secret(mesh)
        assert secrets_seen(mesh, LIAR, b"attack at dawn") == (not defended)
        assert reads(mesh, LIAR, "secret/code") == (None if defended else "attack at dawn")


@both
def test_a_member_makes_itself_a_reader(defended: bool) -> None:
    """It may write anywhere, and puts a key of its own into force. Undefended: `**` reaches the mesh's own paths."""
    with (
        without(defended, matching, "is_reserved", lambda _path: False),
        without(defended, ledger, "is_reserved", lambda _path: False),
        open_mesh(3, seed=2, may_write=RIGHTS) as mesh,
    ):
        narrowed = mesh.authority.reissue(mesh.memberships[LIAR].replica_id, may_write=["**"], honoured=[])
        for host in mesh.running:
            mesh.peer(host).directory.add_untrusted(narrowed, mesh.hosts[host].now())
        keep_secret(mesh)
        prefix, epoch, key = ("secret",), b"an epoch", bytes(32)
        readers = [mesh.memberships[host].identity for host in (AUTHOR, READER, LIAR)]
        where = where_of(mesh.authority.mesh_id, prefix, epoch)
        wraps = [(reader, wrap_key(key, reader.public_key, where, bytes, mesh.crypto)) for reader in readers]
        listed: Value = [2, [reader.replica_id for reader in readers]]
        write_raw(
            mesh,
            LIAR,
            *((*wrap_key_of(prefix, epoch, reader.replica_id), wrap) for reader, wrap in wraps),
            (*epoch_key(prefix, epoch), listed),
        )
        mesh.node(AUTHOR).register("secret/code").set("attack at noon")
        mesh.run(1.0)
        assert shows(mesh, READER, "secret/code") == "attack at noon"
        assert reads(mesh, LIAR, "secret/code") == (None if defended else "attack at noon")


@both
def test_a_member_moves_a_secret_that_it_cannot_read(defended: bool) -> None:
    """One ciphertext in another's place. Undefended: it is bound to nothing, and the harbour is attacked by night."""
    with without(defended, vault, "place_of", lambda *_: b""), open_mesh(3, seed=3, may_write=RIGHTS) as mesh:
        keep_secret(mesh)
        (op,) = mesh.peer(LIAR).replica.shown((REGISTER, ("secret", "code")))
        write_raw(mesh, LIAR, (REGISTER, ("secret", "target"), op.payload))
        assert (shows(mesh, READER, "secret/target") == "attack at dawn") == (not defended)
