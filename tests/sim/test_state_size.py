"""What `python -m tools.measure state-size` measures is measured, in small."""

from __future__ import annotations

from tools.measure.state_size import Meeting, state_size
from tools.weigh import fresh_bytes, state_bytes


def test_many_adds_and_removes_leave_little() -> None:
    told: list[int] = []
    figures = state_size(3_000, 3, 1, told.append)
    assert sum(told) == 3_000
    assert 1_000 < figures["elements_left"] < 2_500
    assert 1.0 < figures["at_rest_times_fresh"] < 1.5 < figures["while_writing_times_fresh"]


def test_writes_have_the_time_at_which_they_were_made() -> None:
    """Times only counted writes: steps of one byte where a clock's take five, and the state seemed to rest at 1.12 times a fresh
    one instead of 1.18."""
    meeting = Meeting(1, 1)
    for _ in range(3):
        meeting.turn(20)
    held = [op for base in meeting.authors[0].bases.values() for held in base.everything() for _, op in held.live()]
    assert len({op.time for op in held}) == 3
    assert max(op.time for op in held) - min(op.time for op in held) == 400_000  # two turns at 100 operations a second


def test_what_was_just_written_weighs_what_a_fresh_state_does() -> None:
    meeting = Meeting(2, 1)
    meeting.turn(50)
    for author in meeting.authors:
        assert state_bytes(author) <= 1.05 * fresh_bytes(author)
