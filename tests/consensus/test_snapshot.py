"""Snapshots stand for the beginning of the log, for the disk and for followers that are far behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from consensus_escalation.block import Entry, Kind
from consensus_escalation.effects import Received, Refused, Submit
from consensus_escalation.ledger import Ledger, Score
from consensus_escalation.messages import Accepted, Append, SnapshotPiece
from consensus_escalation.sessions import COUNT_BITS, NAMED, Key, Past
from consensus_escalation.snapshot import PIECE_BYTES, Incoming, Outgoing, snapshot_from_bytes_untrusted
from consensus_escalation.types import Pace
from crdt.errors import Malformed
from tests.consensus.cluster import Cluster, digest, keys_of, read_score, voter

SMALL = Pace(snapshot_blocks=20)
KEYS = keys_of(voter(1))
WALL = 1_700_000_000_000_000


def written(count: int) -> Cluster:
    cluster = Cluster(3, pace=SMALL)
    leader = cluster.elect()
    cluster.give_scores(leader, {1: 3, 2: 2, 3: 1})
    for number in range(count):
        cluster.submit(leader, f"entry {number}")
        cluster.deliver()
    cluster.advance(0.1)
    return cluster


def test_the_log_stays_short_and_a_restart_has_everything() -> None:
    cluster = written(100)
    texts = [f"entry {number}" for number in range(100)]
    for machine in cluster.machines.values():
        assert machine.raft is not None
        assert machine.raft.log.last_index - machine.raft.log.base.index < 25
        machine.crash()
    for machine in cluster.machines.values():
        machine.start()
    leader = cluster.elect()
    assert leader.raft is not None
    assert leader.raft.ledger.score(voter(1)) == 3, "the ledger travels in snapshots"
    assert all(cluster.texts(machine) == texts for machine in cluster.machines.values())


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_a_follower_that_was_away_catches_up_from_a_snapshot(loss: float) -> None:
    cluster = Cluster(3, pace=SMALL)
    leader = cluster.elect()
    away = next(machine for machine in cluster.machines.values() if machine is not leader)
    away.crash()
    for number in range(100):
        cluster.submit(leader, f"{number} {'x' * 500}")
        cluster.deliver()
    cluster.lost = lambda sender, to, _message: away.me in (sender, to) and cluster.rng.random() < loss
    away.start()
    cluster.advance(5.0)
    assert cluster.texts(away) == cluster.texts(leader)
    assert len(cluster.texts(away)) == 100


def test_blocks_from_below_a_snapshot_are_answered() -> None:
    """They were thrown away in silence, with those above it: a leader that had missed the answers sent them again for ever."""
    cluster = written(100)
    leader = cluster.elect(0.0)
    other = next(machine for machine in cluster.machines.values() if machine is not leader)
    assert leader.raft is not None
    assert other.raft is not None
    base, known = other.raft.log.base.index, cluster.witness.committed
    before, blocks = known[base - 3], tuple(known[index] for index in range(base - 2, base + 3))
    append = Append(leader.raft.term, before.index, before.term, before.hash, blocks, leader.raft.commit, 0)
    for count, match in ((5, base + 2), (2, base - 1)):
        other.step(Received(leader.me, replace(append, blocks=blocks[:count])))
        assert [message.match for *_, message in cluster.inbox if isinstance(message, Accepted)] == [match]
        cluster.inbox.clear()


def test_an_entry_counts_once_across_a_snapshot() -> None:
    cluster = written(10)
    leader = cluster.elect(0.0)
    cluster.submit(leader, "once", number=77)
    for number in range(50):
        cluster.submit(leader, f"more {number}")
        cluster.deliver()
    cluster.submit(leader, "once", number=77)
    assert [n.reason for n in leader.take(Refused) if isinstance(n, Refused)] == ["repeated"]
    leader.crash()
    leader = cluster.elect(1.0)
    cluster.submit(leader, "once", number=77)
    cluster.advance(0.1)
    assert cluster.texts(leader).count("once") == 1


def test_two_copies_on_their_way_at_once_count_once() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.slow_disks.add(leader.me)
    cluster.submit(leader, "twin", number=5)
    cluster.submit(leader, "twin", number=5)
    cluster.slow_disks.clear()
    leader.drain()
    cluster.advance(0.1)
    assert cluster.texts(leader) == ["twin"]


def test_an_entry_that_fits_no_block_is_refused_and_never_cut() -> None:
    cluster = Cluster(1)
    leader = cluster.elect()
    leader.step(Submit(Entry(Kind.COMMAND, b"client", 1_700_000_000_000_000, 1, bytes(1000))))
    assert [n.reason for n in leader.take(Refused) if isinstance(n, Refused)] == ["too large"]


def test_pieces_in_any_order_make_the_whole_or_nothing() -> None:
    raw = bytes(range(256)) * 20
    outgoing, incoming, keys = Outgoing(raw, 9, digest(raw)), Incoming(), keys_of(voter(1))
    pieces = outgoing.pieces(1)
    assert incoming.take(pieces[1], keys) == (0, None)
    assert incoming.take(pieces[0], keys) == (PIECE_BYTES, None)
    assert incoming.take(pieces[0], keys) == (PIECE_BYTES, None)
    for piece in pieces[1:-1]:
        incoming.take(piece, keys)
    assert incoming.take(pieces[-1], keys) == (len(raw), raw)
    forged = [SnapshotPiece(1, 9, digest(b"other"), piece.offset, piece.total, piece.data) for piece in pieces]
    assert [incoming.take(piece, keys)[1] for piece in forged] == [None] * len(pieces)
    assert incoming.take(SnapshotPiece(1, 9, digest(raw), 0, 1 << 40, b"x"), keys) == (0, None), "sizes no allocation"


def test_a_follower_that_forgot_its_pieces_gets_them_again() -> None:
    """Found by the storm (seed 6): the follower restarted in the middle, and the leader went on where it had been, for ever."""
    raw = bytes(20_000)
    outgoing, keys = Outgoing(raw, 9, digest(raw)), keys_of(voter(1))
    incoming, restarted = Incoming(), Incoming()
    for piece in outgoing.pieces(1)[:5]:
        outgoing.answered(incoming.take(piece, keys)[0])
    whole = None
    for _ in range(3):
        outgoing.repeat()
        for piece in outgoing.pieces(1):
            here, found = restarted.take(piece, keys)
            whole = whole or found
            outgoing.answered(here)
    assert whole == raw


def test_bytes_that_are_no_snapshot_are_malformed() -> None:
    for raw in (b"", b"\x80", b"\xff", digest(b"x")):
        with pytest.raises(Malformed):
            snapshot_from_bytes_untrusted(raw, keys_of(voter(1)), read_score)


@pytest.mark.parametrize("wrong", [-1, 1 << 64, True, None, 1.5])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_ledger_whose_numbers_no_block_could_carry_is_malformed(place: int, wrong: object) -> None:
    """Regression: a snapshot that a lying leader sent attested a time below zero. Who took it ended when it led next, and at each
    start after that."""
    raft = written(40)[1].raft
    assert raft is not None
    value = raft.ledger.to_value()
    Ledger.from_value_untrusted(value, read_score)
    value[place] = wrong
    with pytest.raises(Malformed):
        Ledger.from_value_untrusted(value, read_score)


def full_ledger() -> Ledger:
    """With two of everything."""
    ledger = Ledger(read_score)
    for number in (1, 2):
        who = voter(number)
        ledger.scores[who], ledger.demoted[who] = Score(who, 9, number, WALL), number
        for count in (number, number + 1):
            ledger.sessions.remember(Key(WALL, who, 7 << COUNT_BITS | count), Past(count, 1))
        ledger.sessions.remember(Key(WALL, who, NAMED | number), Past(9, 1, "mismatch", 5))
    return ledger


def edits(value: Any) -> Iterator[Any]:
    """Each part of it replaced, doubled or left out."""
    wrong = [None, True, -1, 1 << 63, (1 << 64) - 1, 1.5, "", "x", b"", b"12345678", [], [1], [[1]], ["x", "y", "z"]]
    for at, part in enumerate(value):
        for other in (*wrong, *(edits(part) if isinstance(part, list) else ())):
            yield [*value[:at], other, *value[at + 1 :]]
        yield [*value[:at], part, part, *value[at + 1 :]]
        yield [*value[:at], *value[at + 1 :]]


def test_a_ledger_is_malformed_or_can_be_lived_with() -> None:
    """Regression: only its shape was looked at. By one snapshot a lying leader ended an agent at the next block, or a day later
    when a key was to be forgotten that stood there twice, or at the next snapshot of its own; and again at each start."""
    whole, usable = KEYS.decode_untrusted(KEYS.encode(full_ledger().to_value())), 0
    as_lists = KEYS.decode_untrusted(KEYS.encode(Ledger.from_value_untrusted(whole, read_score).to_value()))
    assert as_lists == whole
    for value in edits(lists(whole)):
        try:
            ledger = Ledger.from_value_untrusted(value, read_score)
        except Malformed:
            continue
        usable += 1
        voters = [voter(1), voter(2), voter(3)]
        assert sorted(ledger.ranking(voters)) == voters
        for number in voters:
            for key in (Key(WALL, number, 7 << COUNT_BITS | 300), Key(WALL, number, NAMED | 300)):
                ledger.sessions.admit(key, WALL, Past(10, 1))
        Ledger.from_value_untrusted(ledger.to_value(), read_score)
        ledger.sessions.forget_before(1 << 65)
        assert ledger.sessions.count == 0
    assert usable > 20


def lists(value: Any) -> Any:
    return [lists(each) for each in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("wrong", [-1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_snapshot_of_a_place_that_no_disk_keeps_is_malformed(place: int, wrong: int) -> None:
    """Regression: its index was too large for the database; the thread that writes for the quorum ended, and nothing that this
    voter promised was on the disk from then on."""
    snapshot = [5, 1, digest(b"block"), 0, [[voter(1)], [], []], full_ledger().to_value(), b"state"]
    snapshot_from_bytes_untrusted(KEYS.encode(snapshot), KEYS, read_score)
    snapshot[place] = wrong
    with pytest.raises(Malformed):
        snapshot_from_bytes_untrusted(KEYS.encode(snapshot), KEYS, read_score)
