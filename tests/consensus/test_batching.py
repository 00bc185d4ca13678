"""What a leader waits for before it cuts a block: nothing, or its disk and two rounds while there is room for more."""

from __future__ import annotations

import random
from math import inf

from consensus_escalation.block import Entry, Kind, run_size
from consensus_escalation.core import Genesis, Restored
from consensus_escalation.effects import Effect, Persist, Persisted, Refused, Resign, Submit, Tick
from consensus_escalation.quorum import Config
from consensus_escalation.raft import BODY_BYTES_MAX, FULL, Raft
from consensus_escalation.rounds import COMPANY_SECONDS, PART, ROUNDS_MAX, Rounds
from consensus_escalation.types import BLOCK_BYTES_MAX, Role
from tests.consensus.cluster import Cluster, Now, digest, keys_of, voter

NOW = Now(0.0, 1 << 60)


class Leader:
    """A quorum of one, whose disk is done when it is told so."""

    def __init__(self) -> None:
        self.raft = Raft(
            voter(1), keys_of(voter(1)), random.Random(1), Restored(Genesis(1, Config((voter(1),)), digest(b"g"))), NOW
        )
        self.writing: list[int] = []
        self._number = 0
        self.took(self.raft.step(Tick(), NOW))
        while self.writing:
            self.durable()
        assert self.raft.role is Role.LEADER

    def took(self, effects: list[Effect]) -> list[Effect]:
        self.writing += [effect.number for effect in effects if isinstance(effect, Persist)]
        return effects

    def durable(self) -> None:
        self.took(self.raft.step(Persisted(self.writing.pop(0)), NOW))

    def submit(self, size: int) -> int:
        """How many blocks were cut for an entry of so many bytes."""
        before, self._number = self.raft.log.last_index, self._number + 1
        self.took(self.raft.step(Submit(Entry(Kind.COMMAND, b"client", (1 << 60) - 5, self._number, bytes(size))), NOW))
        return self.raft.log.last_index - before

    def entries(self) -> list[int]:
        return [len(block.entries) for block in self.raft.log.between(2, self.raft.log.last_index)]


def test_what_comes_while_the_disk_is_busy_shares_a_block() -> None:
    leader = Leader()
    assert leader.submit(20) == 1, "nothing to wait for"
    assert [leader.submit(20) for _ in range(3)] == [0, 0, 0]
    leader.durable()
    assert leader.entries() == [1, 3]


def test_a_block_that_is_nearly_full_does_not_wait_for_the_disk() -> None:
    """Followers had nothing to do while the leader's disk worked, and it had nothing to write while they did."""
    leader = Leader()
    assert leader.submit(20) == 1
    assert leader.submit(FULL) == 1
    assert [leader.submit(100) for _ in range(5)] == [0, 0, 1, 0, 0]
    assert leader.submit(BODY_BYTES_MAX - 150) == 2, "what it does not fit in with goes first"
    while leader.writing:
        leader.durable()
    assert sum(leader.entries()) == 8
    assert all(block.size <= BLOCK_BYTES_MAX for block in leader.raft.log.between(1, leader.raft.log.last_index))
    assert leader.submit(20) == 1, "nothing is left that waits"
    assert leader.entries()[-1] == 1


def test_what_waits_for_a_block_is_forgotten_with_the_leadership() -> None:
    leader = Leader()
    leader.submit(20)
    leader.submit(20)
    effects = leader.took(leader.raft.step(Resign(), NOW))
    assert sum(isinstance(effect, Refused) for effect in effects) == 1
    leader.took(leader.raft.step(Tick(), Now(10.0, 1 << 60)))
    while leader.writing:
        leader.durable()
    assert leader.raft.role is Role.LEADER
    before = leader.raft.log.last_index
    leader.took(leader.raft.step(Tick(), Now(10.1, 1 << 60)))
    assert leader.raft.log.last_index == before


def test_a_run_takes_no_more_than_is_reckoned() -> None:
    keys = keys_of(voter(1))
    for size in (0, 23, 24, 255, 256, 400):
        for count in (1, 2, 30):
            batch = [Entry(Kind.COMMAND, voter(1), (1 << 64) - 1, (1 << 64) - 1 - number, bytes(size)) for number in range(count)]
            batch[0] = batch[0]._replace(signature=bytes(64), evidence=bytes(184))
            run = [int(batch[0].kind), voter(1), batch[0].since, batch[0].number, bytes(64), bytes(184)]
            taken = len(keys.encode([*run, [entry.body for entry in batch]]))
            assert taken <= run_size(batch) <= taken + 8


def test_two_rounds_are_under_way_and_what_comes_waits_for_one_of_them() -> None:
    """Each client had a round of its own: 64 of them made ten datagrams, ten syncs and ten acknowledgements out of one."""
    cluster = Cluster(3)
    leader = cluster.elect()
    raft = leader.raft
    assert raft is not None
    before = raft.log.last_index
    cluster.cut_off(*[number for number in range(1, 4) if voter(number) != leader.me])
    for number in range(1, 6):
        cluster.submit(leader, f"entry {number}", number)
    assert raft.log.last_index == before + ROUNDS_MAX
    cluster.advance(COMPANY_SECONDS)
    assert raft.log.last_index == before + ROUNDS_MAX + 1, "a slow network is not waited for"
    assert [len(block.entries) for block in raft.log.between(before + 1, raft.log.last_index)] == [1, 1, 3]


def test_a_round_that_is_committed_makes_room_for_the_next() -> None:
    rounds = Rounds()
    for index in (5, 7):
        assert not rounds.are_enough(3, 1.0, 1)
        rounds.cut(index, 1.0, 1)
    assert rounds.are_enough(4, 1.0, 1)
    assert rounds.deadline == 1.0 + COMPANY_SECONDS
    assert not rounds.are_enough(5, 1.0, 1)
    assert not rounds.are_enough(7, 1.0, 1)
    assert rounds.deadline == inf


def test_one_that_asks_beside_many_waits_for_them() -> None:
    """It was answered alone, so it asked alone again, for ever: every other round of 64 clients was for one entry."""
    rounds = Rounds()
    rounds.cut(5, 1.0, 10 * PART)
    assert rounds.are_enough(4, 1.0, 9)
    assert rounds.deadline == 1.0 + COMPANY_SECONDS
    assert rounds.are_enough(5, 1.0, 9), "they are answered, and about to ask again"
    assert not rounds.are_enough(5, 1.0, 10), "so many are worth a round"
    rounds.cut(6, 1.0, 10 * PART)
    assert not rounds.are_enough(5, 1.0 + COMPANY_SECONDS, 1), "a slow network is not waited for"


def test_who_asks_after_a_round_does_not_wait_for_its_clients() -> None:
    rounds = Rounds()
    rounds.cut(5, 1.0, 10 * PART)
    assert not rounds.are_enough(5, 1.0, 0)
    assert not rounds.are_enough(5, 1.0, 1)
    assert rounds.deadline == inf


def test_a_leader_that_waits_for_its_disk_does_not_ask_for_a_tick_at_once() -> None:
    """Its deadline was that of the rounds, which passed and did not move while the disk was busy: the host turned without end."""
    cluster = Cluster(3)
    leader = cluster.elect()
    raft = leader.raft
    assert raft is not None
    cluster.cut_off(*[number for number in range(1, 4) if voter(number) != leader.me])
    cluster.submit(leader, "first", 1)
    cluster.slow_disks.add(leader.me)
    cluster.submit(leader, "second", 2)
    cluster.submit(leader, "third", 3)
    cluster.time += 2 * COMPANY_SECONDS
    leader.step(Tick())
    assert raft.deadline > cluster.time
