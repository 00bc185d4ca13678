"""A leader that leaves out what a block must have, and a demotion that nothing proves: neither is stored by anybody."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from consensus_escalation.authorship import BY_BLOCK, is_signed_untrusted, is_vouched_for, own_batch, sign_batch
from consensus_escalation.block import Block, Entry, Header, Kind, cut
from consensus_escalation.core import Genesis, Restored
from consensus_escalation.effects import Impeached, Persist, Persisted, Received, Refused, SecondLog, Submit, Tick
from consensus_escalation.impeachment import ENTRY_PROOF_BYTES_MAX
from consensus_escalation.messages import Append, AskVote, Rejected, Vote
from consensus_escalation.quorum import Config
from consensus_escalation.raft import TERM_JUMP_MAX, Raft
from consensus_escalation.types import Position, Role, Voter
from tests.consensus.cluster import Cluster, Machine, Now, digest, keys_of, voter


def settled() -> tuple[Cluster, Machine, Machine]:
    """(cluster, its leader, one of the others)."""
    cluster = Cluster(3)
    leader = cluster.elect()
    return cluster, leader, next(machine for machine in cluster.machines.values() if machine is not leader)


def next_block(leader: Machine, *entries: Entry) -> Block:
    """What this leader could cut now, if it did not look at the entries."""
    raft = leader.raft
    assert raft is not None
    last = raft.log.last
    header = Header(
        1, last.index + 1, raft.term, raft.log.last_hash, bytes(16), raft.log.config_index, 0, 0, bytes(16), leader.me
    )
    return cut(header, leader.cluster.now(leader).wall, entries, keys_of(leader.me))


def send(leader: Machine, other: Machine, block: Block) -> None:
    raft = leader.raft
    assert raft is not None
    before = raft.log.last
    other.step(Received(leader.me, Append(raft.term, before.index, before.term, raft.log.last_hash, (block,), before.index, 0)))


@pytest.mark.parametrize("signed_by", [0, 1, 2])
def test_a_leader_makes_nobody_believe_that_it_lost_its_disk(signed_by: int) -> None:
    """Who has a second log falls silent. So only its own signature counts, and on a first block."""
    cluster, leader, other = settled()
    cluster.submit(leader, "agreed")
    cluster.advance(0.1)
    assert leader.raft is not None
    assert other.raft is not None
    who = (leader.me, other.me, voter(9))[signed_by]
    header = Header(1, 1, 1, cluster.genesis.hash, bytes(16), 0, 0, 0, bytes(16), other.me)
    first = cut(header, cluster.now(leader).wall, (Entry(Kind.NOOP),), keys_of(who))
    term = leader.raft.term + 1
    other.step(Received(leader.me, Append(term, 0, 0, cluster.genesis.hash, (first,), 1, 0)))
    assert bool(other.take(SecondLog)) == (who == other.me)
    other.step(Received(leader.me, Append(term, 1, 1, bytes(16), (), 1, 0)))
    assert not other.take(SecondLog), "another hash is the leader's word alone"


@pytest.mark.parametrize("size", [20, 500])
def test_a_dangerous_entry_without_endorsements_deposes_its_leader(size: int) -> None:
    """With 500 bytes the proof is too large for the log: it deposes all the same, and no DEMOTE says so."""
    cluster, leader, other = settled()
    entry = Entry(Kind.COMMAND, b"client", 1 << 50, 1, b"danger" + bytes(size))
    end = other.raft.log.last_index if other.raft is not None else 0
    send(leader, other, next_block(leader, entry))
    assert other.raft is not None
    assert other.raft.log.last_index == end
    (found,) = other.take(Impeached)
    assert isinstance(found, Impeached)
    assert found.guilt.leader == leader.me
    assert found.guilt.fits_log == (len(found.guilt.proof) <= ENTRY_PROOF_BYTES_MAX) == (size < 100)
    cluster.advance(0.5)
    heir = cluster.elect(0.5)
    assert heir is not leader
    assert heir.raft is not None
    assert (leader.me in heir.raft.ledger.demoted) == found.guilt.fits_log


@pytest.mark.parametrize("is_signed", [True, False])
def test_only_what_a_leader_signed_is_in_a_log_that_nobody_votes_for(is_signed: bool) -> None:
    """Regression: a voter made up blocks of a former leader, which no signature held together and no proof could be made of. Each
    kept whoever read it from voting for a log as long as that, for seconds."""
    cluster, leader, other = settled()
    third = next(machine for machine in cluster.machines.values() if machine not in (leader, other))
    block = next_block(leader, Entry(Kind.COMMAND, b"client", 1 << 50, 1, b"danger"))
    block = block if is_signed else replace(block, signature=bytes(64))
    assert leader.raft is not None
    assert other.raft is not None
    term, last = leader.raft.term, leader.raft.log.last
    lie = Append(term + 1, last.index, last.term, leader.raft.log.last_hash, (block,), last.index, 0)
    other.step(Received(third.me, lie))
    assert other.raft.log.last == last
    assert other.raft._core.refuses(Position(term, last.index + 1)) == is_signed


@pytest.mark.parametrize("evidence", [b"", b"\x80", b"garbage"])
def test_a_demotion_that_nothing_proves_is_stored_by_nobody(evidence: bytes) -> None:
    cluster, leader, other = settled()
    third = next(machine for machine in cluster.machines.values() if machine not in (leader, other))
    end = other.raft.log.last_index if other.raft is not None else 0
    send(leader, other, next_block(leader, Entry(Kind.DEMOTE, body=third.me, evidence=evidence)))
    assert other.raft is not None
    assert other.raft.log.last_index == end
    assert not other.raft.ledger.demoted


@pytest.mark.parametrize("more", [(), (Entry(Kind.NOOP),)])
@pytest.mark.parametrize("body", [b"", b"\xff", b"\x80"])
def test_a_configuration_that_nobody_can_read_is_stored_by_nobody(body: bytes, more: tuple[Entry, ...]) -> None:
    """It went up as an error through all of the voter, whose turn ended there."""
    _, leader, other = settled()
    end = other.raft.log.last_index if other.raft is not None else 0
    send(leader, other, next_block(leader, Entry(Kind.CONFIG, body=body), *more))
    assert other.raft is not None
    assert other.raft.log.last_index == end


def test_a_proof_against_one_demotes_no_other() -> None:
    cluster, leader, other = settled()
    send(leader, other, next_block(leader, Entry(Kind.COMMAND, b"client", 1 << 50, 1, b"danger")))
    (found,) = other.take(Impeached)
    assert isinstance(found, Impeached)
    cluster.advance(0.5)
    heir = cluster.elect(0.5)
    third = next(machine for machine in cluster.machines.values() if machine not in (leader, heir))
    assert heir.raft is not None
    assert third.raft is not None
    end = third.raft.log.last_index
    send(heir, third, next_block(heir, Entry(Kind.DEMOTE, body=third.me, evidence=found.guilt.proof)))
    assert third.raft.log.last_index == end


# ---- entries that their author did not sign


def alone() -> Raft:
    """A quorum of one that looks at signatures, and leads."""
    keys = keys_of(voter(1))
    restored = Restored(Genesis(1, Config((voter(1),)), digest(b"genesis")))
    now = Now(0.0, 1 << 60)
    raft = Raft(voter(1), keys, random.Random(1), restored, now, is_signed=lambda batch: is_signed_untrusted(batch, keys))
    waiting = raft.step(Tick(), now)
    while waiting:
        effect = waiting.pop(0)
        if isinstance(effect, Persist):
            waiting += raft.step(Persisted(effect.number), now)
    assert raft.role is Role.LEADER
    return raft


def batch(author: Voter, *bodies: bytes) -> tuple[Entry, ...]:
    entries = [Entry(Kind.COMMAND, author, (1 << 60) - 5, number, body) for number, body in enumerate(bodies)]
    return sign_batch(entries, keys_of(author))


def reasons(raft: Raft, entries: tuple[Entry, ...]) -> set[str]:
    effects = raft.step(Submit(entries[0], entries[1:]), Now(0.0, 1 << 60))
    return {effect.reason for effect in effects if isinstance(effect, Refused)}


def test_a_batch_is_taken_as_its_author_signed_it_and_no_other_way() -> None:
    good = batch(voter(2), b"a", b"b", b"c")
    assert reasons(alone(), good) == set()
    assert reasons(alone(), (good[0]._replace(signature=bytes(64)), *good[1:])) == {"not signed by its author"}
    assert reasons(alone(), good[:2]) == {"not signed by its author"}
    assert reasons(alone(), (good[0], good[2])) == {"malformed"}
    assert reasons(alone(), (good[0], good[1]._replace(author=voter(3)))) == {"malformed"}
    assert reasons(alone(), (good[0]._replace(author=voter(3)), *good[1:])) == {"malformed"}
    assert reasons(alone(), (good[0], good[1]._replace(kind=Kind.CONFIG))) == {"malformed"}


def test_a_leader_stands_for_its_own_batches_by_its_blocks_and_for_nobody_elses() -> None:
    keys = keys_of(voter(1))

    def is_taken(entries: tuple[Entry, ...]) -> bool:
        return is_vouched_for(entries, voter(2), lambda each: is_signed_untrusted(each, keys))

    own, others = batch(voter(2), b"a", b"b", b"c"), batch(voter(3), b"a", b"b", b"c")
    assert is_taken(own)
    assert is_taken((own[0]._replace(signature=bytes(64)), *own[1:])), "its signature on the block covers this"
    assert not is_taken((own[0], own[2])), "but one batch it has to be"
    assert is_taken(others)
    assert not is_taken((others[0]._replace(signature=bytes(64)), *others[1:]))


def test_what_a_leader_signs_with_its_block_is_signed_nowhere_else() -> None:
    """Else anybody could bring an entry in the leader's name, and the leader would sign it."""
    keys, own = keys_of(voter(1)), own_batch([entry._replace(signature=b"") for entry in batch(voter(1), b"a", b"b")])
    assert own[0].signature == BY_BLOCK
    assert not is_signed_untrusted(own, keys)
    assert not is_vouched_for(own, voter(2), lambda each: is_signed_untrusted(each, keys)), "another leader's block"
    assert reasons(alone(), own) == {"not signed by its author"}, "as it comes from outside"
    raft = alone()
    effects = raft.step(Submit(own[0], own[1:], is_own=True), Now(0.0, 1 << 60))
    assert not any(isinstance(effect, Refused) for effect in effects)
    block = raft.log.get(raft.log.last_index)
    assert block is not None
    assert block.entries == own


# ---- terms that nobody has reached


def test_one_message_raises_the_term_by_as_much_as_elections_could() -> None:
    """A voter that said that the term is 2^64 - 1 was believed, durably: nobody could ever be elected again."""
    cluster, leader, other = settled()
    third = next(machine for machine in cluster.machines.values() if machine not in (leader, other))
    last = (1 << 64) - 1
    for message in (
        AskVote(last, Position(last, last)),
        Vote(last, True),
        Rejected(last, 0, 0, 0),
        Append(last, 0, 0, cluster.genesis.hash, (), 0, 0),
    ):
        for machine in (leader, other):
            machine.step(Received(third.me, message))
            assert machine.raft is not None
            assert machine.raft.term == 1
    other.step(Received(third.me, Rejected(1 + TERM_JUMP_MAX, 0, 0, 0)))
    assert other.raft is not None
    assert other.raft.term == 1 + TERM_JUMP_MAX
    cluster.advance(2.0)
    assert cluster.leader() is not None
