"""Let in what goes further than oneself: wider patterns, a vote, tools of a delegator that was revoked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import crdt
from mesh.errors import Refused
from mesh.testing import Mesh, open_mesh
from mesh.testing.apart import replica_apart
from mesh.trust import Identity
from mesh.trust import ledger as ledger_module
from mesh.trust.ledger import Ledger
from mesh.trust.statements import Enrolment, Invite, Terms, issue
from mesh.wire.delta import delta_bytes
from mesh.wire.frames import Frame
from tests.attacks.stage import REGISTER, both, honest, say_at_once, shows, without
from tests.trust.test_delegation import forged

THREAT = "a delegate beyond its rights"
ROBOT, RELAY = 3, 1
"""The delegator, hostile or not, and the member that brings what its tools write."""


@contextmanager
def factory(seed: int) -> Iterator[tuple[Mesh, Identity]]:
    """A mesh in which `ROBOT` has the right to write below robots/7, and to let one level of tools in there."""
    with open_mesh(4, seed=seed) as mesh:
        robot = mesh.memberships[ROBOT].replica_id
        tell_all(mesh, mesh.authority.reissue(robot, may_write=["robots/7/**"], delegates=1, honoured=[]))
        yield mesh, Identity.generate(bytes([seed]) * 32, mesh.crypto)


def tell_all(mesh: Mesh, *raws: bytes) -> None:
    for host in mesh.running:
        for raw in raws:
            mesh.peer(host).directory.add_untrusted(raw, mesh.hosts[host].now())


def let_in(mesh: Mesh, tool: Identity, *may_write: str, voter: bool = False) -> None:
    """What no tool of ours would sign: the delegator says whatever it likes, in the right form."""
    robot = mesh.memberships[ROBOT].identity
    grant = mesh.peer(0).directory.credential(robot.replica_id)
    assert grant is not None
    key = Identity.generate(bytes(32), mesh.crypto)
    terms = Terms("tool", may_write, voter, 0, None, 0)
    tell_all(
        mesh,
        forged(robot, mesh.authority, grant.serial, terms, key),
        issue(Enrolment(tool.public_key, None), key, mesh.authority.mesh_id),
    )


def write(mesh: Mesh, program: crdt.Replica, path: str) -> None:
    """By a program of the tool's own, brought to every honest agent by a member."""
    raw = delta_bytes(program.write(REGISTER, tuple(path.split("/")), "open", now_wall=1_800_000_000_000_000))
    for number in honest(mesh, ROBOT, RELAY):
        say_at_once(mesh, RELAY, number, Frame.DELTA, raw)
    mesh.run(0.5)


@both
def test_it_grants_what_it_does_not_have(defended: bool) -> None:
    with without(defended, ledger_module, "is_narrower", lambda *_: True), factory(1) as (mesh, tool):
        let_in(mesh, tool, "**")
        known = mesh.peer(0).directory.rights(tool.replica_id) is not None
        assert known == (not defended)
        if known:
            write(mesh, replica_apart(tool, mesh.peer(0).directory, 7), "valve")
        assert all(shows(mesh, number, "valve") == (None if defended else "open") for number in honest(mesh, ROBOT, RELAY))


@both
def test_it_makes_voters(defended: bool) -> None:
    """A delegator that could would be a majority by itself."""
    with without(defended, ledger_module, "is_narrower", lambda *_: True), factory(2) as (mesh, tool):
        let_in(mesh, tool, "robots/7/**", voter=True)
        grant = mesh.peer(0).directory.credential(tool.replica_id)
        assert (grant is not None and grant.terms.voter) == (not defended)


@both
def test_its_tools_go_on_after_it_was_revoked(defended: bool) -> None:
    """Within the rights that it had. Undefended: a revocation ends the delegator alone."""
    with without(defended, Ledger, "_above", lambda *_: iter(())), factory(3) as (mesh, tool):
        let_in(mesh, tool, "robots/7/arm/**")
        program = replica_apart(tool, mesh.peer(0).directory, 7)
        tell_all(mesh, mesh.authority.revoke(mesh.memberships[ROBOT].replica_id, honoured=[]))
        write(mesh, program, "robots/7/arm/angle")
        for number in honest(mesh, ROBOT, RELAY):
            assert shows(mesh, number, "robots/7/arm/angle") == (None if defended else "open")


@both
def test_it_lets_in_under_anothers_name(defended: bool) -> None:
    """A member without the right to let anybody in signs a delegation of the robot's."""

    def signed_by_anybody(self: Ledger, statement: bytes, invite: Invite) -> Terms:
        return invite.terms

    with without(defended, Ledger, "_granted", signed_by_anybody), factory(4) as (mesh, tool):
        robot, liar = mesh.memberships[ROBOT].identity, mesh.memberships[RELAY].identity
        grant = mesh.peer(0).directory.credential(robot.replica_id)
        assert grant is not None
        key = Identity.generate(bytes(32), mesh.crypto)
        terms = Terms("tool", ("robots/7/arm/**",), False, 0, None, 0)
        by_liar = forged(liar, mesh.authority, grant.serial, terms, key)
        enrolment = issue(Enrolment(tool.public_key, None), key, mesh.authority.mesh_id)
        for raw in (by_liar, enrolment):
            try:
                tell_all(mesh, raw)
            except Refused:
                assert defended
        assert (mesh.peer(0).directory.rights(tool.replica_id) is not None) == (not defended)
