"""Cores with their sockets and drivers, for tests of the loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from crdt.ops import Key
from mesh.events import Event
from mesh.net.clock import SystemClock
from mesh.net.driver import Driver
from mesh.net.open_udp import open_udp
from mesh.net.turns import Turns
from mesh.net.udp import UdpSocket
from mesh.store.memory_journal import MemoryJournal
from mesh.store.rows import Batch
from tests.net.echo import EchoCore


@dataclass
class Agent:
    """A core with its socket, driver and everything that came out of it."""

    core: EchoCore
    socket: UdpSocket
    batches: list[Batch] = field(default_factory=list)
    changes: list[Key] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    journal: MemoryJournal = field(default_factory=MemoryJournal)

    def __post_init__(self) -> None:
        turns = Turns(
            self.core,
            self.socket,
            self,
            self.journal,
            SystemClock(),
            on_changes=self.changes.extend,
            on_events=self.events.extend,
        )
        self.driver = Driver(turns)

    def submit(self, batch: Batch) -> None:
        self.batches.append(batch)


@asynccontextmanager
async def agent(limit: int = 0) -> AsyncIterator[Agent]:
    with await open_udp("127.0.0.1:0") as socket:
        yield Agent(EchoCore(limit), socket)


@asynccontextmanager
async def writing(rest_seconds: float = 3600.0, *, may_rest: bool = True) -> AsyncIterator[tuple[Agent, UdpSocket]]:
    """An agent whose loop runs and has nothing to do, and the socket of somebody to write to. What rests does so for so long."""
    async with agent() as writer, trio.open_nursery() as nursery:
        with await open_udp("127.0.0.1:0") as receiver:
            writer.driver.turns.rest_seconds = rest_seconds
            await nursery.start(writer.driver.run)
            await trio.testing.wait_all_tasks_blocked()
            writer.core.rests = may_rest
            yield writer, receiver
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait on the real clock; a condition that never comes fails the test."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  # what a core has seen is plain data: it has no event to wait for
            await trio.sleep(0.001)
