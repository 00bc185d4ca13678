"""The agents' own wait for datagrams, inside the event loop's wait for anything.

For each datagram trio looks up who waits for it, makes that task runnable, runs it, is told to wait for the next one and computes
when the next timer is due: half of what a delivery costs an agent whose caches are cold. So just before trio asks the kernel
(`before_io_wait`, of the instruments that it offers), this waits for the same things by a poll of trio's own epoll. What is for
an agent, a datagram or a turn that is due, is done here and now, and the wait goes on. Anything else is trio's as ever: another
descriptor that is ready, somebody's timer, a task that what was done here made runnable.

Pure but for the poll, which is injected, as the clock is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final, Protocol

from mesh.net.turns import Turns

LEAST_SECONDS: Final = 0.05
"""A timer of somebody else's that is as near is left to trio: to tell it of one (`EventLoop.kick`) costs it a round. Guess: a
control loop of 20 Hz and more pays nothing, and what is slower hardly anything."""
SLACK_SECONDS: Final = 0.001
"""Timers that are as near to each other are one: the kernel's have steps of a millisecond here."""
BUSY_SECONDS: Final = 0.004
"""Without a pause, until trio may do all else: no flood of datagrams keeps it from that. As long as one look at the socket may
take (`mesh.net.udp.DRAIN_MAX`)."""
PAUSE_SECONDS: Final = 0.0001
"""A look that took as long has waited, or did not have the processor. Guess: a hundred times what it takes where something is
ready."""

Poll = Callable[[float], Sequence[object]]
"""Milliseconds to wait; true when anything is ready of what the event loop waits for."""


class EventLoop(Protocol):
    """What is to be known of trio's."""

    def now(self) -> float:
        """Monotonic seconds, by the agents' clock."""

    def poll(self, agents: Sequence[Turns]) -> Poll | None:
        """None: what it waits for is not to be found."""

    def deadline(self) -> float:
        """Of the tasks, the next one, by trio's own clock; infinity when there is none."""

    def seconds_to_deadline(self) -> float:
        """Until then; negative when it has passed."""

    def kick(self) -> None:
        """Whatever it waits for next ends at once."""


class IoWait:
    """An instrument (`trio.abc.Instrument`) for all agents of an event loop that waits in this thread."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop, self._now = loop, loop.now
        self._poll: Poll | None = None
        self._is_sought = False
        self._is_called = False
        """A task is to run."""
        self.agents: list[Turns] = []

    def task_scheduled(self, _task: object) -> None:
        self._is_called = True

    def before_io_wait(self, timeout: float) -> None:
        """`timeout`: trio will wait for so long, whatever is done here. What a core raises ends its driver, as ever."""
        if timeout < SLACK_SECONDS:
            return
        due, agents = inf, self.agents
        for turns in agents:
            if not turns.asleep or turns.has_failed:
                return
            due = min(due, turns.due)
        now = self._now()
        if due > now + timeout + SLACK_SECONDS and (
            timeout < LEAST_SECONDS or timeout + SLACK_SECONDS < self._loop.seconds_to_deadline()
        ):
            return  # a near timer of somebody else's, or somebody waits until all is quiet (`trio.testing`)
        if not self._is_sought:
            self._is_sought, self._poll = True, self._loop.poll(agents)
        if (poll := self._poll) is None:
            return
        for turns in agents:
            turns.is_attended = True
        self._is_called = False
        is_over = self._attend(poll, now, now + timeout)
        for turns in agents:
            turns.is_attended = False
            turns.set_alarm()
        if not is_over:
            self._loop.kick()

    def _attend(self, poll: Poll, now: float, until: float) -> bool:
        """`until`: when the next timer of trio's is due. Returns whether trio finds by itself what it is to do next."""
        agents, loop = self.agents, self._loop
        deadline, began, ended = loop.deadline(), now, now
        while True:
            due = until
            for turns in agents:
                due = min(due, turns.due)
            is_ready = bool(poll(max(0.0, due - ended) * 1000))
            now = self._now()
            if now > ended + PAUSE_SECONDS:
                began = now
            elif now > began + BUSY_SECONDS:
                return False
            came = has_told = False
            for turns in agents:
                turns.has_told = False
                came |= turns.visit(now, is_ready=is_ready)
                has_told |= turns.has_told
                if not turns.asleep or turns.has_failed:
                    return False
            ended = self._now()
            if self._is_called:
                return False
            if is_ready and not came and poll(0):
                return True
            if now >= until:
                for turns in agents:
                    turns.set_alarm()  # trio may have heard of an earlier one
            elif not has_told or loop.deadline() == deadline:  # who was told may have moved any
                continue
            deadline, until = loop.deadline(), ended + loop.seconds_to_deadline()
            if ended >= until:
                return False
