"""An author that says two things under one number is found out, by every replica that hears of both."""

from __future__ import annotations

import crdt
from crdt.ids import shelf_id
from crdt.types import type_named
from mesh.testing import Mesh, open_mesh
from mesh.testing.apart import replica_apart
from mesh.wire.delta import delta_bytes
from mesh.wire.frames import Frame

BIRTH = 77


def branch(mesh: Mesh, values: list[str], *, birth: int = BIRTH) -> list[crdt.Delta]:
    """Deltas 1, 2 ... of one shelf of host 0, as a copy of its process would sign them."""
    identity, directory = mesh.memberships[0].identity, mesh.peer(0).directory
    replica = replica_apart(identity, directory, birth, void_ops=directory.void_ops)
    return [replica.write(type_named("register").code, ("key",), value, now_wall=10**15) for value in values]


def push(mesh: Mesh, host: int, deltas: list[crdt.Delta]) -> None:
    for delta in deltas:
        mesh.peer(host).sync.handle_untrusted(
            mesh.memberships[0].replica_id, Frame.DELTA, delta_bytes(delta), mesh.hosts[host].now()
        )
    mesh.hosts[host].wake()


def ended(mesh: Mesh) -> list[bool]:
    shelf = shelf_id(mesh.memberships[0].replica_id, BIRTH)
    return [shelf in mesh.peer(host).replica.ended for host in (1, 2)]


def test_two_branches_of_one_length_are_a_fork_and_not_a_duplicate() -> None:
    """The second delta of one number was dropped as known before anybody looked at it; replicas differed for ever."""
    with open_mesh(3, seed=1) as mesh:
        push(mesh, 1, branch(mesh, ["one"]))
        push(mesh, 2, branch(mesh, ["two"]))
        mesh.run(3.0)
        assert ended(mesh) == [True, True]


def test_two_branches_of_different_length_are_a_fork() -> None:
    with open_mesh(3, seed=2) as mesh:
        push(mesh, 1, branch(mesh, ["same", "one"]))
        push(mesh, 2, branch(mesh, ["same", "two", "three"]))
        mesh.run(3.0)
        assert ended(mesh) == [True, True]


def test_a_delta_that_comes_twice_is_no_fork() -> None:
    with open_mesh(3, seed=3) as mesh:
        for host in (1, 2, 1, 2):
            push(mesh, host, branch(mesh, ["one", "two"]))
        mesh.run(3.0)
        assert ended(mesh) == [False, False]
