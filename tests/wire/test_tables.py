"""Whom the transport has an entry for."""

from __future__ import annotations

from crdt.ids import ReplicaId
from mesh.effects import Address
from mesh.testing import Mesh, Setup
from mesh.wire.limits import TransportLimits
from mesh.wire.tables import Peers

ME, YOU = ReplicaId(b"m" * 8), ReplicaId(b"y" * 8)
ROUTES: dict[ReplicaId, tuple[bytes, Address]] = {YOU: (b"key of y", ("10.0.0.2", 7))}


def peers() -> Peers:
    return Peers(TransportLimits(), ROUTES.get, {b"key of y": YOU, b"former key of y": YOU, b"key of z": ReplicaId(b"z" * 8)}.get)


def test_an_entry_is_made_at_the_first_use() -> None:
    table = peers()
    assert table.met(YOU) is None
    made = table.get(YOU)
    assert made is not None
    assert (made.public_key, made.address) == ROUTES[YOU]
    assert table.get(YOU) is table.met(YOU) is table.of_key(b"key of y") is made
    assert table.get(ReplicaId(b"z" * 8)) is None
    assert list(table) == [made]


def test_a_key_leads_to_its_member_only() -> None:
    table = peers()
    assert table.of_key(b"unheard of") is None
    assert table.of_key(b"key of z") is None  # of nobody who can be reached
    assert table.of_key(b"former key of y") is None
    made = table.of_key(b"key of y")
    assert made is not None
    table.rekey(made, b"another")
    assert table.of_key(b"key of y") is None
    assert table.of_key(b"another") is made
    assert table.pop(YOU) is made
    assert table.of_key(b"another") is table.met(YOU) is None


def test_who_proved_a_key_lives_where_membership_says() -> None:
    """And where it came from, when membership says nothing."""
    table = peers()
    made = table.meet(YOU, b"former key of y", ("10.9.9.9", 9))
    assert (made.public_key, made.address) == (b"former key of y", ("10.0.0.2", 7))
    assert table.meet(ReplicaId(b"z" * 8), b"key of z", ("10.9.9.9", 9)).address == ("10.9.9.9", 9)


def test_a_large_mesh_has_entries_for_a_few_members_only() -> None:
    """As many as probes, digests and pushes came by: it does not grow with the mesh."""
    mesh = Mesh(96, seed=3, setup=Setup(durable=False, warm=True, introduced=True))
    mesh.start()
    mesh.run(0.5)
    entries = [len(mesh.peer(number).transport._peers.by_id) for number in mesh.running]
    assert sum(entries) / len(entries) < 30
    assert all(len(mesh.peer(number).swim.members()) == 95 for number in mesh.running)
