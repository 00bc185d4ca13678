"""The agents' own wait inside trio's: real sockets, and what else trio has to do."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Sequence
from math import inf
from queue import SimpleQueue
from types import SimpleNamespace as Namespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from crdt.ops import Key
from mesh.effects import Now
from mesh.events import Change, Changed
from mesh.net import event_loop
from mesh.net.clock import SystemClock
from mesh.net.event_loop import epolls_with, waiting_inside
from mesh.net.open_udp import open_udp
from tests.net.agents import agent
from tests.node.agents import open_nodes


class AnotherClock:
    def now(self) -> Now:
        return Now(0.0, 0)


class Rounds(trio.abc.Instrument):
    def __init__(self) -> None:
        self.number = 0

    def after_io_wait(self, timeout: float) -> None:
        self.number += 1


async def _talk(messages: int) -> int:
    """Two agents say numbers to each other. Returns how often the event loop came round."""
    rounds = Rounds()
    done = trio.Event()
    async with agent(messages) as one, agent(messages) as two, trio.open_nursery() as nursery:
        await nursery.start(one.driver.run)
        await nursery.start(two.driver.run)

        def told(_changes: Sequence[Key]) -> None:
            if messages in one.core.received + two.core.received:
                done.set()

        for each in (one, two):
            each.core.rests = each.core.settles_at_once = True
            each.driver.turns._on_changes = told
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(rounds)
        one.core.write(0, two.socket.address)
        one.driver.wake()
        with trio.fail_after(30):
            await done.wait()
        trio.lowlevel.remove_instrument(rounds)
        assert sorted(one.core.received + two.core.received) == list(range(messages + 1))
        nursery.cancel_scope.cancel()
    return rounds.number


@pytest.mark.skipif("sys.platform != 'linux'")
async def test_datagrams_do_not_make_the_event_loop_go_round() -> None:
    assert await _talk(100) < 20


async def test_without_it_they_do_and_all_arrives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "epolls_with", lambda _descriptor: [])
    assert await _talk(100) > 100


@pytest.mark.skipif("sys.platform != 'linux'")
async def test_agents_come_and_go() -> None:
    wait = event_loop._WAIT
    for _ in range(2):
        async with agent() as one, agent() as two, trio.open_nursery() as nursery:
            await nursery.start(one.driver.run)
            await nursery.start(two.driver.run)
            await trio.testing.wait_all_tasks_blocked()
            assert len(wait.get().agents) == 2
            nursery.cancel_scope.cancel()
        assert not wait.get().agents
        with pytest.raises(KeyError):  # it is in nobody's way
            trio.lowlevel.remove_instrument(cast("trio.abc.Instrument", wait.get()))


@pytest.mark.skipif("sys.platform != 'linux'")
async def test_the_epoll_that_has_a_socket_is_found_and_no_other() -> None:
    async with agent() as one, trio.open_nursery() as nursery:
        assert epolls_with(one.socket.fileno()) == []
        await nursery.start(one.driver.run)
        await trio.testing.wait_all_tasks_blocked()
        assert len(epolls_with(one.socket.fileno())) == 1
        nursery.cancel_scope.cancel()


def test_in_guest_mode_the_host_is_never_kept_waiting() -> None:
    """There trio's wait is in another thread: a wait of ours would stop the host's event loop."""
    todo: SimpleQueue[Callable[[], object]] = SimpleQueue()
    outcomes: list[Any] = []

    async def main() -> int:
        async with agent(9) as one, agent(9) as two, trio.open_nursery() as nursery:
            await nursery.start(one.driver.run)
            await nursery.start(two.driver.run)
            with pytest.raises(LookupError):
                event_loop._WAIT.get()
            one.core.write(0, two.socket.address)
            one.driver.wake()
            with trio.fail_after(30):
                while 9 not in one.core.received:  # noqa: ASYNC110 - plain data
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        return len(one.core.received)

    trio.lowlevel.start_guest_run(main, run_sync_soon_threadsafe=todo.put, done_callback=outcomes.append)
    while not outcomes:
        todo.get(timeout=30)()
    assert outcomes[0].unwrap() == 5


async def test_the_next_deadline_is_what_the_statistics_say() -> None:
    loop = event_loop.TrioLoop()
    for seconds in (50.0, 5.0, inf):
        with trio.move_on_after(seconds):
            await trio.lowlevel.checkpoint()
            assert loop.seconds_to_deadline() == pytest.approx(
                trio.lowlevel.current_statistics().seconds_to_next_deadline, abs=1.0
            )


async def test_another_trio_is_left_to_itself(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Elsewhere:
        deadlines = None

    def current_task() -> Any:
        return Namespace(_runner=Elsewhere())

    monkeypatch.setattr(trio.lowlevel, "current_task", current_task)
    assert event_loop._wait_of_this_run() is None
    assert "next_deadline" in caplog.text


async def test_who_waits_for_quiet_finds_it_beside_agents() -> None:
    """Regression: where an agent had a turn before the time had passed, trio never saw that somebody waits."""
    async with open_nodes("one", "two"):
        for _ in range(5):
            with trio.fail_after(60):
                await trio.testing.wait_all_tasks_blocked(0.1)


async def test_a_mock_clock_jumps_beside_agents(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02
    async with agent() as one, trio.open_nursery() as nursery:
        await nursery.start(one.driver.run)
        with trio.fail_after(1000):
            await trio.sleep(900)
        nursery.cancel_scope.cancel()


async def test_a_callback_may_cancel_the_agent_that_calls_it() -> None:
    """Regression: nobody listened any more to what was to wake up the event loop, and it slept until somebody's timer."""
    with await open_udp("127.0.0.1:0") as writer, trio.fail_after(60):
        async with agent() as one, trio.open_nursery() as nursery:
            one.core.rests = one.core.settles_at_once = True
            one.driver.turns._on_changes = lambda _changes: nursery.cancel_scope.cancel()
            await nursery.start(one.driver.run)
            await trio.testing.wait_all_tasks_blocked()
            writer.send(b"1", one.socket.address)
            await trio.sleep_forever()
    assert one.driver.has_ended


async def test_who_was_woken_up_sleeps_again() -> None:
    with await open_udp("127.0.0.1:0") as writer, trio.fail_after(30):
        async with agent() as one, trio.open_nursery() as nursery:
            told = trio.Event()
            one.core.rests = one.core.settles_at_once = True
            one.driver.turns._on_changes = lambda _changes: told.set()
            await nursery.start(one.driver.run)
            await trio.testing.wait_all_tasks_blocked()
            writer.send(b"1", one.socket.address)
            await told.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()


async def test_a_deadline_that_a_listener_moves_is_kept() -> None:
    async with open_nodes("one", "two") as (one, two):
        with trio.CancelScope(deadline=trio.current_time() + 60.0) as scope:

            def hear(change: Change) -> None:
                if isinstance(change, Changed):
                    scope.deadline = trio.current_time() + 0.06

            with one.listen("stop", hear):
                two.register("stop").set(True)
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() < scope.deadline + 30.0


@pytest.mark.parametrize(("module", "name"), [("os", "eventfd"), ("os", "listdir")])
async def test_where_the_system_does_not_help_all_arrives_the_same(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError("none of these today")

    monkeypatch.setattr(f"{module}.{name}", refuse)
    assert await _talk(100) > 100


async def test_an_agent_with_another_clock_and_what_is_no_epoll_of_trios_alone_are_left_to_trio() -> None:
    async with agent() as one, trio.open_nursery() as nursery:
        with waiting_inside(one.driver.turns):
            assert event_loop._WAIT.get().agents == [one.driver.turns]
        one.driver.turns.clock = AnotherClock()
        with waiting_inside(one.driver.turns):
            assert not event_loop._WAIT.get().agents
        one.driver.turns.clock = SystemClock()
        with select.epoll() as other:
            other.register(one.socket.fileno(), select.EPOLLIN)
            await nursery.start(one.driver.run)
            await trio.testing.wait_all_tasks_blocked()
            assert len(epolls_with(one.socket.fileno())) == 2
            assert event_loop.TrioLoop().poll([one.driver.turns]) is None
        nursery.cancel_scope.cancel()


def test_nothing_is_left_open() -> None:
    async def main() -> None:
        async with agent() as one, trio.open_nursery() as nursery:
            await nursery.start(one.driver.run)
            nursery.cancel_scope.cancel()

    trio.run(main)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        trio.run(main)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_thread_is_heard_while_it_waits() -> None:
    async with agent() as one, trio.open_nursery() as nursery:
        await nursery.start(one.driver.run)
        await trio.testing.wait_all_tasks_blocked()
        heard = trio.Event()
        token = trio.lowlevel.current_trio_token()
        thread = threading.Thread(target=lambda: token.run_sync_soon(heard.set))
        thread.start()
        with trio.fail_after(30):
            await heard.wait()
        thread.join()
        nursery.cancel_scope.cancel()
