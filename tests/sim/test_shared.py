"""What simulated agents share."""

from __future__ import annotations

from crdt.body import Body
from crdt.delta import Delta
from mesh.testing import open_mesh
from mesh.testing.crypto import SharedCrypto
from mesh.wire.delta import delta_bytes


def test_readers_share_the_ops_of_the_author() -> None:
    with open_mesh(3, seed=1) as mesh:
        mesh.node(0).register("key").set([1, 2.0, True])
        mesh.run(0.5)
        key = next(iter(mesh.peer(0).replica.keys(("key",))))
        ops = [mesh.peer(number).replica.cells(key)[0] for number in range(3)]
        assert ops[1] is ops[0]
        assert ops[2] is ops[0]


def test_readers_share_what_is_in_chunks() -> None:
    """Regression: each of 256 agents read the covers of each write of a hot key, and looked who covers whom, for itself:
    a third of all that they computed."""
    with open_mesh(3, seed=1) as mesh:
        mesh.node(0).register("key").set("x" * 1_500)
        mesh.run(0.5)
        replicas = [mesh.peer(number).replica for number in range(3)]
        key = next(iter(replicas[0].keys(("key",))))
        contents = [replica.chunks.content(replica.cells(key)[0]) for replica in replicas]
        assert contents[0] is not None
        assert contents[0].payload == "x" * 1_500
        assert contents[1] is contents[0]
        assert contents[2] is contents[0]


def test_readers_do_not_share_what_they_would_have_read_otherwise() -> None:
    """Else no simulation would find a fault of the encoding: 1 and True are equal."""
    with open_mesh(2, seed=1) as mesh:
        author, crypto = mesh.peer(0).replica, SharedCrypto()
        (delta,) = [author.write(1, ("key",), True, now_wall=1_800_000_000_000_000)]
        wrong = tuple([op._replace(payload=1) for op in delta.ops])
        body = Body(delta.shelf, delta.seq, delta.body, delta.content.rights, wrong)
        raw = crypto.write_delta(Delta(delta.head, body))
        assert raw == delta_bytes(delta)
        assert [op.payload is True for op in crypto.read_delta_untrusted(raw).ops] == [True]
