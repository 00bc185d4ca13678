"""What an agent's wait (`mesh.net.io_wait`) needs of trio and of Linux, and how it gets into trio's."""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from types import FrameType
from typing import Final, cast

import trio

from mesh.net.clock import SystemClock
from mesh.net.io_wait import IoWait, Poll
from mesh.net.turns import Turns

log: Final = logging.getLogger("mesh.net.event_loop")


class TrioLoop:
    """The event loop of this thread. Raises OSError where there is no descriptor to be had.

    Two things trio tells nobody in public: whether somebody waits for quiet, and, without computing eight other figures, its next
    deadline. That is asked at each delivery: by `current_statistics` a write took 1.08 times as long to be with all of 32 agents
    on two cores. Raises AttributeError where trio keeps them elsewhere.
    """

    def __init__(self) -> None:
        self.now = time.monotonic  # as the agents' clock (`mesh.net.clock.SystemClock`)
        self._runner = trio.lowlevel.current_task()._runner
        self.deadline = self._runner.deadlines.next_deadline
        self.is_quiet_awaited()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        trio.lowlevel.spawn_system_task(_woken, self._wakeup, name="gossipmesh: woken up")

    def poll(self, agents: Sequence[Turns]) -> Poll | None:
        epolls = epolls_with(agents[0].socket.fileno())
        if len(epolls) != 1:
            return None
        poll = select.poll()
        poll.register(epolls[0], select.POLLIN)
        return poll.poll

    def seconds_to_deadline(self) -> float:
        return self.deadline() - trio.current_time()

    def is_quiet_awaited(self) -> bool:
        return bool(self._runner.waiting_for_idle) or self._runner.clock_autojump_threshold < inf

    def wake_up(self) -> None:
        os.eventfd_write(self._wakeup, 1)


async def _woken(wakeup: int) -> None:
    """Trio ends its wait since a task waits for this event counter (eventfd(2)). It is no task of an agent's: a callback may
    cancel those. `TrioToken.run_sync_soon` would do the same by a lock, a queue and a socket: a write that a task is told of
    takes 1.12 times as long to be with all of 32 processes (measured)."""
    try:
        while True:
            await trio.lowlevel.wait_readable(wakeup)
            os.eventfd_read(wakeup)
    finally:
        os.close(wakeup)


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


_WAIT: Final = trio.lowlevel.RunVar[IoWait]("gossipmesh.net.io_wait")


@contextmanager
def waiting_inside(turns: Turns) -> Iterator[None]:
    """What comes for this agent is taken in where the event loop waits, if that is possible here."""
    wait = _wait_of_this_run() if isinstance(turns.clock, SystemClock) else None
    if wait is None:
        yield
        return
    instrument = cast("trio.abc.Instrument", wait)  # by its shape: what is compiled inherits from nothing else
    if not wait.agents:
        trio.lowlevel.add_instrument(instrument)
    wait.agents.append(turns)
    try:
        yield
    finally:
        wait.agents.remove(turns)
        if not wait.agents:
            trio.lowlevel.remove_instrument(instrument)


def _wait_of_this_run() -> IoWait | None:
    if sys.platform != "linux" or not hasattr(os, "eventfd") or not _waits_in_this_thread():
        return None
    try:
        return _WAIT.get()
    except LookupError:
        try:
            wait = IoWait(TrioLoop())
        except (OSError, AttributeError) as error:  # too many files; another trio than those of which this was written
            log.warning("trio takes in the datagrams itself, which is slower: %s", error)
            return None
    _WAIT.set(wait)
    return wait


def _waits_in_this_thread() -> bool:
    """Not so in guest mode: there another event loop runs this one."""
    run = getattr(trio.run, "__code__", None)
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is run:
            return True
        frame = frame.f_back
    return False
