"""The Raft paper (Ongaro, Ousterhout, extended version) and the dissertation, section by section, as tests of one voter.

Whole clusters are in the scenarios and the storm; here each rule stands with the sentence that it comes from.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from consensus_escalation.block import Block, Entry, Header, Kind, cut
from consensus_escalation.core import Genesis, Restored
from consensus_escalation.effects import (
    BlocksStored,
    Committed,
    Effect,
    Persist,
    Persisted,
    Received,
    Send,
    SendAtOnce,
    TermAndVote,
    Tick,
    Written,
)
from consensus_escalation.messages import Accepted, Append, AskPreVote, AskVote, Message, PreVote, Rejected, Vote
from consensus_escalation.quorum import Config
from consensus_escalation.raft import Raft
from consensus_escalation.types import Position, Role
from tests.consensus.cluster import Now, digest, keys_of, voter

ME, B, C = voter(1), voter(2), voter(3)
GENESIS = Genesis(1, Config((ME, B, C)), digest(b"genesis"))


def chain(*terms: int) -> tuple[Block, ...]:
    """A log with these terms; voter 2 led all of them."""
    blocks: list[Block] = []
    for index, term in enumerate(terms, 1):
        prev = blocks[-1].hash if blocks else GENESIS.hash
        header = Header(1, index, term, prev, bytes(16), 0, 0, 0, bytes(16), B)
        blocks.append(cut(header, 0, (Entry(Kind.NOOP),), keys_of(B)))
    return tuple(blocks)


class One:
    """One voter, whose disk is as fast as the test wants."""

    def __init__(self, *terms: int, term: int = 0, vote: bytes | None = None) -> None:
        restored = Restored(GENESIS, term, vote, chain(*terms))  # type: ignore[arg-type]
        self.time = 10.0
        self.raft = Raft(ME, keys_of(ME), random.Random(1), restored, Now(self.time, 0))

    def gets(self, sender: bytes, message: Message) -> list[Effect]:
        return self.raft.step(Received(sender, message), Now(self.time, 0))  # type: ignore[arg-type]

    def waits(self, seconds: float) -> list[Effect]:
        self.time += seconds
        return self.raft.step(Tick(), Now(self.time, 0))

    def append(self, term: int, blocks: Sequence[Block], after: int = 0, commit: int = 0) -> list[Effect]:
        before = blocks[after - 1] if after else None
        digest_before, term_before = (before.hash, before.term) if before else (GENESIS.hash, 0)
        found = self.gets(B, Append(term, after, term_before, digest_before, tuple(blocks[after:]), commit, 0))
        return found + self.raft.step(Written(), Now(self.time, 0))

    def elected(self) -> list[Effect]:
        self.waits(1.0)
        asked = self.gets(B, PreVote(self.raft.term + 1, True))
        number = next(effect.number for effect in asked if isinstance(effect, Persist))
        self.raft.step(Persisted(number), Now(self.time, 0))
        return self.gets(B, Vote(self.raft.term, True))

    def terms(self) -> list[int]:
        return [block.term for block in self.raft.log.between(1, self.raft.log.last_index)]


def sent(effects: list[Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Send | SendAtOnce)]


def test_5_1_a_higher_term_makes_a_follower_of_anybody() -> None:
    one = One(term=1)
    one.elected()
    assert one.raft.role is Role.LEADER
    one.gets(C, Rejected(9, 0, 0, 0))
    assert (one.raft.role, one.raft.term) == (Role.FOLLOWER, 9)


def test_5_1_a_stale_term_is_rejected() -> None:
    one = One(term=5)
    assert sent(one.append(4, chain(4))) == [Rejected(5, 0, 0, 0)]
    assert one.terms() == []


def test_5_2_one_vote_in_a_term_first_come_first_served() -> None:
    one = One(term=1)
    assert sent(one.gets(B, AskVote(2, Position(0, 0)))) == [Vote(2, True)]
    assert sent(one.gets(C, AskVote(2, Position(0, 0)))) == [Vote(2, False)]
    assert sent(one.gets(B, AskVote(2, Position(0, 0)))) == [Vote(2, True)], "asked again, it says the same"


def test_5_2_a_vote_outlives_a_restart() -> None:
    assert sent(One(term=2, vote=B).gets(C, AskVote(2, Position(0, 0)))) == [Vote(2, False)]


def test_5_2_the_vote_waits_for_the_disk() -> None:
    effects = One(term=1).gets(B, AskVote(2, Position(0, 0)))
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(Send)
    assert any(isinstance(effect, Persist) and TermAndVote(2, B) in effect.records for effect in effects)


def test_5_2_a_candidate_that_hears_the_leader_of_its_term_follows_it() -> None:
    one = One(term=1)
    one.waits(1.0)
    one.gets(B, PreVote(2, True))
    assert one.raft.role is Role.CANDIDATE
    one.append(2, chain(2))
    assert (one.raft.role, one.raft.leader) == (Role.FOLLOWER, B)


def test_5_2_its_own_vote_counts_once_it_is_durable() -> None:
    one = One(term=1)
    one.waits(1.0)
    one.gets(B, PreVote(2, True))
    one.gets(B, Vote(2, True))
    assert one.raft.role is Role.CANDIDATE, "one of three: its own is not on the disk yet"


@pytest.mark.parametrize(
    ("mine", "leaders"),
    [
        ((1, 1), (1, 1, 2)),
        ((1, 1, 2, 2), (1, 1, 3)),
        ((1, 2, 2, 2, 2), (1, 4)),
        ((), (1, 2, 3)),
        ((5, 5, 5), (6,)),
    ],
)
def test_5_3_figure_7_every_log_becomes_the_leaders(mine: tuple[int, ...], leaders: tuple[int, ...]) -> None:
    one, log, after = One(*mine, term=6), chain(*leaders), len(leaders) - 1
    for _ in range(10):
        answer = sent(one.append(7, log, after))[-1]
        if isinstance(answer, Accepted):
            break
        assert isinstance(answer, Rejected)
        assert answer.hint < after, "each rejection brings them closer"
        after = answer.hint
    assert one.terms() == list(leaders)


def test_5_3_an_append_that_comes_late_cuts_nothing_off() -> None:
    one, log = One(term=1), chain(1, 1, 1)
    one.append(1, log)
    effects = one.append(1, log[:1])
    assert one.terms() == [1, 1, 1]
    assert not any(isinstance(effect, Persist) for effect in effects)


def test_5_3_blocks_are_durable_before_they_are_acknowledged() -> None:
    effects = One(term=1).append(1, chain(1))
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Persist) < kinds.index(Send)
    assert any(isinstance(effect, Persist) and isinstance(effect.records[0], BlocksStored) for effect in effects)


def test_5_3_a_follower_commits_what_the_leader_committed_and_it_has() -> None:
    one = One(term=1)
    effects = one.append(1, chain(1, 1), commit=9)
    assert [effect.block.index for effect in effects if isinstance(effect, Committed)] == [1, 2]


@pytest.mark.parametrize(
    ("last", "granted"),
    [(Position(1, 9), False), (Position(2, 1), False), (Position(2, 2), True), (Position(2, 3), True), (Position(3, 1), True)],
)
def test_5_4_1_the_log_must_be_as_good(last: Position, granted: bool) -> None:
    assert sent(One(1, 2, term=2).gets(B, AskVote(5, last)))[-1] == Vote(5, granted)
    assert sent(One(1, 2, term=2).gets(B, AskPreVote(5, last)))[-1] == PreVote(5 if granted else 2, granted)


def test_5_4_2_old_blocks_commit_with_one_of_the_own_term_only() -> None:
    one = One(1, 2, term=2)
    one.elected()
    assert one.terms() == [1, 2, 3], "a leader begins with a no-op (8)"
    one.gets(C, Accepted(3, 2, 0, b""))
    assert one.raft.commit == 0, "two of three have block 2, and that is not enough"
    one.gets(C, Accepted(3, 3, 0, b""))
    one.gets(B, Accepted(3, 3, 0, b""))
    assert one.raft.commit == 3


def test_5_5_repeated_messages_change_nothing() -> None:
    one, log = One(term=1), chain(1, 1)
    first = sent(one.append(1, log))
    assert sent(one.append(1, log)) == first
    assert one.terms() == [1, 1]


def test_9_6_a_prevote_changes_nobody() -> None:
    one = One(term=3)
    assert sent(one.gets(B, AskPreVote(9, Position(0, 0)))) == [PreVote(9, True)]
    assert (one.raft.term, one.raft.role) == (3, Role.FOLLOWER)


def test_4_2_3_nobody_helps_against_a_leader_that_it_hears() -> None:
    one = One(term=1)
    one.append(1, chain(1))
    assert sent(one.gets(C, AskPreVote(2, Position(1, 1)))) == [PreVote(1, False)]
    assert sent(one.gets(C, AskVote(2, Position(1, 1)))) == []
    assert one.raft.term == 1
    one.time += 0.2
    assert sent(one.gets(C, AskPreVote(2, Position(1, 1)))) == [PreVote(2, True)]


def test_6_2_a_leader_without_a_quorum_says_nothing_more() -> None:
    one = One(term=1)
    one.elected()
    assert sent(one.waits(0.1)), "heartbeats"
    assert sent(one.waits(0.1)) == []
    assert one.raft.role is Role.FOLLOWER


def test_10_2_1_the_network_works_while_the_leaders_disk_does() -> None:
    effects = One(term=1).elected()
    assert any(isinstance(effect, SendAtOnce) and isinstance(effect.message, Append) for effect in effects)
