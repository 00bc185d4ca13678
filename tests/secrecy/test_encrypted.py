"""Encrypted prefixes in a running mesh: readers read, everybody else carries."""

from __future__ import annotations

import pytest

from crdt.ids import ReplicaId
from mesh.errors import ConfigError, KeyMissing, NotPermitted, UnsupportedValue
from mesh.secrecy import Sealed
from mesh.secrecy.prefixes import epoch_key, wrap_key_of
from mesh.secrecy.sealing import OVERHEAD_BYTES, epoch_of, where_of, wrap_key
from mesh.testing import Mesh, open_mesh
from tests.peer.test_dissemination import equal_after
from tests.peer.test_rotation import put_into_force, switch

RIGHTS = ("**", "$keys/**")


def ids(mesh: Mesh, *hosts: int) -> list[ReplicaId]:
    return [mesh.memberships[host].replica_id for host in hosts]


def secrets_seen(mesh: Mesh, host: int, secret: bytes) -> bool:
    """Whether these bytes are anywhere in the state of this host."""
    replica = mesh.peer(host).replica
    return any(secret in held.body.raw for base in replica.bases.values() for held in (*base.own.values(), *base.hosted.values()))


def test_readers_read_and_others_carry_what_they_cannot() -> None:
    with open_mesh(4, seed=1, may_write=RIGHTS) as mesh:
        mesh.node(0).encrypt("secret/**", ids(mesh, 1))
        mesh.node(0).register("secret/code").set("attack at dawn")
        mesh.node(0).register("open/code").set("attack at noon")
        mesh.run(1.0)
        assert mesh.node(1).register("secret/code").value == mesh.node(0).register("secret/code").value == "attack at dawn"
        for host in (2, 3):
            with pytest.raises(KeyMissing, match="secret/code is encrypted"):
                _ = mesh.node(host).register("secret/code").value
            assert mesh.read(host, "secret/code") == {"register": Sealed(mesh.peer(0).vault.prefixes()[("secret",)].id)}
        assert not any(secrets_seen(mesh, host, b"dawn") for host in range(4)), "not even at who can read it"
        assert all(secrets_seen(mesh, host, b"noon") for host in range(4))
        equal_after(mesh, 1.0)
        mesh.crash(0)
        mesh.crash(1)
        mesh.restart(2)  # who brings it to a newcomer need not be able to read it
        mesh.restart(3, "lost")
        mesh.run(5.0)
        mesh.crash(2)
        mesh.restart(1, "lost")
        mesh.run(10.0)
        assert mesh.node(1).register("secret/code").value == "attack at dawn"


def test_every_type_that_can_be_hidden_works_among_readers() -> None:
    with open_mesh(3, seed=2, may_write=RIGHTS) as mesh:
        mesh.node(0).encrypt("secret/**", ids(mesh, 1))
        mesh.run(0.5)
        for host in (0, 1):
            node = mesh.node(host)
            node.counter("secret/counter").add(host + 1)
            node.maximum("secret/maximum").update(host)
            node.multi_value("secret/several").set(host)
            node.list("secret/list").append(host)
            node.log("secret/log").append({"host": host})
            node.map("secret/map")[f"key{host}"] = [host]
            mesh.run(0.3)
        node.register("secret/large").set("x" * 50_000)
        mesh.run(2.0)
        for host in (0, 1):
            node = mesh.node(host)
            assert node.counter("secret/counter").value == 3
            assert node.maximum("secret/maximum").value == 1
            assert node.multi_value("secret/several").value == [1]
            assert node.list("secret/list").value == [0, 1]
            assert node.log("secret/log").value == [{"host": 0}, {"host": 1}]
            assert node.map("secret/map").value == {"key0": [0], "key1": [1]}
            assert node.register("secret/large").value == "x" * 50_000
        assert not secrets_seen(mesh, 2, b"xxxx")


def test_what_would_show_in_paths_is_refused() -> None:
    with open_mesh(2, seed=3, may_write=RIGHTS) as mesh:
        node = mesh.node(0)
        node.encrypt("secret/**", [])
        with pytest.raises(UnsupportedValue, match="elements of a set are in paths"):
            node.set("secret/set").add("element")
        with pytest.raises(UnsupportedValue, match="flag"):
            node.flag("secret/flag").enable()
        node.register("secret/x").set(1)
        node.register("secret/x").clear()
        assert node.register("secret/x").value is None
        for pattern in ("secret", "**", "*/x/**", "$keys/**"):
            with pytest.raises(ConfigError, match="cannot be encrypted"):
                node.encrypt(pattern, [])


def test_who_is_no_reader_cannot_write_there() -> None:
    """It would be in the clear, among what is not."""
    with open_mesh(3, seed=4, may_write=RIGHTS) as mesh:
        mesh.node(0).encrypt("secret/**", ids(mesh, 1))
        mesh.run(0.5)
        with pytest.raises(NotPermitted, match="no reader"):
            mesh.node(2).register("secret/x").set(1)
        with pytest.raises(NotPermitted, match="no reader"):
            mesh.node(2).encrypt("secret/**", ids(mesh, 2))


def test_who_is_taken_out_reads_nothing_later_and_who_comes_in_reads_all() -> None:
    with open_mesh(4, seed=5, may_write=RIGHTS) as mesh:
        assert mesh.node(0).encrypt("secret/**", ids(mesh, 1)) == 1
        mesh.node(0).register("secret/first").set(1)
        mesh.run(0.5)
        assert mesh.node(1).encrypt("secret/**", ids(mesh, 0, 2)) == 1, "any reader with the right may let others in"
        mesh.run(0.5)
        assert mesh.node(2).register("secret/first").value == 1
        assert mesh.node(0).encrypt("secret/**", ids(mesh, 2)) == 2
        mesh.run(0.5)
        mesh.node(2).register("secret/second").set(2)
        mesh.run(0.5)
        assert mesh.node(0).register("secret/second").value == 2
        assert mesh.node(1).register("secret/first").value == 1, "it could read that already"
        with pytest.raises(KeyMissing):
            _ = mesh.node(1).register("secret/second").value
        with pytest.raises(NotPermitted):
            mesh.node(1).register("secret/third").set(3)
        assert mesh.node(0).encrypt("secret/**", ids(mesh, 2, 3)) == 2
        mesh.run(0.5)
        assert [mesh.node(3).register(f"secret/{path}").value for path in ("first", "second")] == [1, 2]


def test_a_watcher_is_told_when_a_key_arrives() -> None:
    with open_mesh(3, seed=6, may_write=RIGHTS) as mesh:
        mesh.node(0).encrypt("secret/**", [])
        mesh.node(0).register("secret/x").set(1)
        mesh.run(0.5)
        changed: list[tuple[object, ...]] = []
        drained = mesh.peer(2).changes
        mesh.peer(2).changes = lambda: [changed.append(key[1]) or key for key in drained()]  # type: ignore[method-assign, func-returns-value]
        mesh.node(0).encrypt("secret/**", ids(mesh, 2))
        mesh.run(0.5)
        assert ("secret", "x") in changed
        assert mesh.read(2, "secret/x") == {"register": 1}


def test_the_right_to_choose_readers_is_given_by_name() -> None:
    """`**` does not reach `$keys`: else whoever may write anywhere could make itself a reader."""
    with open_mesh(2, seed=7) as mesh:
        with pytest.raises(NotPermitted, match=r"\$keys/secret"):
            mesh.node(0).encrypt("secret/**", [])
        mesh.node(0).register("secret/x").set("in the clear")
        mesh.run(0.5)
        assert mesh.node(1).register("secret/x").value == "in the clear"


def test_readers_are_members() -> None:
    with open_mesh(2, seed=8, may_write=RIGHTS) as mesh, pytest.raises(ConfigError, match="no member"):
        mesh.node(0).encrypt("secret/**", [ReplicaId(bytes(8))])


@pytest.mark.parametrize("moved", ["path", "type", "author"])
def test_a_ciphertext_that_is_moved_does_not_open(moved: str) -> None:
    """Another writer, no reader itself, writes the bytes of a secret elsewhere: readers take it for not written."""
    with open_mesh(3, seed=9, may_write=RIGHTS) as mesh:
        mesh.node(0).encrypt("secret/**", ids(mesh, 1))
        mesh.node(0).register("secret/pay").set(1_000_000)
        mesh.run(0.5)
        (op,) = mesh.peer(2).replica.shown((1, ("secret", "pay")))
        assert epoch_of(op.payload) is not None
        host = 2 if moved == "author" else 0
        path = ("secret", "other") if moved == "path" else ("secret", "pay")
        code = 2 if moved == "type" else 1
        mesh.run(1.0)
        mesh.peer(host).replica.draft(code, path, op.payload, now_wall=mesh.hosts[host].now().wall)
        mesh.peer(host)._draft_due = mesh.hosts[host].now().monotonic
        mesh.run(0.5)
        assert len(mesh.peer(1).replica.shown((code, path))) == 1, "it is there, signed by who moved it"
        assert list(mesh.peer(1).shown((code, path))) == []
        assert mesh.peer(1).vault.forged > 0


def test_a_reader_with_a_new_key_of_its_own_reads_on() -> None:
    with open_mesh(3, seed=10, may_write=RIGHTS) as mesh:
        mesh.node(0).encrypt("secret/**", ids(mesh, 1))
        mesh.node(0).register("secret/x").set(1)
        mesh.run(0.5)
        switch(mesh, 1, put_into_force(mesh, 1, by=0))
        mesh.run(0.5)
        assert mesh.node(1).register("secret/x").value == 1, "what it has unwrapped it keeps"
        mesh.node(0).encrypt("secret/**", ids(mesh, 1))  # wraps the keys for the new key of its reader
        mesh.run(0.5)
        mesh.restart(1)
        mesh.run(3.0)
        assert mesh.node(1).register("secret/x").value == 1


def test_prefixes_within_each_other_have_keys_of_their_own() -> None:
    with open_mesh(3, seed=11, may_write=RIGHTS) as mesh:
        mesh.node(0).encrypt("secret/**", ids(mesh, 1, 2))
        mesh.node(0).encrypt("secret/deep/**", ids(mesh, 1))
        mesh.node(0).register("secret/x").set(1)
        mesh.node(0).register("secret/deep/x").set(2)
        mesh.run(0.5)
        assert mesh.node(2).register("secret/x").value == 1
        with pytest.raises(KeyMissing):
            _ = mesh.node(2).register("secret/deep/x").value
        assert mesh.node(1).register("secret/deep/x").value == 2


def test_an_epoch_by_the_name_of_another_prefix_s_gives_nobody_its_values() -> None:
    """Keys were kept by epoch alone. A member that may choose readers of some other prefix gave an epoch there the name of this
    one's, with a key of its own: whoever learned that one first sealed what is secret with the key of the liar."""
    with open_mesh(3, seed=14, may_write=RIGHTS) as mesh:
        mesh.node(0).encrypt("secret/**", ids(mesh, 1))
        mesh.run(1.0)
        name = mesh.peer(0).vault.prefixes()[("secret",)].id
        liar, key = mesh.peer(2), bytes(range(32))
        for prefix in (("a",), ("z",)):  # whatever the order in which they are found
            for reader in (0, 1):
                identity = mesh.memberships[reader].identity
                where = where_of(liar.directory.mesh_id, prefix, name)
                wrap = wrap_key(key, identity.public_key, where, bytes, liar.config.crypto)
                kind, path = wrap_key_of(prefix, name, identity.replica_id)
                liar.draft(kind, path, wrap, now=mesh.hosts[2].now())
            kind, path = epoch_key(prefix, name)
            liar.draft(kind, path, [1, ids(mesh, 0, 1)], now=mesh.hosts[2].now())
        mesh.hosts[2].wake()
        mesh.run(1.0)
        for host in (0, 1):
            mesh.restart(host)
        mesh.run(2.0)
        for host in (0, 1):
            assert mesh.peer(host).vault.keys_of(("a",)) == {name: key}, "the attack came about"
            assert mesh.peer(host).vault.keys_of(("secret",))[name] != key
            mesh.node(host).register(f"secret/{host}").set("attack at dawn")
        mesh.run(1.0)
        assert [mesh.node(1 - host).register(f"secret/{host}").value for host in (0, 1)] == ["attack at dawn"] * 2


def test_the_overhead_is_what_is_documented() -> None:
    with open_mesh(2, seed=12, may_write=RIGHTS) as mesh:
        mesh.node(0).encrypt("secret/**", [])
        mesh.node(0).register("secret/x").set(b"12345678")
        mesh.run(0.5)
        (op,) = mesh.peer(1).replica.shown((1, ("secret", "x")))
        assert isinstance(op.payload, bytes)
        assert len(op.payload) == len(b"12345678") + 1 + OVERHEAD_BYTES


def test_what_the_quorum_agrees_on_is_not_said_to_be_secret() -> None:
    """`encrypt("tasks/**")` said yes, and critical writes below it went on in the clear."""
    with open_mesh(2, seed=13, may_write=RIGHTS, critical=["tasks/**", "plans/*/owner"]) as mesh:
        for pattern in ("tasks/**", "tasks/7/**", "plans/**", "plans/7/**", "plans/7/owner/**"):
            with pytest.raises(ConfigError, match="critical paths"):
                mesh.node(0).encrypt(pattern, ids(mesh, 1))
        for pattern in ("secret/**", "plans/7/draft/**"):
            assert mesh.node(0).encrypt(pattern, ids(mesh, 1)) == 1
