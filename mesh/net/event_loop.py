"""What an agent's wait (`mesh.net.io_wait`) needs of trio and of Linux, and the task for which trio comes round."""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Final, cast

import trio

from mesh.net.clock import SystemClock
from mesh.net.io_wait import IoWait, Poll
from mesh.net.turns import Turns

log: Final = logging.getLogger("mesh.net.event_loop")


class TrioLoop:
    """The event loop of this thread."""

    def __init__(self) -> None:
        self.now = time.monotonic  # as the agents' clock (`mesh.net.clock.SystemClock`)
        self.bells: list[int] = []
        """Event counters (eventfd(2)), for each of which a task waits. `TrioToken.run_sync_soon` does the same by a lock, a queue
        and a socket: told by a task, a write took 1.12 of the time to be with all of 32 processes."""
        self.deadline = _next_deadline()

    def poll(self, agents: Sequence[Turns]) -> Poll | None:
        epolls = epolls_with(agents[0].socket.fileno())
        if len(epolls) != 1:
            return None
        poll = select.poll()
        poll.register(epolls[0], select.POLLIN)
        return poll.poll

    def seconds_to_deadline(self) -> float:
        return self.deadline() - trio.current_time()

    def kick(self) -> None:
        os.eventfd_write(self.bells[0], 1)


def _next_deadline() -> Callable[[], float]:
    """What `trio.lowlevel.current_statistics` tells, in one call instead of ten: it is asked at each delivery that calls anybody,
    and where 32 agents share two cores a write was with all of them in 0.92 of the time. No part of what trio promises: where it
    is not found, the statistics are read."""

    def by_statistics() -> float:
        return trio.current_time() + trio.lowlevel.current_statistics().seconds_to_next_deadline

    try:
        return trio.lowlevel.current_task()._runner.deadlines.next_deadline
    except AttributeError:
        return by_statistics


def epolls_with(descriptor: int) -> list[int]:
    """The epolls of this process that have it (proc(5), fdinfo). None where the system does not say."""
    found = []
    try:
        for name in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # closed meanwhile: the one by which the folder was read
                if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]" and _has(int(name), descriptor):
                    found.append(int(name))
    except OSError as error:
        log.debug("this system does not say what its event loops wait for: %s", error)
        return []
    return found


def _has(epoll: int, descriptor: int) -> bool:
    with open(f"/proc/self/fdinfo/{epoll}", encoding="ascii") as lines:
        return any(line.split()[:2] == ["tfd:", str(descriptor)] for line in lines)


class _Inside:
    """trio's wait of this event loop, and what waits in it."""

    def __init__(self) -> None:
        self._loop = TrioLoop()
        self._wait = IoWait(self._loop)
        self._instrument = cast("trio.abc.Instrument", self._wait)  # by its shape: what is compiled inherits from nothing else

    @property
    def agents(self) -> Sequence[Turns]:
        return self._wait.agents

    def add(self, turns: Turns, bell: int) -> None:
        if not self._wait.agents:
            trio.lowlevel.add_instrument(self._instrument)
        self._loop.bells.append(bell)
        self._wait.agents.append(turns)

    def remove(self, turns: Turns, bell: int) -> None:
        self._wait.agents.remove(turns)
        self._loop.bells.remove(bell)
        if not self._wait.agents:
            trio.lowlevel.remove_instrument(self._instrument)


_INSIDE: Final = trio.lowlevel.RunVar[_Inside]("gossipmesh.net.event_loop")


async def wait_inside(turns: Turns) -> None:
    """While it runs, what comes for this agent is taken in where the event loop waits. Returns at once where that cannot be."""
    if sys.platform != "linux" or not _waits_in_this_thread() or not isinstance(turns.clock, SystemClock):
        await trio.lowlevel.checkpoint()
        return
    try:
        inside = _INSIDE.get()
    except LookupError:
        inside = _Inside()
        _INSIDE.set(inside)
    try:
        bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    except OSError as error:  # too many files, or a kernel without it
        log.debug("trio takes in the datagrams: %s", error)
        return
    inside.add(turns, bell)
    try:
        while True:
            await trio.lowlevel.wait_readable(bell)
            os.eventfd_read(bell)
    finally:
        inside.remove(turns, bell)
        os.close(bell)


def _waits_in_this_thread() -> bool:
    """Not so in guest mode: there another event loop runs this one."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is trio.run.__code__:
            return True
        frame = frame.f_back
    return False
