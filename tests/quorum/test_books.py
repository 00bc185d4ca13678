"""What a follower may do later: only what nobody hears of, and only while it is little."""

from __future__ import annotations

from consensus_escalation.block import Entry, Header, Kind, cut
from consensus_escalation.effects import Committed, Effect, Send
from consensus_escalation.messages import Accepted
from consensus_escalation.types import Voter
from mesh.quorum.writer import LATE_ENTRIES, Barrier, are_books
from tests.consensus.cluster import keys_of, voter


def committed(entries: int) -> Committed:
    header = Header(1, 1, 1, bytes(16), bytes(16), 0, 0, 0, bytes(16), voter(1))
    made = tuple(Entry(Kind.COMMAND, voter(2), 0, number, b"", bytes(64)) for number in range(entries))
    return Committed(cut(header, 1, made, keys_of(voter(1))), (True,) * entries)


ANSWER: Effect = Send(Voter(voter(1)), Accepted(1, 1, 1, b""))


def test_an_acknowledgement_behind_what_is_committed_is_not_kept_waiting() -> None:
    """It left 5 ms late: of several blocks that were committed, the first was applied before it, and the second stopped it."""
    assert not are_books([committed(1), Barrier(2, 2), ANSWER], durable=2)
    assert are_books([committed(1), Barrier(3, 3), ANSWER], durable=2)
    assert not are_books([ANSWER], durable=2)
    assert are_books([], durable=2)


def test_much_is_applied_at_once() -> None:
    assert are_books([committed(LATE_ENTRIES)], durable=0)
    assert not are_books([committed(LATE_ENTRIES), committed(1)], durable=0)
