"""`node.listen`: told by a call, in the step in which it comes, what a watcher is told."""

from __future__ import annotations

import signal
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import mesh
from crdt.ops import Key
from mesh.events import Change, Changed, Lagged, Synced
from mesh.feed import LIMIT, Watchers
from mesh.listener import Listener
from tests.node.agents import PATIENCE_S, Mesh, open_nodes
from tests.node.test_critical import CRITICAL
from tests.node.test_watch import Values, brief


def tell(watchers: Watchers, keys: list[Key]) -> None:
    for watcher in watchers.all:
        watcher.changed(keys)


def test_a_listener_is_told_what_is_there_and_then_what_changes_as_it_changes() -> None:
    source, watchers, heard = Values(a=1), Watchers(), list[Change]()
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
    source, watchers, heard = Values(), Watchers(), list[Change]()
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
    source, watchers, heard, more = Values(), Watchers(), list[Change](), list[Change]()

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
        Listener(Watchers(), Values(), (), nothing)


async def test_a_callback_that_nobody_would_await_is_said_at_once() -> None:
    """Regression: it was called, and never run."""

    async def later(change: Change) -> None:
        await trio.lowlevel.checkpoint()

    with pytest.raises(TypeError, match="a task is what `watch` is for"):
        Listener(Watchers(), Values(), (), later)
    with pytest.raises(TypeError, match="a task is what `watch` is for"):
        Listener(Watchers(), Values(), (), partial(later))


def test_a_callback_is_told_one_thing_at_a_time() -> None:
    """Regression: one that opened another listener, which has all told what changed, was called inside itself."""
    source, watchers, steps = Values(a=1), Watchers(), list[str]()

    def follow(change: Change) -> None:
        steps.append("begins")
        if brief([change]) == [("a", 1)]:
            tell(watchers, source.set("b", 2))
        steps.append("ends")

    with Listener(watchers, source, (), follow):
        assert steps == ["begins", "ends"] * 3, "a, Synced, b"


def test_what_a_callback_raises_is_the_nodes_and_others_are_told() -> None:
    """Regression: it came out of whatever brought the change, so others that watch never heard of that. When it raised at what
    was there already it went on being called after that."""
    source, watchers, heard, error = Values(a=1), Watchers(), list[list[Change]](), RuntimeError("the callback's own")

    def fail(change: Change) -> None:
        if isinstance(change, Changed) and change.value == 2:
            raise error

    with ExitStack() as stack:
        for _ in range(8):  # watchers have no order: whoever fails is first of some
            heard.append([])
            stack.enter_context(Listener(watchers, source, (), heard[-1].append))
            stack.enter_context(Listener(watchers, source, (), fail))
        tell(watchers, source.set("a", 2))
        assert [brief(each) for each in heard] == [[("a", 1), Synced(), ("a", 2)]] * 8
        assert source.failed == [error] * 8
        assert len(watchers) == 8, "who failed is told nothing else"
        with Listener(watchers, source, (), fail):
            assert len(source.failed) == 9
            assert len(watchers) == 8


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


async def test_what_a_callback_raises_at_what_is_there_ends_the_node_too() -> None:
    """Regression: who caught it had a node that called the callback again, although its block had not begun."""

    def fail(change: Change) -> None:
        raise RuntimeError("the callback's own")

    async def read() -> None:
        async with mesh.open_node(Mesh().config("one")) as one:
            one.register("a").set(1)  # else there may be nothing to tell yet
            with suppress(RuntimeError), one.listen("", fail):
                pass
            await trio.sleep(PATIENCE_S)

    with pytest.raises(RuntimeError, match="the callback's own"):
        await read()


async def test_what_a_callback_raises_at_a_critical_write_ends_only_its_node(tmp_path: Path) -> None:
    """Regression: a voter hears of those when its disk is done, in a task of trio's own. All nodes of the program ended with it,
    by TrioInternalError."""
    one_mesh = Mesh(CRITICAL)

    def fail(change: Change) -> None:
        if isinstance(change, Changed):
            raise RuntimeError("the callback's own")

    async def write() -> None:
        async with mesh.open_node(one_mesh.config("one", voter=True, data_dir=tmp_path)) as one:
            await one.critical("tasks/0").set(0)
            with one.listen("tasks/1", fail):
                await one.critical("tasks/1").set(1)
                await trio.sleep(PATIENCE_S)

    async with mesh.open_node(Mesh().config("other")) as other:
        with pytest.raises(RuntimeError, match="the callback's own"):
            await write()
        other.register("a").set(1)
        await other.flush()


async def test_a_callback_has_the_context_variables_of_who_listens() -> None:
    """Whoever brings the change: another agent, or a task with its own."""
    number = ContextVar("number", default=0)
    heard: list[tuple[str, int]] = []
    done = trio.Event()

    def hear(change: Change) -> None:
        if isinstance(change, Changed):
            heard.append((change.path, number.get()))
        if len(heard) == 2:
            done.set()

    async with open_nodes("one", "two") as (one, two):
        number.set(1)
        with one.listen("a", hear), trio.fail_after(PATIENCE_S):
            number.set(2)
            one.register("a/1").set(1)
            two.register("a/2").set(2)
            await done.wait()
    assert sorted(heard) == [("a/1", 1), ("a/2", 1)]


def test_ctrl_c_ends_a_callback_that_hangs() -> None:
    """Also where trio itself must not be interrupted."""
    reached: list[str] = []

    def hang(change: Change) -> None:
        if isinstance(change, Changed):
            reached.append("begun")
            signal.raise_signal(signal.SIGINT)
            reached.append("ended")

    async def main() -> None:
        async with open_nodes("one", "two") as (one, two):
            with one.listen("", hang), trio.fail_after(PATIENCE_S):
                two.register("a").set(1)
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert reached == ["begun"]
