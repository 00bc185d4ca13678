"""Dangerous entries are endorsed before they are appended; a leader whose own wish a quorum refuses has to go."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from consensus_escalation.block import Block, Entry, Kind, cut
from consensus_escalation.effects import Accuse, Dissent, Impeached, Judged, Received, Refused, Submit
from consensus_escalation.impeachment import equivocation_proof
from consensus_escalation.messages import Append, CastVerdict
from consensus_escalation.quorum import Config, has_quorum
from consensus_escalation.types import Purpose, Role, Voter
from consensus_escalation.verdict import Proposal, Verdict, endorsed_by_untrusted, endorsers, is_endorsed_untrusted, may_cast
from mesh.wire.cbor import decode_untrusted, encode
from tests.consensus.cluster import Cluster, Machine, keys_of, voter

SINCE = 1_700_000_000_000_000


def ask(cluster: Cluster, leader: Machine, author: bytes = b"client", number: int = 1) -> None:
    leader.step(Submit(Entry(Kind.COMMAND, author, SINCE, number, b"danger: open the valve")))
    cluster.advance(0.1)


def reasons(machine: Machine) -> list[str]:
    return [notice.reason for notice in machine.take(Refused) if isinstance(notice, Refused)]


def settled(size: int = 3) -> tuple[Cluster, Machine]:
    cluster = Cluster(size)
    return cluster, cluster.elect()


def test_what_a_quorum_endorses_is_committed_with_the_endorsements_inside() -> None:
    cluster, leader = settled()
    refuser = next(m for m in cluster.machines.values() if m is not leader)
    cluster.judge = lambda machine, _proposal: "valves" if machine is refuser else ""
    ask(cluster, leader)
    assert all(cluster.texts(machine) == ["danger: open the valve"] for machine in cluster.machines.values())
    assert leader.raft is not None
    block = leader.raft.log.between(2, 2)[0]
    entry, config = block.entries[0], cluster.genesis.config
    assert is_endorsed_untrusted(entry, block.header, config, cluster.keys)
    for changed in (
        block.header._replace(term=9),
        block.header._replace(policy_index=9),
        block.header._replace(config_index=9),
        block.header._replace(leader=voter(9)),
    ):
        assert not is_endorsed_untrusted(entry, changed, config, cluster.keys)
    assert not is_endorsed_untrusted(entry._replace(body=b"danger: close it"), block.header, config, cluster.keys)
    attempt, base, rows = decode_untrusted(entry.evidence)
    padded = entry._replace(evidence=encode([attempt, base, [*rows, [refuser.me, bytes(64)]]]))
    assert endorsed_by_untrusted(padded, block.header, cluster.keys) == {Voter(row[0]) for row in rows}, "a name proves nothing"
    assert refuser.me not in endorsed_by_untrusted(padded, block.header, cluster.keys)
    assert not is_endorsed_untrusted(entry._replace(evidence=b"\x80"), block.header, config, cluster.keys)


def test_what_a_quorum_refuses_is_definitely_not_committed_and_deposes_nobody() -> None:
    """The author is a client: it cannot depose a leader by asking for something dangerous."""
    cluster, leader = settled()
    cluster.judge = lambda _machine, _proposal: "valves"
    ask(cluster, leader)
    assert reasons(leader) == ["valves"]
    assert cluster.elect(1.0) is leader
    assert not any(machine.take(Impeached) for machine in cluster.machines.values())


def test_without_a_quorum_of_verdicts_it_is_given_up_and_stays_so() -> None:
    cluster, leader = settled()
    cluster.lost = lambda _sender, _to, message: type(message).__name__ == "Propose"
    ask(cluster, leader)
    cluster.advance(3.0)
    assert reasons(leader) == ["no quorum of verdicts"]
    cluster.heal()

    cluster.advance(1.0)
    assert cluster.texts(leader) == []


def test_a_split_is_definite() -> None:
    cluster, leader = settled(5)
    cluster.judge = lambda machine, _proposal: "valves" if machine.me in cluster.names[:3] else ""
    ask(cluster, leader)
    assert reasons(leader) == ["valves"]


def test_a_verdict_is_on_the_disk_and_never_changes() -> None:
    """The one voter that the leader still hears refuses, its word is lost, it restarts, and would endorse now."""
    cluster, leader = settled()
    judge, silent = (m for m in cluster.machines.values() if m is not leader)
    cluster.judge = lambda machine, _proposal: "valves" if machine is judge else ""
    cluster.lost = lambda sender, to, message: silent.me in (sender, to) or isinstance(message, CastVerdict)
    ask(cluster, leader)
    (kept,) = judge.disk.verdicts
    assert kept.is_refusal
    judge.crash()
    judge.start()
    cluster.judge = lambda _machine, _proposal: ""
    cluster.lost = lambda sender, to, _message: silent.me in (sender, to)
    cluster.advance(1.0)
    judge.step(Judged(kept.proposal, ""))
    cluster.advance(2.0)
    assert judge.disk.verdicts == [kept]
    assert cluster.texts(leader) == []
    assert reasons(leader) == ["no quorum of verdicts"], "the leader did ask again"


def test_a_leader_whose_own_wish_is_refused_is_replaced_at_once_and_demoted() -> None:
    cluster, leader = settled(5)
    cluster.give_scores(leader, {1: 9, 2: 8, 3: 7, 4: 6, 5: 5})
    guilty = leader.me
    cluster.judge = lambda machine, _proposal: "" if machine.me == guilty else "valves"
    leader.step(Submit(Entry(Kind.COMMAND, guilty, SINCE, 1, b"danger: mine")))
    cluster.advance(0.1)
    following = cluster.elect(0.0)
    assert following.raft is not None
    assert following.me == next(name for name in cluster.names if name != guilty), "the best of the others, within a slot"
    cluster.advance(0.5)
    assert all(m.raft is not None and guilty in m.raft.ledger.demoted for m in cluster.machines.values())
    assert cluster.texts(following) == []

    following.crash()
    again = cluster.elect(1.0)
    assert again.me != guilty, "the demoted comes last"

    again.step(Submit(Entry(Kind.RESTORE, guilty, SINCE, 2, guilty)))
    cluster.advance(0.1)
    assert again.raft is not None
    assert guilty in again.raft.ledger.demoted, "nobody restores itself"
    again.step(Submit(Entry(Kind.RESTORE, b"operator", SINCE, 3, guilty)))
    cluster.advance(0.1)
    assert guilty not in again.raft.ledger.demoted


def forked(cluster: Cluster, leader: Machine) -> tuple[Block, Block]:
    assert leader.raft is not None
    block = leader.raft.log.between(1, leader.raft.log.last_index)[-1]
    return block, cut(block.header, block.time + 1, (Entry(Kind.NOOP),), keys_of(leader.me))


def test_two_blocks_in_one_place_depose_whoever_signed_them() -> None:
    cluster, leader = settled()
    real, forged = forked(cluster, leader)
    other = next(m for m in cluster.machines.values() if m is not leader)
    before = real.header
    lie = Append(before.term, before.index - 1, 0, before.prev, (forged,), 0, 0)
    other.step(Received(leader.me, lie))
    assert other.raft is not None
    assert other.raft.log.hash_at(real.index) == real.hash
    assert other.take(Impeached)
    cluster.advance(0.5)
    assert cluster.elect(0.0) is not leader


@pytest.mark.parametrize("what", ["not the leader's", "one block twice", "garbage"])
def test_what_proves_nothing_deposes_nobody(what: str) -> None:
    cluster, leader = settled()
    real, forged = forked(cluster, leader)
    proof = {
        "not the leader's": equivocation_proof(real, replace(forged, signature=bytes(64)), cluster.keys),
        "one block twice": equivocation_proof(real, real, cluster.keys),
        "garbage": b"\x82\x01",
    }[what]
    for machine in cluster.machines.values():
        machine.step(Accuse(proof))
    assert cluster.elect(1.0) is leader
    assert leader.raft is not None
    assert leader.raft.role is Role.LEADER


def recast(_proposal_term: int, _my_term: int, _before: Verdict | None) -> bool:
    return True


@pytest.mark.parametrize(("rule", "is_safe"), [(may_cast, True), (recast, False)])
def test_no_proposal_is_both_endorsed_and_refused(rule: object, is_safe: bool) -> None:
    """All behaviours: three voters whose judges may say anything, twice, in any order; signed verdicts never go away."""
    names = [voter(1), voter(2), voter(3)]
    config, seen = Config(tuple(names)), set()
    layer = [frozenset[tuple[Voter, str]]()]
    unsafe = 0
    while layer:
        following = []
        for signed in layer:
            for who, word in product(names, ["", "valves"]):
                before = next((Verdict(b"p", 1, name, said) for name, said in sorted(signed) if name == who), None)
                if rule(1, 1, before):  # type: ignore[operator]
                    after = signed | {(who, word)}
                    if after not in seen:
                        seen.add(after)
                        following.append(after)
                        yes = endorsers({name: Verdict(b"p", 1, name, said) for name, said in after if not said})
                        no = {name for name, said in after if said}
                        unsafe += has_quorum(config, yes) and has_quorum(config, no)
        layer = following
    assert (unsafe == 0) is is_safe
    assert len(seen) == (26 if is_safe else 63)


@pytest.mark.parametrize("is_signed", [True, False])
def test_a_refusal_of_what_nobody_proposed_is_no_dissent(is_signed: bool) -> None:
    """A voter made the proposal up, in its leader's name, and signed its refusal: every operator was told."""
    cluster, leader = settled()
    liar, other = (machine for machine in cluster.machines.values() if machine is not leader)
    assert leader.raft is not None
    entry = Entry(Kind.COMMAND, b"client", SINCE, 1, b"danger: open the valve")
    made_up = Proposal(1, leader.raft.term, 7, leader.me, entry, leader.raft.commit, 0, 0)
    signed = made_up.signed_bytes(cluster.keys)
    signer = keys_of(leader.me if is_signed else liar.me)
    proposal = made_up._replace(signature=signer.sign(Purpose.PROPOSAL, signed))
    verdict = Verdict(cluster.keys.hash(signed), leader.raft.term, liar.me, "valves")
    verdict = verdict._replace(signature=keys_of(liar.me).sign(Purpose.VERDICT, verdict.signed_bytes(cluster.keys)))
    other.step(Received(liar.me, CastVerdict(leader.raft.term, verdict, proposal)))
    assert len(other.take(Dissent)) == is_signed
