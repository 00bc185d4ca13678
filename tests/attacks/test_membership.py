"""Speak for others: make them join, leave, move, refute or be suspected without their word."""

from __future__ import annotations

from typing import Any

import pytest

from crdt.ids import ReplicaId
from mesh.events import MemberDown, MemberLeft, MemberSuspected
from mesh.swim import beliefs as beliefs_module
from mesh.swim import suspicion
from mesh.swim.claims import Accusation, Alive, Claim, Left, Reason, seal
from mesh.swim.probe import Prober
from mesh.swim.roster import State
from mesh.testing import Mesh, open_mesh
from mesh.wire.cbor import decode_untrusted, encode
from mesh.wire.cose import to_be_signed
from mesh.wire.frames import Frame
from tests.attacks.stage import alive_at, both, honest, say, told, without

THREAT = "forged join, leave, refute or suspect"
LIAR, VICTIM = 4, 1


def by_liar(mesh: Mesh, claim: Claim) -> bytes:
    identity, mesh_id = mesh.memberships[LIAR].identity, mesh.authority.mesh_id
    return seal(claim, lambda purpose, payload: identity.sign(to_be_signed(payload, purpose, mesh_id))).raw


def tell_all(mesh: Mesh, claim: Claim) -> None:
    """All but the victim, which would protest; a moment later."""
    raw = by_liar(mesh, claim)
    for number in honest(mesh, LIAR, VICTIM):
        say(mesh, LIAR, number, Frame.CLAIM, raw)
    mesh.run(0.001)


def state_at(mesh: Mesh, number: int, of: int) -> State | None:
    member = mesh.peer(number).swim.member(mesh.memberships[of].replica_id)
    return member.state if member else None


def victim_of(mesh: Mesh) -> ReplicaId:
    return mesh.memberships[VICTIM].replica_id


@both
def test_somebody_who_does_not_exist_joins(defended: bool) -> None:
    ghost = ReplicaId(b"a ghost!")
    with open_mesh(5, seed=1) as mesh, without(defended, beliefs_module, "verified", lambda *_: True):
        tell_all(mesh, Alive(ghost, 1, 1, ("10.66.66.66", 666), "ghost", b"", b""))
        believed = [number for number in honest(mesh, LIAR) if mesh.peer(number).swim.member(ghost)]
        assert bool(believed) == (not defended)


@both
def test_a_member_leaves_without_its_word(defended: bool) -> None:
    """A forged good-bye took a living member out of the list (memberlist issue 370)."""
    with open_mesh(5, seed=2) as mesh, without(defended, beliefs_module, "verified", lambda *_: True):
        tell_all(mesh, Left(victim_of(mesh), mesh.peer(VICTIM).swim.incarnation, 7))
        gone = [number for number in honest(mesh, LIAR, VICTIM) if told(mesh, number, MemberLeft)]
        assert bool(gone) == (not defended)


@both
def test_a_member_moves_to_the_liars_address(defended: bool) -> None:
    with open_mesh(5, seed=3) as mesh, without(defended, beliefs_module, "verified", lambda *_: True):
        trap = ("10.66.66.66", 666)
        tell_all(mesh, Alive(victim_of(mesh), 50, 7, trap, "node-1", b"", b""))

        def moved() -> bool:
            return any(mesh.peer(n).swim.address_of(victim_of(mesh)) == trap for n in honest(mesh, LIAR, VICTIM))

        assert mesh.run_until(moved, 0.1, every=0.0005) == (not defended)


@both
def test_a_dead_member_is_kept_alive(defended: bool) -> None:
    with open_mesh(5, seed=4) as mesh, without(defended, beliefs_module, "verified", lambda *_: True):
        address = mesh.hosts[VICTIM].address
        mesh.crash(VICTIM)
        mesh.run(6.0)
        assert state_at(mesh, 0, VICTIM) is State.DEAD
        tell_all(mesh, Alive(victim_of(mesh), 50, 7, address, "node-1", b"", b""))
        assert (state_at(mesh, 0, VICTIM) is not State.DEAD) == (not defended)


@both
def test_a_member_is_suspected_in_the_name_of_others(defended: bool) -> None:
    with open_mesh(5, seed=5) as mesh, without(defended, beliefs_module, "verified", lambda *_: True):
        incarnation = mesh.peer(VICTIM).swim.incarnation
        accuser = mesh.memberships[2].replica_id
        tell_all(mesh, Accusation(victim_of(mesh), incarnation, accuser, mesh.peer(2).swim.incarnation, Reason.SILENT))
        suspected = [number for number in (0, 3) if told(mesh, number, MemberSuspected)]
        assert bool(suspected) == (not defended)


@pytest.mark.interpreted
@both
def test_one_liar_buries_a_member_that_is_cut_off_from_nobody(defended: bool) -> None:
    """Its own accusation is genuine; one must not be enough. The victim's answers are held back for two seconds."""
    with open_mesh(5, seed=6) as mesh, without(defended, beliefs_module, "accusers_needed", lambda _members: 1):
        accusation = Accusation(
            victim_of(mesh), mesh.peer(VICTIM).swim.incarnation, mesh.memberships[LIAR].replica_id, 1, Reason.REFUSED
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(beliefs_module.Beliefs, "accuse", lambda *_: False)  # nobody honest accuses: one is all there is
            if not defended:
                patch.setattr(suspicion, "REFUSALS_NEEDED", 1)
                suspicion.timeout.cache_clear()
            mesh.cut([VICTIM], name="slow")
            tell_all(mesh, accusation)
            mesh.run(4.0)
        suspicion.timeout.cache_clear()
        buried = [number for number in (0, 2, 3) if told(mesh, number, MemberDown)]
        assert bool(buried) == (not defended)


@pytest.mark.interpreted
@both
def test_a_lying_witness_says_that_a_dead_member_answered(defended: bool) -> None:
    """Undefended, a witness's word is enough: the answer need not be signed by whom it is about."""

    def believe(self: Prober, nonce: int, _vouch: bytes) -> None:
        probe = self._nonces.get(nonce)
        if probe is not None:
            self.forget(probe.target)

    with open_mesh(4, seed=7) as mesh:
        liar = mesh.peer(3)
        lies = []

        def lie(peer: ReplicaId, payload: bytes, now: Any) -> None:
            nonce = decode_untrusted(payload)[0]
            lies.append(nonce)
            liar.send(peer, 0, Frame.ACK, encode([nonce, bytes(64)]))  # type: ignore[arg-type]

        liar.swim._handlers[Frame.PING_REQUEST] = lie
        liar.swim._beliefs.accuse = lambda *_: False  # type: ignore[method-assign]
        with without(defended, Prober, "_vouched", believe):
            mesh.crash(0)
            mesh.run(4.0)
        assert lies
        hidden = [number for number in (1, 2) if state_at(mesh, number, 0) is State.ALIVE]
        assert bool(hidden) == (not defended)


def test_after_all_these_lies_everybody_is_there() -> None:
    with open_mesh(5, seed=8) as mesh:
        swim = mesh.peer(VICTIM).swim
        accuser = mesh.memberships[2].replica_id
        for claim in (
            Alive(victim_of(mesh), 50, 7, ("10.66.66.66", 666), "node-1", b"", b""),
            Left(victim_of(mesh), swim.incarnation, 7),
            Accusation(victim_of(mesh), swim.incarnation, accuser, 1, Reason.REFUSED),
        ):
            tell_all(mesh, claim)
        mesh.run(5.0)
        assert all(alive_at(mesh, number) == 4 for number in mesh.running)
