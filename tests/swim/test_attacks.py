"""Members that lie, and outsiders that forge. Real signatures throughout."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from crdt.ids import ReplicaId
from mesh.errors import Malformed
from mesh.events import MemberDown, MemberLeft, MemberSuspected
from mesh.swim.claims import Accusation, Alive, Claim, Left, Reason, seal
from mesh.swim.exchange import WANTED_AT_ONCE, WANTED_MAX
from mesh.swim.quota import WRONG_BURST
from mesh.swim.roster import State
from mesh.wire.cbor import encode
from mesh.wire.frames import Frame
from tests.swim.harness import Mesh, replica

SWIM_FRAMES = [kind for kind in Frame if Frame.PING <= kind <= Frame.MEMBER_WANT]


def real(size: int, **options: float) -> Mesh:
    mesh = Mesh(0, **options)  # type: ignore[arg-type]
    mesh.enrolled = {replica(number) for number in range(size)}
    mesh.use_real_signatures()
    for number in range(size):
        mesh.start(number)
    mesh.run(0.001)
    mesh.settle()
    mesh.run(2.0)
    return mesh


def by(mesh: Mesh, signer: int, claim: Claim) -> bytes:
    return seal(claim, lambda purpose, payload: mesh.sign(replica(signer), purpose, payload)).raw


def tell(mesh: Mesh, victim: int, liar: int, raw: bytes) -> None:
    """The liar is a member and has a session; what it says is up to it."""
    mesh.do(victim, lambda swim, now: swim.handle_untrusted(replica(liar), Frame.CLAIM, raw, now))


def tell_all(mesh: Mesh, liar: int, raw: bytes) -> None:
    for agent in mesh.running:
        if agent.number != liar:
            tell(mesh, agent.number, liar, raw)


def refused(mesh: Mesh) -> int:
    return sum(agent.swim.counters["claims_refused"] for agent in mesh.running)


def test_a_mesh_with_real_signatures_works() -> None:
    mesh = real(6)
    mesh.crash(5)
    mesh.run_until(lambda: mesh.all_see(5, State.DEAD), 5.0)
    assert refused(mesh) == 0


# ---- forgery


def test_a_forged_leave_hijacks_nobody() -> None:
    """memberlist#370."""
    mesh = real(5)
    forged = seal(Left(replica(2), 1, 7), lambda purpose, payload: mesh.sign(replica(4), purpose, payload)).raw
    tell_all(mesh, 4, forged)
    mesh.run(2.0)
    assert not mesh.events_of(MemberLeft)
    assert refused(mesh) == 4  # by all but the liar


def test_a_forged_address_change_moves_nobody() -> None:
    mesh = real(5)
    tell_all(mesh, 4, by(mesh, 4, Alive(replica(2), 9, 7, ("10.9.9.9", 1), "agent-2", b"", b"")))
    mesh.run(2.0)
    assert all(agent.swim.address_of(replica(2)) != ("10.9.9.9", 1) for agent in mesh.running)
    assert refused(mesh) >= 3


def test_a_forged_refutation_keeps_no_dead_member_alive() -> None:
    mesh = real(5)
    mesh.crash(2)
    mesh.run_until(lambda: mesh.all_see(2, State.DEAD), 10.0)
    tell_all(mesh, 4, by(mesh, 4, Alive(replica(2), 9, 7, ("10.0.0.2", 7946), "agent-2", b"", b"")))
    mesh.run(1.0)
    assert mesh.all_see(2, State.DEAD)


def test_suspicion_in_the_name_of_others_is_refused() -> None:
    mesh = real(6)
    for accuser in (1, 3):
        tell_all(mesh, 4, by(mesh, 4, Accusation(replica(2), 1, replica(accuser), 1, Reason.REFUSED)))
    mesh.run(2.0)
    assert not mesh.events_of(MemberSuspected)


def test_an_outsider_accuses_nobody() -> None:
    """It has a key but no credential; somebody relays what it says."""
    mesh = real(5)
    outsider = ReplicaId(b"outsider")
    key = SigningKey.generate()
    claim = Accusation(replica(2), 1, outsider, 1, Reason.SILENT)
    tell_all(mesh, 4, seal(claim, lambda purpose, payload: key.sign(purpose + payload).signature).raw)
    tell_all(mesh, 4, seal(Alive(outsider, 1, 1, ("10.0.0.9", 1), "x", b"", b""), lambda p, m: key.sign(p + m).signature).raw)
    mesh.run(2.0)
    assert not mesh.events_of(MemberSuspected)
    assert all(agent.swim.member(outsider) is None for agent in mesh.running)


def test_an_accusation_of_a_future_incarnation_counts_nothing_and_inflates_nothing() -> None:
    mesh = real(5)
    tell_all(mesh, 4, by(mesh, 4, Accusation(replica(2), 2**31, replica(4), 1, Reason.SILENT)))
    mesh.run(2.0)
    assert mesh.agents[2].swim.incarnation == 1
    assert not mesh.events_of(MemberSuspected)


# ---- liars with a credential


def test_one_liar_buries_nobody_and_is_muted_after_a_few_lies() -> None:
    mesh = real(8)
    for _ in range(60):
        subject = mesh.agents[2].swim
        tell_all(mesh, 7, by(mesh, 7, Accusation(replica(2), subject.incarnation, replica(7), 1, Reason.REFUSED)))
        mesh.run(0.5)
    assert not mesh.events_of(MemberDown)
    assert WRONG_BURST <= mesh.agents[2].swim.counters["refutations"] <= 2 * WRONG_BURST + 4
    assert sum(agent.swim.counters["accusations_over_quota"] for agent in mesh.running) > 100
    mesh.run(2.0)
    assert mesh.all_alive()


def test_forgeries_do_not_use_up_the_quota_of_the_honest() -> None:
    mesh = real(5)
    for _ in range(50):
        forged = Accusation(replica(2), mesh.agents[2].swim.incarnation, replica(1), 1, Reason.SILENT)
        tell_all(mesh, 4, seal(forged, lambda purpose, payload: mesh.sign(replica(4), purpose, payload)).raw)
    for agent in mesh.running:
        assert agent.swim._beliefs.quota.allows(replica(1), mesh.time)
    assert mesh.agents[2].swim.counters["refutations"] == 0


def test_two_liars_are_refuted_before_the_silence_is_over() -> None:
    mesh = real(8)
    for liar in (6, 7):
        tell_all(mesh, liar, by(mesh, liar, Accusation(replica(2), 1, replica(liar), 1, Reason.REFUSED)))
    mesh.run(3.0)
    assert not mesh.events_of(MemberDown)
    assert mesh.all_alive()
    refutation = mesh.agents[0].swim._roster.records[replica(2)].alive
    assert refutation is not None
    assert refutation.incarnation == 2
    assert refutation.over  # it names what it refutes


def test_a_lying_witness_hides_no_crash() -> None:
    """It says of everybody "yes, there": without the target's signature that is nothing."""
    mesh = real(6)
    liar = mesh.agents[5]
    request_untrusted = liar.swim._prober.request_untrusted

    def lie(peer: ReplicaId, payload: bytes, now: object) -> None:
        number = int.from_bytes(payload[2:6], "big") if payload[1] == 0x1A else 0
        liar.send(peer, 0, Frame.ACK, encode([number, bytes(64)]))  # type: ignore[arg-type]
        mesh.counts["lies"] += 1

    assert request_untrusted is not None
    liar.swim._handlers[Frame.PING_REQUEST] = lie
    mesh.crash(2)
    mesh.run_until(lambda: all(mesh.state(number, 2) is State.DEAD for number in (0, 1, 3, 4)), 5.0)
    assert mesh.counts["lies"]
    assert sum(agent.swim.counters["vouches_refused"] for agent in mesh.running)


def test_an_old_vouch_is_worth_nothing() -> None:
    """A signature for another number, or for another prober."""
    mesh = real(4)
    prober = mesh.agents[0].swim._prober
    mesh.network.blocked = {(0, 2), (2, 0)}
    mesh.run_until(lambda: bool(prober._nonces), 5.0, 0.001)
    (nonce,) = prober._nonces
    for whom, number in ((replica(1), nonce), (replica(0), nonce ^ 1)):
        signature = mesh.sign(replica(2), b"swim vouch", encode([whom, number]))
        prober.ack_untrusted(replica(3), encode([nonce, signature]), mesh.agents[0].now())
        assert nonce in prober._nonces
    genuine = mesh.sign(replica(2), b"swim vouch", encode([replica(0), nonce]))
    prober.ack_untrusted(replica(3), encode([nonce, genuine]), mesh.agents[0].now())
    assert nonce not in prober._nonces


# ---- floods


def test_repeated_claims_cost_no_signature() -> None:
    mesh = real(4)
    raw = mesh.agents[0].swim._roster.records[replica(2)].claim
    assert raw is not None
    before = mesh.counts["verified"]
    for _ in range(500):
        tell(mesh, 0, 3, raw.raw)
    assert mesh.counts["verified"] == before


def test_invented_members_fill_no_memory() -> None:
    """Rows name ids that do not exist; asking for them is bounded, and nothing of them remains."""
    mesh = real(3)
    swim = mesh.agents[0].swim
    for page in range(40):
        rows = b"".join((page * 60 + number).to_bytes(8, "big") + b"\0\0\0\1\0" + bytes(4) for number in range(60))
        payload = encode([0xFFFF, bytes(8), b"\xff" * 8, rows, True])
        mesh.do(0, lambda core, now, payload=payload: core.handle_untrusted(replica(2), Frame.MEMBER_ROWS, payload, now))  # type: ignore[misc]
    assert sum(len(pull.queue) for pull in swim._exchange._pulls.values()) <= WANTED_MAX
    mesh.run(60.0)
    assert len(swim._roster.records) == 2
    assert not swim._exchange._pulls or len(swim._exchange._asked) <= WANTED_AT_ONCE


def test_ping_requests_are_bounded() -> None:
    mesh = real(4)
    mesh.crash(3)
    for number in range(200):
        payload = encode([number, replica(3), 60_000])
        mesh.do(0, lambda swim, now, payload=payload: swim.handle_untrusted(replica(1), Frame.PING_REQUEST, payload, now))  # type: ignore[misc]
    assert mesh.agents[0].swim.counters["ping_requests_refused"] > 150


# ---- bytes


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(SWIM_FRAMES), payload=st.binary(max_size=120))
def test_random_bytes_are_malformed_and_change_nothing(kind: Frame, payload: bytes) -> None:
    swim = SHARED.agents[0].swim
    before = (swim.members(), swim.list_digest, swim.incarnation)
    with pytest.raises(Malformed):
        swim.handle_untrusted(replica(1), kind, payload, SHARED.agents[0].now())
    assert (swim.members(), swim.list_digest, swim.incarnation) == before


values = st.recursive(
    st.one_of(
        st.integers(-(2**63), 2**64 - 1),
        st.binary(max_size=70),
        st.text(max_size=8),
        st.booleans(),
        st.none(),
        st.floats(allow_nan=False),
    ),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(kind=st.sampled_from(SWIM_FRAMES), fields=st.lists(values, max_size=6))
def test_well_formed_nonsense_raises_malformed_and_nothing_else(kind: Frame, fields: list[object]) -> None:
    swim = SHARED.agents[0].swim
    before = (swim.members(), swim.list_digest, swim.incarnation)
    with suppress(Malformed):
        swim.handle_untrusted(replica(1), kind, encode(fields), SHARED.agents[0].now())
    assert (swim.members(), swim.list_digest, swim.incarnation) == before


SHARED = Mesh(3)
SHARED.settle()
