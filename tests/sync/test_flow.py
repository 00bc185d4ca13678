"""The window of a receiver: widens with answers, halves with losses, never runs over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdt.ids import ReplicaId
from mesh.sync.flow import WINDOW_MAX_BYTES, WINDOW_MIN_BYTES, WINDOW_START_BYTES, Request, Window, Windows

PEER = ReplicaId(bytes(8))


def fill(window: Window, start: int, size: int, deadline: float) -> int:
    """Open requests while there is room; how many."""
    count = 0
    while window.has_room:
        window.open(("body", start + count), Request(PEER, size, deadline))
        count += 1
    return count


def test_it_starts_with_about_ten_segments() -> None:
    assert 10 <= fill(Window(), 0, 1200, 1.0) <= WINDOW_START_BYTES // 1200 + 1


def test_answers_widen_it_up_to_the_limit() -> None:
    window = Window()
    first = fill(window, 0, 1200, 1.0)
    for number in range(first):
        assert window.answered(("body", number))
    assert fill(window, 1000, 1200, 1.0) >= 2 * first - 1
    for _ in range(100):
        for number in range(1000, 3000):
            window.answered(("body", number))
        fill(window, 1000, 1200, 1.0)
    assert len(window) <= WINDOW_MAX_BYTES // 1200 + 1


def test_a_burst_of_losses_halves_it_once() -> None:
    window = Window()
    for _ in range(6):
        count = fill(window, 0, 1200, 1.0)
        for number in range(count):
            window.answered(("body", number))
    before = fill(window, 0, 1200, 1.0)
    assert len(window.expired(1.0)) == before
    after = fill(window, 0, 1200, 1.05)
    assert before // 2 - 1 <= after <= before // 2 + 1
    window.expired(1.05)
    assert fill(window, 0, 1200, 9.0) == after  # the same loss, seen twice


def test_it_never_closes() -> None:
    window = Window()
    now = 0.0
    for _ in range(50):
        now += 10.0
        fill(window, 0, 400, now)
        window.expired(now)
    assert fill(window, 0, 400, now) >= WINDOW_MIN_BYTES // 400


@given(st.lists(st.tuples(st.sampled_from(["open", "answered", "forget", "expire"]), st.integers(0, 9), st.integers(1, 1200))))
def test_books_balance(steps: list[tuple[str, int, int]]) -> None:
    """Whatever happens, with nothing in flight there is room again."""
    window = Window()
    now = 0.0
    for action, number, size in steps:
        now += 0.01
        token = ("body", number)
        if action == "open":
            window.open(token, Request(PEER, size, now + 0.02))
        elif action == "answered":
            window.answered(token)
        elif action == "forget":
            window.forget(token)
        else:
            window.expired(now)
    window.expired(now + 100)
    assert not len(window)
    assert window.has_room
    assert window.deadline == float("inf")


def test_who_never_answers_takes_no_room_from_the_others() -> None:
    """One window was shared by all sources: a silent one halved it for everybody."""
    windows, silent = Windows(), ReplicaId(b"silent..")
    for turn in range(20):
        now = float(turn)
        while windows.has_room(silent):
            windows.open(("silent", turn, len(windows._asked)), Request(silent, 1200, now + 0.5))
        honest = 0
        while windows.has_room(PEER) and honest < 60:
            windows.open(("honest", turn, honest), Request(PEER, 1200, now + 0.5))
            honest += 1
        for number in range(honest):
            windows.answered(("honest", turn, number))
        windows.expired(now + 0.9)
    assert honest >= 60
    windows.expired(100.0)
    assert windows.has_any_room
    assert windows.deadline == float("inf")
