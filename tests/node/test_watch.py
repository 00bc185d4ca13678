"""A watcher's promises, held against a small source: it ends up knowing what is there, in bounded memory, however slow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.ids import Dot, ShelfId
from crdt.ops import Key, Path
from crdt.types.paths import format_path as show_path
from mesh.events import Change, Changed, Event, Lagged, Synced
from mesh.feed import Feed, Watchers
from mesh.paths import parse_path
from mesh.values import Reading
from mesh.watch import EventStream, Watch

REGISTER = 1
SHELF = ShelfId(b"author--\0\0\0\1")


class Values:
    """A source that is a dict. Paths may have elements: a cell at `set/x/element` belongs to the value at `set/x`."""

    def __init__(self, **values: int) -> None:
        self.values = {parse_path(path): value for path, value in values.items()}
        self.caught_up = True
        self.failed: list[BaseException] = []

    def set(self, path: str, value: int | None) -> list[Key]:
        if value is None:
            self.values.pop(parse_path(path), None)
        else:
            self.values[parse_path(path)] = value
        return [(REGISTER, parse_path(path))]

    def watched_keys(self, prefix: Path) -> Iterator[Key]:
        return (
            (REGISTER, path)
            for path in sorted(self.values, key=lambda path: [str(s) for s in path])
            if path[: len(prefix)] == prefix
        )

    def watched_key(self, key: Key) -> Key:
        code, path = key
        return (code, path[:2]) if path[0] == "set" else key

    def settle(self) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        self.failed.append(error)

    def read_value(self, key: Key) -> Reading:
        value = self.values.get(key[1])
        return Reading(
            Changed(show_path(key[1]), "register", value, None if value is None else Dot(SHELF, 1, 0)),
            None if value is None else hash(value),
        )


def told(feed: Feed, *, hold: bool = False) -> list[Change]:
    """Everything the feed has to say now."""
    changes = []
    while (change := feed.next(hold=hold)) is not None:
        changes.append(change)
    return changes


def brief(changes: list[Change]) -> list[object]:
    return [(c.path, c.value) if isinstance(c, Changed) else c for c in changes]


def test_a_watcher_gets_what_is_there_then_synced_then_changes() -> None:
    source = Values(a=1, b=2)
    feed = Feed(source, ())
    assert brief(told(feed)) == [("a", 1), ("b", 2), Synced()]
    feed.changed(source.set("b", 3))
    feed.changed(source.set("c", 4))
    assert brief(told(feed)) == [("b", 3), ("c", 4)]


def test_a_prefix_is_whole_segments_and_includes_the_path_itself() -> None:
    source = Values(**{"robots": 0, "robots/1": 1, "robotsy": 2})
    feed = Feed(source, ("robots",))
    assert brief(told(feed)) == [("robots", 0), ("robots/1", 1), Synced()]
    assert not feed.changed(source.set("robotsy", 3))
    assert feed.changed(source.set("robots/2", 4))
    assert brief(told(feed)) == [("robots/2", 4)]


def test_writes_of_one_path_that_wait_together_are_told_once() -> None:
    source = Values()
    feed = Feed(source, ())
    assert told(feed) == [Synced()]
    for value in range(5):
        feed.changed(source.set("a", value))
    assert brief(told(feed)) == [("a", 4)]


def test_elements_are_told_as_the_value_that_they_belong_to() -> None:
    source = Values(**{"set/x": 7})
    feed = Feed(source, ("set",))
    told(feed)
    source.set("set/x", 8)
    feed.changed([(REGISTER, ("set", "x", "element-1")), (REGISTER, ("set", "x", "element-2"))])
    assert brief(told(feed)) == [("set/x", 8)]


def test_what_shows_nothing_new_is_not_told() -> None:
    """A write was once told when it was made and again when it was sealed, and every time that housekeeping issued it again."""
    source = Values(a=1)
    feed = Feed(source, ())
    told(feed)
    feed.changed(source.set("a", 1))
    assert told(feed) == []


def test_what_goes_is_told_without_a_dot_and_only_to_who_knew_it() -> None:
    source = Values(a=1)
    feed = Feed(source, ())
    told(feed)
    feed.changed(source.set("a", None))
    feed.changed(source.set("never-seen", None))
    (gone,) = told(feed)
    assert gone == Changed("a", "register", None, None)


def test_a_reader_too_slow_for_many_paths_is_told_how_many_and_then_all_that_it_missed() -> None:
    source = Values(gone=1, kept=1)
    feed = Feed(source, (), limit=10)
    told(feed)
    feed.changed(source.set("gone", None))
    for number in range(50):
        feed.changed(source.set(f"n/{number:02}", number))
    assert len(feed._pending) == 10
    first, *rest, last = told(feed)
    assert first == Lagged(51)
    assert last == Synced()
    assert brief(rest) == [*((f"n/{n:02}", n) for n in range(50)), ("gone", None)], "and not what it knows already"


def test_a_reader_too_slow_for_one_path_is_told_how_many_and_the_newest() -> None:
    source = Values(other=1)
    feed = Feed(source, (), limit=10)
    told(feed)
    for number in range(11):
        feed.changed(source.set("hot", number))
    assert brief(told(feed)) == [Lagged(11), ("hot", 10), Synced()]


def test_a_reader_that_keeps_up_with_merging_does_not_lag() -> None:
    """Merged writes once counted as missed for ever, so that a busy prefix lagged without being behind."""
    source = Values()
    feed = Feed(source, (), limit=10)
    told(feed)
    feed.changed(source.set("slow", 0))
    for number in range(100):
        for _ in range(3):
            feed.changed(source.set(f"k/{number % 3}", number))
        feed.changed(source.set("slow", number))
        assert isinstance(feed.next(), Changed)
        assert isinstance(feed.next(), Changed)


def test_a_path_hotter_than_its_reader_is_told_all_the_same() -> None:
    source = Values()
    feed = Feed(source, (), limit=10)
    heard = []
    for number in range(600):
        feed.changed(source.set("hot", number))
        if number % 50 == 0:
            heard.append(feed.next())
    values = [change.value for change in heard if isinstance(change, Changed)]
    assert values == sorted(set(values))
    assert len(values) >= 3


def test_changes_are_held_while_the_node_catches_up_and_told_once() -> None:
    source = Values(a=1)
    feed = Feed(source, (), limit=3)
    assert brief(told(feed, hold=True)) == [("a", 1)]
    for number in range(9):
        feed.changed(source.set("a", number))
        feed.changed(source.set(f"b/{number % 2}", number))
    assert told(feed, hold=True) == []
    assert brief(told(feed)) == [("a", 8), ("b/0", 8), ("b/1", 7), Synced()]
    feed.changed(source.set("a", 9))
    assert told(feed, hold=True) == [], "back after long: again all at once"
    for number in range(9):
        feed.changed(source.set(f"c/{number}", number))
    assert brief(told(feed))[-1] == Synced()
    assert Lagged not in {type(change) for change in told(feed)}, "catching up is not the reader's fault"


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcdefgh"), st.one_of(st.none(), st.integers(0, 9))),
            st.integers(1, 4),
            st.booleans(),
        ),
        max_size=60,
    ),
    st.integers(1, 6),
)
def test_whatever_happens_the_reader_ends_up_knowing_what_is_there(
    steps: list[tuple[str, int | None] | int | bool], limit: int
) -> None:
    """Random writes, removals, slow reads and catching up: a reader that applies what it is told has the source's values."""
    source = Values(a=1, b=2)
    feed = Feed(source, (), limit=limit)
    known: dict[str, object] = {}
    hold = False

    def read(most: int | None) -> None:
        while most is None or most > 0:
            change = feed.next(hold=hold)
            if change is None:
                return
            if isinstance(change, Changed):
                if change.dot is None:
                    del known[change.path]
                else:
                    known[change.path] = change.value
            most = None if most is None else most - 1

    for step in steps:
        if isinstance(step, bool):
            hold = step
        elif isinstance(step, int):
            read(step)
        else:
            feed.changed(source.set(*step))
        assert len(feed._pending) <= limit
    hold = False
    read(None)
    assert known == {show_path(path): value for path, value in source.values.items()}


async def test_a_watch_sleeps_until_there_is_news_and_ends_with_its_node() -> None:
    source = Values(a=1)
    readers = Watchers()
    heard: list[Change] = []

    async def read() -> None:
        async with Watch(readers, source, (), limit=8) as changes:
            async for change in changes:
                heard.append(change)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert brief(heard) == [("a", 1), Synced()]
        (watch,) = readers.all
        watch.changed(source.set("b", 2))
        await trio.testing.wait_all_tasks_blocked()
        assert brief(heard)[2:] == [("b", 2)]
        watch.changed(source.set("c", 3))
        watch.end()
    assert brief(heard)[3:] == [("c", 3)], "what waits is told before the end"
    assert not readers


async def test_a_slow_reader_of_events_loses_the_oldest_and_is_told() -> None:
    readers: set[EventStream] = set()
    async with EventStream(readers, limit=2) as events:
        stories: list[Event] = [Lagged(number) for number in (101, 102, 103)]
        events.happened(stories)
        assert [await anext(events) for _ in range(3)] == [Lagged(1), *stories[1:]]
        events.end()
        with pytest.raises(StopAsyncIteration):
            await anext(events)
