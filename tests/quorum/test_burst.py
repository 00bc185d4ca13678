"""Blocks that arrive together are acknowledged once."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from consensus_escalation.block import Block, Entry, Header, Kind, cut
from consensus_escalation.core import Genesis, Restored
from consensus_escalation.effects import Effect, Input, Persist, Persisted, Received, Send, Tick, Written
from consensus_escalation.messages import Accepted, Append, AskRead, AskVote, Rejected
from consensus_escalation.quorum import Config
from consensus_escalation.raft import Raft
from consensus_escalation.types import Position
from mesh.quorum.burst import Burst
from tests.consensus.cluster import Now, digest, keys_of, voter

GENESIS = Genesis(1, Config((voter(1), voter(2))), digest(b"genesis"), 1 << 50)
NOW = Now(1.0, 1 << 50)


def chain_of(count: int) -> Iterator[Append]:
    """What voter 1 sends in term 1, block by block."""
    before, keys = GENESIS.hash, keys_of(voter(1))
    for index in range(1, count + 1):
        header = Header(1, index, 1, before, bytes(16), 0, 0, 0, bytes(16), voter(1))
        block: Block = cut(header, 1 << 50, (Entry(Kind.NOOP),), keys)
        yield Append(1, index - 1, 1 if index > 1 else 0, before, (block,), 0, 0)
        before = block.hash


class Follower:
    def __init__(self) -> None:
        self.raft = Raft(voter(2), keys_of(voter(2)), random.Random(1), Restored(GENESIS), NOW)
        self.effects: list[Effect] = []
        self.steps = 0
        self.burst = Burst(self._step)

    def _step(self, given: Received | Written) -> None:
        self.steps += 1
        self.effects += self.raft.step(given, NOW)

    def hear(self, message: Append | AskRead) -> None:
        self.burst.take(Received(voter(1), message))

    def answers(self) -> list[Accepted | Rejected]:
        self.effects += [
            each for e in list(self.effects) if isinstance(e, Persist) for each in self.raft.step(Persisted(e.number), NOW)
        ]
        return [e.message for e in self.effects if isinstance(e, Send) and isinstance(e.message, Accepted | Rejected)]


def test_a_burst_is_stored_block_by_block_and_answered_once() -> None:
    follower = Follower()
    for message in chain_of(5):
        follower.hear(message)
    assert follower.steps == 4, "the newest waits for the end of the turn"
    follower.burst.end()
    (answer,) = follower.answers()
    assert isinstance(answer, Accepted)
    assert answer.match == follower.raft.log.last_index == 5
    assert answer.ack
    follower.burst.end()
    assert len(follower.answers()) == 1


def test_what_comes_late_takes_nothing_back() -> None:
    """Datagrams change places: the answer to the last one says all that is stored."""
    follower = Follower()
    first, second, third = chain_of(3)
    for message in (first, second, third, first, Append(1, 1, 1, second.prev_hash, (), 0, 0)):
        follower.hear(message)
    answers = follower.answers()
    assert [answer.match for answer in answers if isinstance(answer, Accepted)] == [3]


def test_a_gap_in_a_burst_is_told_at_once() -> None:
    follower = Follower()
    first, _, third, fourth = chain_of(4)
    for message in (first, third, fourth):
        follower.hear(message)
    assert [type(answer) for answer in follower.answers()] == [Rejected]
    follower.burst.end()
    assert [type(answer) for answer in follower.answers()] == [Rejected, Rejected]
    follower.hear(AskRead(1, 7))
    assert follower.steps == 4, "what is no block waits for nothing"


def kinds(effects: list[Effect]) -> list[type]:
    return [type(effect.message) if isinstance(effect, Send) else type(effect) for effect in effects]


@pytest.mark.parametrize("given", [Written(), Tick(), Persisted(1)])
def test_an_acknowledgement_is_signed_when_the_disk_has_the_blocks_or_before_anything_else(given: Input) -> None:
    """To sign it takes as long as a good disk's answer takes."""
    raft = Follower().raft
    assert kinds(raft.step(Received(voter(1), next(chain_of(1))), NOW))[-1] is Persist
    assert kinds(raft.step(given, NOW)) == [Accepted]
    assert kinds(raft.step(Written(), NOW)) == []


def test_a_vote_in_a_later_term_comes_after_the_acknowledgement() -> None:
    """Signed after it, that could certify a block which the next leader has replaced."""
    raft = Follower().raft
    raft.step(Received(voter(1), next(chain_of(1))), NOW)
    effects = raft.step(Received(voter(1), AskVote(2, Position(1, 1))), Now(9.0, 1 << 50))
    assert kinds(effects)[0] is Accepted
    answer = next(effect.message for effect in effects if isinstance(effect, Send))
    assert isinstance(answer, Accepted)
    assert (answer.term, bool(answer.ack)) == (1, True)
    assert raft.term == 2
