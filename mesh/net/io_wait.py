"""The agents' own wait for datagrams, inside the event loop's wait for anything.

For each datagram trio looks up who waits for it, makes that task runnable, runs it, is told to wait for the next one and computes
when the next timer is due: half of what a delivery costs an agent whose caches are cold. So just before trio asks the kernel
(`before_io_wait`, of the instruments that it offers), this waits for the same things by a poll of trio's own epoll. What is for
an agent, a datagram or a turn that is due, is done here and now, and the wait goes on. Anything else is trio's as ever: another
descriptor that is ready, somebody's timer, a task that what was done here made runnable. Trio has computed its time-out before,
so it is woken up for what it does not see itself. To an instrument that comes after this one all of it looks like work.

Pure but for the poll, which is injected, as the clock is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final, Protocol

from mesh.net.turns import Turns

AGENTS_MAX: Final = 4
"""In one event loop: all are asked whether what is ready is theirs. Guess: as many questions as a round of trio's costs."""
NEAR_SECONDS: Final = 0.05
"""A timer of somebody else's that is as near is left to trio: to tell it of one (`EventLoop.wake_up`) costs it a round. Guess: a
control loop of 20 Hz and more pays nothing, and what is slower hardly anything."""
SLACK_SECONDS: Final = 0.001
"""Timers that are as near to each other are one: poll(2) and epoll_wait(2) count milliseconds."""
WAIT_MAX_SECONDS: Final = 86_400.0
"""The longest wait of trio's, and of this."""
BUSY_SECONDS: Final = 0.004
"""Without a pause, until trio may do all else that is ready. As long as one look at the socket may take
(`mesh.net.udp.DRAIN_MAX`)."""
BLOCKED_SECONDS: Final = 0.0001
"""A look that took as long was a pause, or did not have the processor. Guess: a hundred times what it takes where something is
ready."""

Poll = Callable[[float], Sequence[object]]
"""Milliseconds to wait; true when anything is ready of what the event loop waits for."""


class EventLoop(Protocol):
    """What is to be known of trio's."""

    def now(self) -> float:
        """Monotonic seconds, by the agents' clock."""

    def poll(self, agents: Sequence[Turns]) -> Poll | None:
        """None: its epoll is not to be found."""

    def deadline(self) -> float:
        """The next one, by trio's own clock, the agents' alarms among them; infinity when there is none."""

    def seconds_to_deadline(self) -> float:
        """Until then; negative when it has passed."""

    def is_quiet_awaited(self) -> bool:
        """Somebody waits until nothing is to be done (`trio.testing.wait_all_tasks_blocked`, a mock clock)."""

    def wake_up(self) -> None:
        """Its next wait ends at once."""


class IoWait:
    """An instrument (`trio.abc.Instrument`) for the agents of an event loop that waits in this thread."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop, self._now = loop, loop.now
        self._poll: Poll | None = None
        self._has_looked = False
        """For the epoll."""
        self._is_called = False
        """A task is to run."""
        self.agents: list[Turns] = []

    def task_scheduled(self, _task: object) -> None:
        self._is_called = True

    def before_io_wait(self, timeout: float) -> None:
        """`timeout`: trio will wait for so long, whatever is done here. What a core raises ends its driver, as ever."""
        agents, loop = self.agents, self._loop
        if timeout < SLACK_SECONDS or len(agents) > AGENTS_MAX:
            return
        due = inf
        for turns in agents:
            if not turns.asleep or turns.has_failed:
                return
            due = min(due, turns.due)
        now = self._now()
        if (timeout < NEAR_SECONDS and due > now + timeout + SLACK_SECONDS) or loop.is_quiet_awaited():
            return
        if not self._has_looked:
            self._has_looked, self._poll = True, loop.poll(agents)
        if (poll := self._poll) is None:
            return
        self._is_called = sees = False
        for turns in agents:
            turns.is_attended = True
        try:
            sees = self._attend(poll, now, now + timeout)
        finally:
            for turns in agents:
                turns.is_attended = False
                turns.set_alarm()
            if not sees:
                loop.wake_up()

    def _attend(self, poll: Poll, ended: float, until: float) -> bool:
        """`until`: when the next timer of trio's is due. Returns whether trio sees for itself what it is to do next."""
        agents, loop = self.agents, self._loop
        deadline, since = loop.deadline(), ended
        while True:
            due = min(until, ended + WAIT_MAX_SECONDS)
            for turns in agents:
                due = min(due, turns.due)
            is_ready = bool(poll(max(0.0, due - ended) * 1000))
            now = self._now()
            if now > ended + BLOCKED_SECONDS:
                since = now
            elif now > since + BUSY_SECONDS:
                return False
            was_mine, is_stale = False, now >= until
            for turns in agents:
                if turns.visit(now, is_ready=is_ready):
                    was_mine = True
                if turns.alarm_at < turns.due:
                    is_stale = True
                if not turns.asleep or turns.has_failed:
                    return False
            ended = self._now()
            if self._is_called:
                return False
            if is_ready and not was_mine and poll(0):
                return True
            if is_stale:  # else it wakes up for nothing, when trio's alarm was to
                for turns in agents:
                    turns.set_alarm()
            elif loop.deadline() == deadline:  # nobody who was told anything moved one
                continue
            deadline, until = loop.deadline(), ended + loop.seconds_to_deadline()
            if ended >= until:
                return False
