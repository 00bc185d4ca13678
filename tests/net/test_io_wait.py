"""The agents' own wait: first against an event loop that is a script, in virtual time, then inside trio's."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf
from queue import SimpleQueue
from typing import Any

import pytest
import trio
import trio.testing

from crdt.ops import Key
from mesh.effects import Now
from mesh.net import event_loop
from mesh.net.event_loop import epolls_with
from mesh.net.io_wait import BUSY_SECONDS, LEAST_SECONDS, IoWait, Poll
from mesh.net.open_udp import open_udp
from mesh.net.turns import Turns
from mesh.net.udp import UdpSocket
from mesh.store.memory_journal import MemoryJournal
from tests.net.agents import agent
from tests.net.echo import EchoCore


class Script:
    """An event loop, its clock, the alarm of one agent, and somebody who writes to it."""

    def __init__(self, socket: UdpSocket, writer: UdpSocket) -> None:
        self._socket, self._writer = socket, writer
        self.time = 100.0
        self.task_at = inf  # the timer of a task
        self.looks = 0
        self.alarm_at = inf
        self.kicks = 0
        self.waits: list[float] = []  # seconds
        self.failed: list[BaseException] = []
        self.arrivals: deque[tuple[float, bytes | None]] = deque()  # when, a datagram or something that is trio's
        self.has_epoll = True

    def now(self) -> float:
        return self.time

    def poll(self, agents: Sequence[Turns]) -> Poll | None:
        return self._poll if self.has_epoll else None

    def _poll(self, milliseconds: float) -> list[object]:
        if milliseconds == 0 and (not self.arrivals or self.arrivals[0][0] > self.time):
            return []
        self.waits.append(milliseconds / 1000)
        until = self.time + milliseconds / 1000
        if not self.arrivals or self.arrivals[0][0] > until:
            assert until < inf, "it would wait for ever"
            self.time = until
            return []
        self.time = max(self.time, self.arrivals[0][0])
        if (datagram := self.arrivals[0][1]) is not None:  # what is trio's stays until trio comes
            self.arrivals.popleft()
            if datagram:
                self._writer.send(datagram, self._socket.address)
        return [object()]

    def deadline(self) -> float:
        self.looks += 1
        return min(self.task_at, self.alarm_at)

    def seconds_to_deadline(self) -> float:
        return self.deadline() - self.time

    def kick(self) -> None:
        self.kicks += 1

    # --- the alarm

    def postpone(self, due: float) -> None:
        self.alarm_at = due

    def ring(self) -> None:
        raise AssertionError("nobody called")

    def turned(self) -> None:
        raise AssertionError("nobody waits for a turn")

    def fail(self, error: BaseException) -> None:
        self.failed.append(error)


class ScriptClock:
    def __init__(self, script: Script) -> None:
        self._script = script

    def now(self) -> Now:
        return Now(self._script.time, 0)


class Scene:
    """One agent, whose core rests, asleep."""

    def __init__(self, socket: UdpSocket, writer: UdpSocket) -> None:
        self.script = script = Script(socket, writer)
        self.core = EchoCore()
        self.core.rests = self.core.settles_at_once = True
        self.on_change: Callable[[], object] = lambda: None
        self.calls = True
        self.turns = Turns(
            self.core, socket, self, MemoryJournal(), ScriptClock(script), on_changes=self._told, on_events=lambda _events: None
        )
        self.turns.alarm = script
        self.wait = IoWait(script)
        self.wait.agents.append(self.turns)
        self.sleep(inf)

    def sleep(self, due: float) -> None:
        self.core.deadline = due
        self.script.alarm_at = self.turns.begin_wait()
        self.turns.asleep = True

    def _told(self, _changes: Sequence[Key]) -> bool:
        self.on_change()
        return self.calls

    def submit(self, _batch: object) -> None:
        raise AssertionError("nothing was written")

    def run(self) -> None:
        """As trio does it before it waits."""
        self.wait.before_io_wait(self.script.seconds_to_deadline())


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    with await open_udp("127.0.0.1:0") as socket, await open_udp("127.0.0.1:0") as writer:
        yield Scene(socket, writer)


async def test_datagrams_are_taken_in_until_there_is_something_for_trio(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.script.arrivals += [(101.0, b"1"), (102.0, b"2"), (103.0, None), (104.0, b"3")]
    scene.run()
    assert scene.core.received == [1, 2]
    assert scene.script.time == 103.0
    assert scene.script.kicks == 0, "trio sees for itself what there is"
    assert scene.core.ticks == []


async def test_a_turn_that_is_due_is_made_and_the_alarm_hears_of_the_next_one(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.sleep(101.0)
    scene.script.arrivals += [(101.5, b"1"), (102.0, None)]
    scene.run()
    assert [now.monotonic for now in scene.core.ticks] == [101.0]
    assert scene.core.received == [1]
    assert scene.script.alarm_at == inf, "the core has no deadline any more"
    assert scene.script.kicks == 0


async def test_somebodys_timer_ends_the_wait(scene: Scene) -> None:
    scene.script.task_at = 105.0
    scene.script.arrivals += [(101.0, b"1")]
    scene.run()
    assert scene.script.time == 105.0
    assert scene.script.kicks == 1, "trio would wait for another five seconds"


async def test_a_timer_that_was_put_off_does_not_end_the_wait(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.sleep(105.0)
    scene.on_change = lambda: setattr(scene.core, "deadline", 107.0)
    scene.script.arrivals += [(101.0, b"1"), (110.0, None)]
    scene.run()
    assert [now.monotonic for now in scene.core.ticks] == [107.0]
    assert scene.script.time == 110.0
    assert scene.script.kicks == 0


async def test_what_a_callback_makes_runnable_runs_at_once(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.on_change = lambda: scene.wait.task_scheduled(object())
    scene.script.arrivals += [(101.0, b"1"), (101.0, b"2")]
    scene.run()
    assert scene.core.received == [1]
    assert scene.script.kicks == 1


async def test_a_deadline_that_a_callback_moves_is_kept(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.on_change = lambda: setattr(scene.script, "task_at", 102.0)
    scene.script.arrivals += [(101.0, b"1")]
    scene.run()
    assert scene.script.waits[0] == 60.0
    assert scene.script.time == 102.0
    assert scene.script.kicks == 1


async def test_the_timers_are_not_asked_after_where_nobody_was_called(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.calls = False
    scene.script.arrivals += [(101.0, b"1"), (102.0, None)]
    scene.wait.before_io_wait(60.0)
    assert scene.core.received == [1]
    looks, scene.calls = scene.script.looks, True
    scene.script.arrivals.appendleft((101.0, b"2"))
    scene.wait.before_io_wait(60.0)
    assert scene.script.looks == 2 * looks + 1


@pytest.mark.parametrize(
    ("deadline", "due", "enters"),
    [
        (100.0 + LEAST_SECONDS / 2, inf, False),
        (100.0 + LEAST_SECONDS * 2, inf, True),
        (160.0, 100.0 + LEAST_SECONDS / 2, True),
        (100.0, 100.0, False),
        (99.0, inf, False),
        (100.0 + LEAST_SECONDS / 2, 100.0 + LEAST_SECONDS / 4, True),
    ],
)
async def test_a_near_timer_of_somebody_else_is_left_to_trio(scene: Scene, deadline: float, due: float, *, enters: bool) -> None:
    scene.script.task_at = deadline
    scene.sleep(due)
    scene.script.arrivals.append((100.0, None))
    scene.run()
    assert bool(scene.script.waits) is enters


async def test_who_waits_until_nothing_is_to_be_done_finds_that(scene: Scene) -> None:
    """`wait_all_tasks_blocked` and a mock clock make trio wait for less than until its next deadline."""
    scene.script.task_at = 160.0
    scene.wait.before_io_wait(1.0)
    assert scene.script.waits == []


async def test_who_was_called_or_has_failed_is_left_alone(scene: Scene) -> None:
    scene.script.task_at = 160.0
    for asleep, failed in ((False, False), (True, True)):
        scene.turns.asleep, scene.turns.has_failed = asleep, failed
        scene.run()
    assert scene.script.waits == []


async def test_where_no_epoll_is_found_trio_waits(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.script.has_epoll = False
    scene.run()
    scene.script.has_epoll = True
    scene.run()
    assert scene.script.waits == []
    assert scene.script.kicks == 0


async def test_a_flood_does_not_keep_trio_from_all_else(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.on_change = lambda: setattr(scene.script, "time", scene.script.time + BUSY_SECONDS / 10)
    scene.script.arrivals += [(101.0, b"7")] * 100
    scene.run()
    assert 9 <= len(scene.core.received) <= 11
    assert scene.script.kicks == 1


async def test_where_there_are_pauses_trio_is_not_asked(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.on_change = lambda: setattr(scene.script, "time", scene.script.time + BUSY_SECONDS / 10)
    scene.script.arrivals += [*((101.0 + number * BUSY_SECONDS / 5, b"7") for number in range(100)), (110.0, None)]
    scene.run()
    assert len(scene.core.received) == 100
    assert scene.script.kicks == 0


async def test_a_deadline_that_stays_in_the_past_does_not_keep_trio_from_all_else(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.sleep(101.0)

    def tick(now: Now) -> None:
        scene.script.time += BUSY_SECONDS / 10

    scene.core.tick = tick  # type: ignore[method-assign]
    scene.run()
    assert scene.script.kicks == 1


async def test_a_core_that_fails_ends_its_driver(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.core.poison = True
    scene.script.arrivals += [(101.0, b"1"), (102.0, None)]
    scene.run()
    assert [str(error) for error in scene.script.failed] == ["a bug in the core"]
    assert scene.turns.has_failed


async def test_what_is_ready_and_holds_nothing_ends_no_wait(scene: Scene) -> None:
    """As a datagram whose checksum is wrong: the kernel says that there is something, and then that there is not."""
    scene.script.task_at = 160.0
    scene.script.arrivals += [(101.0, b""), (102.0, b"1"), (103.0, None)]
    scene.run()
    assert scene.core.received == [1]
    assert scene.script.time == 103.0


# --- inside trio


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

        def told(_changes: Sequence[Key]) -> bool:
            if messages in one.core.received + two.core.received:
                done.set()
            return True

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


async def test_agents_come_and_go() -> None:
    inside = event_loop._INSIDE
    for _ in range(2):
        async with agent() as one, agent() as two, trio.open_nursery() as nursery:
            await nursery.start(one.driver.run)
            await nursery.start(two.driver.run)
            await trio.testing.wait_all_tasks_blocked()
            assert len(inside.get().agents) == 2
            nursery.cancel_scope.cancel()
        assert not inside.get().agents


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
                event_loop._INSIDE.get()
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


async def test_the_next_deadline_is_what_the_statistics_say(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = event_loop._next_deadline()
    monkeypatch.delattr(trio.lowlevel.current_task()._runner, "deadlines")
    slow = event_loop._next_deadline()
    monkeypatch.undo()
    assert quick is not slow
    for seconds in (50.0, 5.0, inf):
        with trio.move_on_after(seconds):
            await trio.lowlevel.checkpoint()
            assert quick() == pytest.approx(slow(), abs=1.0)


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
