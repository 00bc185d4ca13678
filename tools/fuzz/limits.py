"""What one input may cost at the very most, so that a bomb is a finding and not the end of the machine."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from tools.fuzz.subject import Broken

MEMORY_BYTES: Final = 1 << 30
"""More than the process has when a run begins. The largest state that a run builds is some 50 MB."""
SECONDS: Final = 30.0
"""Of processor time, for one input or the end of a block, however slow the machine is: the slowest take 0.2 s. Not of the clock:
a run that was stopped for a while, or whose machine slept, would break in the middle of an innocent input when it goes on."""


@contextmanager
def bounded_memory(more: int = MEMORY_BYTES) -> Iterator[None]:
    """Whatever allocates beyond that gets a MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _address_space() + more
    ceiling = min((limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY), default=wanted)
    resource.setrlimit(resource.RLIMIT_AS, (min(wanted, ceiling), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Bytes that this process has mapped now."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


class Alarm:
    """`with Alarm() as alarm`, then `alarm.set()` before each input: Broken is raised in what takes too long.

    A signal of the main thread; elsewhere nothing is watched.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds if threading.current_thread() is threading.main_thread() else 0.0
        self._former: object = None

    def __enter__(self) -> Alarm:
        if self._seconds:
            self._former = signal.signal(signal.SIGPROF, self._ring)
        return self

    def set(self) -> None:
        if self._seconds:
            signal.setitimer(signal.ITIMER_PROF, self._seconds)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        raise Broken(f"one input took more than {self._seconds:g} s of processor time")

    def __exit__(self, *_: object) -> None:
        if self._seconds:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            signal.signal(signal.SIGPROF, self._former)  # type: ignore[arg-type]  # what signal gave
