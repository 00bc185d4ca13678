"""`node.listen`: told by a call, in the step in which it comes, what a watcher is told."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import mesh
from crdt.ops import Key
from mesh.events import Change, Changed, Lagged, Synced
from mesh.feed import LIMIT, Watcher
from mesh.listener import Listener
from tests.node.agents import PATIENCE_S, Mesh, open_nodes
from tests.node.test_watch import Values, brief


def tell(watchers: set[Watcher], keys: list[Key]) -> None:
    for watcher in tuple(watchers):
        watcher.changed(keys)


def test_a_listener_is_told_what_is_there_and_then_what_changes_as_it_changes() -> None:
    source, watchers, heard = Values(a=1), set[Watcher](), list[Change]()
    with Listener(watchers, source, (), heard.append):
        assert brief(heard) == [("a", 1), Synced()]
        tell(watchers, source.set("b", 2))
        assert brief(heard)[2:] == [("b", 2)]
        tell(watchers, source.set("b", 2))
        assert len(heard) == 3, "nothing new"
    tell(watchers, source.set("b", 3))
    assert len(heard) == 3
    assert not watchers


def test_changes_are_held_while_the_node_catches_up_and_memory_is_bounded() -> None:
    source, watchers, heard = Values(), set[Watcher](), list[Change]()
    source.caught_up = False
    with Listener(watchers, source, (), heard.append) as listener:
        for number in range(LIMIT + 1):
            tell(watchers, source.set(f"a/{number}", number))
        assert not heard
        source.caught_up = True
        listener.wake()
        assert not any(isinstance(change, Lagged) for change in heard), "all of it is told in what is there"
        assert sorted(change.value for change in heard if isinstance(change, Changed)) == list(range(LIMIT + 1))
        assert heard[-1] == Synced()


def test_a_callback_may_stop_listening_and_begin_another() -> None:
    source, watchers, heard, more = Values(), set[Watcher](), list[Change](), list[Change]()

    def stop(change: Change) -> None:
        heard.append(change)
        if isinstance(change, Changed):
            listener.__exit__(None, None, None)
            other.__enter__()

    listener, other = Listener(watchers, source, (), stop), Listener(watchers, source, (), more.append)
    with listener:
        tell(watchers, source.set("a", 1) + source.set("b", 2))
        assert brief(heard) == [Synced(), ("a", 1)], "nothing after its end"
        assert brief(more) == [("a", 1), ("b", 2), Synced()]
        tell(watchers, source.set("a", 3))
    assert brief(more)[3:] == [("a", 3)]
    assert len(heard) == 2


def test_what_cannot_be_called_is_said_at_once() -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match="cannot be called"):
        Listener(set(), Values(), (), nothing)


async def test_a_callback_hears_of_others_and_may_write() -> None:
    async with open_nodes("one", "two") as (one, two):
        answered = trio.Event()

        def answer(change: Change) -> None:
            if isinstance(change, Changed):
                two.register("answer").set(change.value + 1)

        def hear(change: Change) -> None:
            if brief([change]) == [("answer", 42)]:
                answered.set()

        with two.listen("question", answer), one.listen("", hear), trio.fail_after(PATIENCE_S):
            one.register("question").set(41)
            await answered.wait()


async def test_what_a_callback_raises_ends_the_node_and_comes_out_of_it() -> None:
    def fail(change: Change) -> None:
        if isinstance(change, Changed):
            raise RuntimeError("the callback's own")

    async def write() -> None:
        async with mesh.open_node(Mesh().config("one")) as one:
            with one.listen("", fail):
                one.register("a").set(1)
                await trio.sleep_forever()

    with pytest.raises(RuntimeError, match="the callback's own"):
        await write()
