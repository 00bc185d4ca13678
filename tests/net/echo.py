"""A small real core for the driver's tests: answers a number with the next one, until a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from crdt.ops import Key
from mesh.effects import Address, Now, Transmit
from mesh.events import Event
from mesh.quorum.rows import QuorumBatch
from mesh.store.rows import Batch


class Answered(Event):
    """One datagram was answered."""


class EchoCore:
    """Answers n with n + 1 below `limit`. A write is sent at the next turn and recorded in a batch; a draft is pushed first, once
    `push_at` has come."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.deadline = math.inf
        self.push_at = 0.0
        self.received: list[int] = []
        self.ticks: list[Now] = []
        self.handled: list[Now] = []
        self.gone: list[Address] = []
        self.poison = False
        self.rests = self.waits = False
        self.courtesy = 0.0
        self.news = 0
        self.settles_at_once = False
        self.unsettled: Now | None = None
        self._transmits: list[Transmit] = []
        self._drafted: list[Transmit] = []
        self._changes: list[Key] = []
        self._events: list[Event] = []
        self._written: dict[str, bytes] = {}

    def write(self, number: int, to: Address) -> None:
        self._transmits.append(Transmit(to, b"%d" % number))
        self._written[str(number)] = b"written"

    def draft(self, number: int, to: Address) -> None:
        self._drafted.append(Transmit(to, b"%d" % number))
        self._written[str(number)] = b"written"
        self._changes.append((1, (str(number),)))
        self.deadline = min(self.deadline, self.push_at)

    def handle_untrusted(self, datagram: bytes, address: Address, now: Now) -> None:
        if self.poison:
            raise AssertionError("a bug in the core")
        self.handled.append(now)
        if not datagram.isdigit() or len(datagram) > 9:
            return
        number = int(datagram)
        self.received.append(number)
        self.unsettled = None if self.settles_at_once else self.unsettled or now
        self._changes.append((0, (str(number),)))
        self._events.append(Answered())
        if number < self.limit:
            self._transmits.append(Transmit(address, b"%d" % (number + 1)))

    def may_rest(self) -> bool:
        return self.rests

    def put_off(self, now: Now) -> bool:
        self.news += 1
        self.deadline += self.courtesy
        return self.courtesy > 0

    def gathers(self) -> bool:
        return self.waits

    def came_at(self) -> Now | None:
        return self.unsettled

    def refused(self, address: Address, now: Now) -> None:
        self.gone.append(address)

    def push(self, now: Now) -> bool:
        if not self._drafted or now.monotonic < self.push_at:
            return False
        self._transmits += self._drafted
        self._drafted.clear()
        if self.deadline == self.push_at:
            self.deadline = math.inf
        self.unsettled = self.unsettled or now
        return True

    def tick(self, now: Now) -> None:
        self.push(now)
        self.ticks.append(now)
        self.unsettled = None
        if now.monotonic >= self.deadline:
            self.deadline = math.inf

    def transmits(self, now: Now) -> Sequence[Transmit]:
        drained, self._transmits = self._transmits, []
        return drained

    def batch(self) -> Batch | None:
        if not self._written:
            return None
        drained, self._written = self._written, {}
        return Batch(meta=drained)

    def urgent(self, now: Now) -> QuorumBatch | None:
        return None

    def urgent_written(self, now: Now) -> None:
        """There is nothing to get ready."""

    def urgent_committed(self, ticket: int, now: Now) -> bool:
        raise AssertionError("nothing was urgent")

    def changes(self) -> Sequence[Key]:
        drained, self._changes = self._changes, []
        return drained

    def events(self) -> Sequence[Event]:
        drained, self._events = self._events, []
        return drained
