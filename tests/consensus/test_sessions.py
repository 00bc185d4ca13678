"""Exactly once, in bounded memory: what is forgotten is refused, never done again."""

from __future__ import annotations

import random

import pytest

from consensus_escalation import sessions as module
from consensus_escalation.sessions import (
    AHEAD_MICROSECONDS,
    COUNT_BITS,
    NAMED,
    REMEMBERED_MICROSECONDS,
    WINDOW,
    Admission,
    Key,
    Past,
    Sessions,
)

DAY = REMEMBERED_MICROSECONDS


def counted(count: int, since: int = 1000, life: int = 7) -> Key:
    return Key(since, b"client", life << COUNT_BITS | count)


def named(number: int, since: int = 1000) -> Key:
    return Key(since, b"client", NAMED | number)


@pytest.mark.parametrize("key", [counted(1), named(1)])
def test_a_key_is_refused_once_it_is_forgotten(key: Key) -> None:
    sessions = Sessions()
    assert sessions.judge(key, 1000) is Admission.FRESH
    assert sessions.judge(key._replace(since=1001 + AHEAD_MICROSECONDS), 1000) is Admission.FROM_THE_FUTURE
    sessions.remember(key, Past(4, 1))
    assert sessions.judge(key, 2000) is Admission.REPEATED
    sessions.forget_before(1000 + DAY)
    assert sessions.recall(key) == Past(4, 1)
    sessions.forget_before(1001 + DAY)
    assert sessions.recall(key) is None
    assert sessions.judge(key, 1001 + DAY) is Admission.TOO_OLD
    assert sessions.count == 0


def test_a_named_key_is_the_same_after_its_author_restarted() -> None:
    """etcd#18424: a retry that names another session is another write. Here the name alone counts, whatever `since` says."""
    sessions = Sessions()
    sessions.remember(named(5, since=1000), Past(4, 1, "mismatch"))
    assert sessions.judge(named(5, since=9999), 9999) is Admission.REPEATED
    assert sessions.recall(named(5, since=9999)) == Past(4, 1, "mismatch")


def test_a_window_of_counts_is_remembered_and_what_is_below_is_refused() -> None:
    sessions = Sessions()
    for count in (1, 3, WINDOW + 2):
        assert sessions.judge(counted(count), 1000) is Admission.FRESH
        sessions.remember(counted(count), Past(count, 1))
    assert sessions.judge(counted(2), 1000) is Admission.TOO_OLD
    assert sessions.judge(counted(1), 1000) is Admission.TOO_OLD, "done, and no longer known"
    assert sessions.judge(counted(3), 1000) is Admission.REPEATED
    assert sessions.judge(counted(4), 1000) is Admission.FRESH, "late, and within the window"
    assert sessions.judge(counted(2, life=8), 1000) is Admission.FRESH, "another run of the agent"
    assert sessions.count == 2


@pytest.mark.interpreted
def test_memory_is_bounded_and_what_was_pushed_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTCOMES_MAX", 50)
    sessions = Sessions()
    for number in range(200):
        sessions.remember(counted(1, since=1000 + number, life=number), Past(number, 1))
    assert sessions.count <= 50
    assert sessions.judge(counted(1, since=1010, life=10), 1200) is Admission.TOO_OLD
    assert sessions.judge(counted(1, since=1199, life=199), 1200) is Admission.REPEATED


@pytest.mark.interpreted
def test_a_name_is_never_forgotten_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names were pushed out by later ones, and a retry within the 24 h, which names a new `since`, was done a second time."""
    monkeypatch.setattr(module, "OUTCOMES_MAX", 100)
    monkeypatch.setattr(module, "NAMES_MAX", 50)
    sessions, done = Sessions(), set[int]()
    for number in range(200):
        sessions.remember(counted(1, since=1000 + number, life=number), Past(number, 1))
        key = named(number, since=1000 + number)
        if sessions.judge(key, 1200) is Admission.FRESH:
            sessions.remember(key, Past(number, 1))
            done.add(number)
    assert len(done) == 25, "half of the room, the other half is for others"
    assert sessions.count <= 100
    for number in range(200):
        assert sessions.judge(named(number, since=1300), 1300) is (Admission.REPEATED if number in done else Admission.FULL)
    others = [Key(1300, b"other %d" % n, NAMED | m) for n in range(9) for m in range(50)]
    held = []
    for key in others:
        if sessions.judge(key, 1300) is Admission.FRESH:
            sessions.remember(key, Past(1, 1))
            held.append(key)
    assert len(held) + len(done) <= 50
    assert len({key.author for key in held}) > 3, "some take what they can get, others still find room"
    sessions.forget_before(1300 + DAY + 1)
    assert sessions.count == 0
    assert sessions.judge(named(7, since=1300 + DAY), 1300 + DAY) is Admission.FRESH


@pytest.mark.interpreted
def test_nothing_is_ever_done_twice_whatever_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random keys, repeated at random times, with too little memory: each key is admitted at most once."""
    monkeypatch.setattr(module, "OUTCOMES_MAX", 100)
    monkeypatch.setattr(module, "NAMES_MAX", 50)
    rng = random.Random(1)
    sessions, time, asked, done = Sessions(), 10 * DAY, list[Key](), dict[object, int]()
    admitted = 0
    for _ in range(20_000):
        time += rng.choice([0, 1, 1000, DAY // 500])
        sessions.forget_before(time)
        if not asked or rng.random() < 0.5:
            since = time + rng.choice([0, -1000, -DAY // 2, AHEAD_MICROSECONDS // 2])
            number = rng.randrange(1, 2000)
            asked.append(rng.choice([counted(number, since), named(number, since)]))
        key = rng.choice(asked[-300:])
        if key.is_named and rng.random() < 0.5:
            key = key._replace(since=time)
        name = (key.author, key.number) if key.is_named else key
        if sessions.admit(key, time, Past(len(done), 1)) is Admission.FRESH:
            assert done.get(name, -1) < time - DAY
            done[name] = key.since if key.is_named else 1 << 62
            admitted += 1
        assert sessions.count <= 100 + WINDOW
    assert admitted > 3000


def test_admitting_is_judging_and_remembering() -> None:
    rng, one, two = random.Random(7), Sessions(), Sessions()
    time, at = 2 * DAY, 1
    for number in range(20_000):
        time += rng.choice([0, 0, 0, DAY // 200])
        at = rng.choice([at + 1, at + 1, at + 1, max(1, at - rng.randrange(2 * WINDOW)), at + rng.randrange(2 * WINDOW)])
        since = rng.choice([2 * DAY, 2 * DAY, 2 * DAY + 1, time + 2 * AHEAD_MICROSECONDS])
        key, past = rng.choice([counted(at, since), counted(at, since), named(at, since)]), Past(number, 1)
        for sessions in (one, two):
            sessions.forget_before(time)
        admission = one.judge(key, time)
        if admission is Admission.FRESH:
            one.remember(key, past)
        assert two.admit(key, time, past) is admission
    assert one.to_value() == two.to_value()
    assert one.count == two.count


def test_what_is_remembered_travels_whole() -> None:
    sessions = Sessions()
    for count in range(1, 400):
        sessions.remember(counted(count), Past(count, 1, "held" if count % 7 == 0 else ""))
        sessions.remember(named(count, since=count), Past(count, 2))
    twin = Sessions()
    twin.load(sessions.to_value())
    assert twin.to_value() == sessions.to_value()
    assert twin.count == sessions.count
    for both in (sessions, twin):
        both.forget_before(300 + DAY)
    assert twin.to_value() == sessions.to_value()
