"""The agents' own wait, in an event loop that is a script, in virtual time; inside trio's: test_event_loop.py."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf

import pytest

from crdt.ops import Key
from mesh.effects import Now
from mesh.net.io_wait import AGENTS_MAX, BUSY_SECONDS, NEAR_SECONDS, IoWait, Poll
from mesh.net.open_udp import open_udp
from mesh.net.turns import Turns
from mesh.net.udp import UdpSocket
from mesh.store.memory_journal import MemoryJournal
from tests.net.echo import EchoCore


class Script:
    """An event loop, its clock, the alarm of one agent, and somebody who writes to it."""

    def __init__(self, socket: UdpSocket, writer: UdpSocket) -> None:
        self._socket, self._writer = socket, writer
        self.time = 100.0
        self.task_at = inf  # the timer of a task
        self.looks = 0
        self.alarm_at = inf
        self.alarms: list[float] = []
        self.kicks = 0
        self.waits: list[float] = []  # seconds
        self.failed: list[BaseException] = []
        self.arrivals: deque[tuple[float, bytes | None]] = deque()  # when, a datagram or something that is trio's
        self.has_epoll = True
        self.quiet_awaited = False

    def now(self) -> float:
        return self.time

    def poll(self, agents: Sequence[Turns]) -> Poll | None:
        return self._poll if self.has_epoll else None

    def _poll(self, milliseconds: float) -> list[object]:
        assert 0 <= milliseconds <= 86_400_000
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

    def is_quiet_awaited(self) -> bool:
        return self.quiet_awaited

    def wake_up(self) -> None:
        self.kicks += 1

    # --- the alarm

    def postpone(self, due: float) -> None:
        self.alarm_at = due
        self.alarms.append(due)

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

    def __init__(self, script: Script, wait: IoWait, socket: UdpSocket) -> None:
        self.script, self.wait = script, wait
        self.core = EchoCore()
        self.core.rests = self.core.settles_at_once = True
        self.on_change: Callable[[], object] = lambda: None
        self.turns = Turns(
            self.core, socket, self, MemoryJournal(), ScriptClock(script), on_changes=self._told, on_events=lambda _events: None
        )
        self.turns.alarm = script
        wait.agents.append(self.turns)
        self.sleep(inf)

    def sleep(self, due: float) -> None:
        self.core.deadline = due
        self.script.alarm_at = self.turns.begin_wait()
        self.turns.asleep = True

    def _told(self, _changes: Sequence[Key]) -> None:
        self.on_change()

    def submit(self, _batch: object) -> None:
        raise AssertionError("nothing was written")

    def run(self) -> None:
        """As trio does it before it waits."""
        self.wait.before_io_wait(self.script.seconds_to_deadline())


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    with await open_udp("127.0.0.1:0") as socket, await open_udp("127.0.0.1:0") as writer:
        script = Script(socket, writer)
        yield Scene(script, IoWait(script), socket)


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
    scene.sleep(100.5)
    scene.on_change = lambda: setattr(scene.core, "deadline", 100.7)
    scene.script.arrivals += [(100.1, b"1"), (110.0, None)]
    scene.run()
    assert [now.monotonic for now in scene.core.ticks] == [100.7]
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


@pytest.mark.parametrize(
    ("deadline", "due", "enters"),
    [
        (100.0 + NEAR_SECONDS / 2, inf, False),
        (100.0 + NEAR_SECONDS * 2, inf, True),
        (160.0, 100.0 + NEAR_SECONDS / 2, True),
        (100.0, 100.0, False),
        (99.0, inf, False),
        (100.0 + NEAR_SECONDS / 2, 100.0 + NEAR_SECONDS / 4, True),
    ],
)
async def test_a_near_timer_of_somebody_else_is_left_to_trio(scene: Scene, deadline: float, due: float, *, enters: bool) -> None:
    scene.script.task_at = deadline
    scene.sleep(due)
    scene.script.arrivals.append((100.0, None))
    scene.run()
    assert bool(scene.script.waits) is enters


async def test_who_waits_until_nothing_is_to_be_done_finds_that(scene: Scene) -> None:
    """Also where an agent has a turn before."""
    scene.script.task_at = 160.0
    scene.script.quiet_awaited = True
    for due in (inf, 101.0):
        scene.sleep(due)
        scene.run()
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


async def test_a_deadline_of_the_agents_that_comes_nearer_is_kept(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.on_change = lambda: setattr(scene.core, "deadline", 100.7)
    scene.script.arrivals += [(100.1, b"1"), (100.9, None)]
    scene.run()
    assert [now.monotonic for now in scene.core.ticks] == [100.7]


async def test_the_alarm_is_set_when_the_wait_is_over(scene: Scene) -> None:
    """To move one costs trio more than to read a header."""
    scene.script.task_at = 160.0
    deadlines = iter([100.8, 100.7])
    scene.on_change = lambda: setattr(scene.core, "deadline", next(deadlines))
    scene.script.arrivals += [(100.1, b"1"), (100.2, b"2"), (100.3, None)]
    scene.run()
    assert scene.script.alarms == [100.7]
    scene.turns.wait_until(105.0)
    assert scene.script.alarms == [100.7, 105.0], "nobody attends to it any more"


async def test_with_no_timer_at_all_it_waits_for_a_day_at_most(scene: Scene) -> None:
    """Regression: the kernel was asked to wait by a number that poll(2) does not have, and the agents lost their alarms."""
    scene.script.task_at = 101.0
    scene.on_change = lambda: setattr(scene.script, "task_at", inf)
    scene.script.arrivals += [(100.5, b"1"), (100.0 + 200_000.0, None)]
    scene.run()
    assert scene.script.time == 200_100.0
    scene.script.arrivals[0] = (scene.script.time + 10, b"2")
    scene.script.arrivals.append((scene.script.time + 20, None))
    scene.wait.before_io_wait(86_400.0)
    assert scene.core.received == [1, 2], "trio waits for a day, too, where nobody has a timer"


async def test_an_alarm_that_was_put_off_wakes_nobody(scene: Scene) -> None:
    """Regression: an idle agent woke up twice as often, once when its turn had been due before a ping came."""
    scene.script.task_at = 160.0
    scene.sleep(101.0)
    scene.on_change = lambda: setattr(scene.core, "deadline", 105.0)
    scene.script.arrivals += [(100.5, b"1"), (104.0, None)]
    scene.run()
    assert scene.script.waits == [1.0, 4.5, 0.0], "at the end whether that is really there"
    assert scene.script.alarms == [105.0]


async def test_a_turn_that_is_late_comes_after_what_has_arrived(scene: Scene) -> None:
    now = scene.script.time = 101.0
    scene.sleep(100.5)
    scene.script.arrivals.append((now, b"1"))
    scene.script._poll(0.0)  # it is in the socket, and the last look was before
    order: list[str] = []
    scene.on_change = lambda: order.append("told")
    scene.core.tick = lambda now: order.append("turn")  # type: ignore[method-assign]
    assert scene.turns.visit(now, is_ready=False)
    assert scene.core.received == [1]
    assert order[0] == "turn", "told by the turn itself, since it follows at once"


async def test_what_is_no_exception_ends_the_driver_too(scene: Scene) -> None:
    def leave() -> None:
        raise SystemExit(3)

    scene.on_change = leave
    scene.script.task_at = 160.0
    scene.script.arrivals.append((101.0, b"1"))
    scene.run()
    assert [type(error) for error in scene.script.failed] == [SystemExit]
    scene.script.arrivals.append((101.0, b"2"))
    scene.script._poll(0.0)  # it is in the socket
    assert not scene.turns.visit(102.0, is_ready=True), "a core that has failed is not asked again"
    assert scene.core.received == [1]
    assert len(scene.script.failed) == 1


async def test_after_a_turn_what_rests_is_settled_in_time(scene: Scene) -> None:
    scene.core.settles_at_once = False
    scene.turns.rest_seconds = 5.0
    scene.core.unsettled = Now(100.0, 0)
    assert scene.turns.begin_wait() == 105.0
    scene.script.time = 105.0
    scene.core.tick = lambda now: setattr(scene.core, "unsettled", now)  # type: ignore[method-assign]
    assert scene.turns.visit(105.0, is_ready=False)
    assert scene.turns.due == 110.0


async def test_all_agents_of_the_event_loop_are_asked(scene: Scene) -> None:
    with await open_udp("127.0.0.1:0") as socket:
        other = Scene(scene.script, scene.wait, socket)
        scene.script.task_at = 160.0
        other.sleep(100.3)
        scene.on_change = lambda: setattr(scene.script, "task_at", 100.45)
        scene.script.arrivals += [(100.1, b"1"), (100.2, b"2")]
        scene.run()
        assert scene.core.received == [1, 2]
        assert [now.monotonic for now in other.core.ticks] == [100.3]
        assert scene.script.time == 100.45, "a deadline that the first one moved"
        assert scene.script.kicks == 1


@pytest.mark.parametrize("what", ["asleep", "has_failed"])
async def test_trio_is_woken_up_where_an_agent_was_called_or_failed(scene: Scene, what: str) -> None:
    with await open_udp("127.0.0.1:0") as socket:
        other = Scene(scene.script, scene.wait, socket)
        scene.script.task_at = 160.0
        scene.on_change = lambda: setattr(other.turns, what, what == "has_failed")
        scene.script.arrivals += [(101.0, b"1"), (102.0, b"2")]
        scene.run()
        assert scene.core.received == [1]
        assert scene.script.kicks == 1


async def test_with_many_agents_trio_knows_better_who_is_meant(scene: Scene) -> None:
    scene.script.task_at = 160.0
    scene.wait.agents += [scene.turns] * AGENTS_MAX
    scene.run()
    assert scene.script.waits == []
