"""What the real driver does between two waits, as one synchronous step each; the waits are in `mesh.net.driver` and
`mesh.net.io_wait`.

    a datagram                -> core.handle_untrusted
    who is said to be gone    -> core.refused
    core.changes, transmits   -> callbacks, socket.send; the turn that follows may wait for REST_SECONDS, if the core may rest

    a turn, also when the core's deadline has come, or for a local write:
    core.urgent               -> journal.submit, core.urgent_written; once it is on the disk core.urgent_committed, socket.send
    core.push, core.transmits -> socket.send; if nothing else was called for and the core may rest: core.changes -> callbacks, and
                                 what follows may wait for REST_SECONDS
    the time                  -> core.tick
    core.transmits            -> socket.send
    core.urgent               -> journal.submit, for what this turn brought about
    core.batch                -> store.submit
    core.changes, core.events -> callbacks

The simulator's loop is the same one, with its own network, clock and disk in the places of `socket`, `clock` and `store`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from threading import get_ident
from typing import Final, Protocol

from crdt.ops import Key
from mesh.effects import COURTESY_SECONDS, REST_SECONDS, Address, Now, Transmit
from mesh.errors import NodeClosed
from mesh.events import Event
from mesh.net.clock import Clock
from mesh.net.udp import DRAIN_MAX, UdpSocket
from mesh.quorum.rows import QuorumBatch
from mesh.store.rows import Batch

PAUSE_SECONDS: Final = 0.002
"""Without a look at the socket. Guess: a few times what a datagram of a burst takes to be handled."""

LATE_SECONDS: Final = 0.003
"""A turn that is as late as this comes after a look at the socket: an answer may be there for which it would give up waiting. The
event loop's own clock has steps of a millisecond; beyond that something kept this process from running.
"""


class Core(Protocol):
    """What a driver, real or simulated, needs of `mesh.peer.Peer`."""

    @property
    def deadline(self) -> float:
        """Monotonic seconds of the next tick wanted; infinity when there is nothing to wait for."""

    def handle_untrusted(self, datagram: bytes, address: Address, now: Now) -> None:
        """One datagram of any content. Never raises for what the datagram holds."""

    def refused(self, address: Address, now: Now) -> None:
        """The operating system says that nobody listens at this address. A hint, not authenticated."""

    def may_rest(self) -> bool:
        """Whether all that came in or was pushed since the last tick shows already in `changes` and `transmits`, and nothing else
        follows."""

    def gathers(self) -> bool:
        """Whether something waits for company before it goes to the disk."""

    def put_off(self, now: Now) -> bool:
        """There was news: what is due soon, and in no hurry, may wait while others of this machine see it. Whether it does."""

    def came_at(self) -> Now | None:
        """When the first of what a turn is to settle soon came in, or was pushed, since the last one; None: nothing did."""

    def push(self, now: Now) -> bool:
        """Make what was written here ready to be sent, if it is due. True when there was something."""

    def tick(self, now: Now) -> None:
        """Do what is due; harmless when nothing is."""

    def transmits(self, now: Now) -> Sequence[Transmit]:
        """Drain what is to be sent."""

    def batch(self) -> Batch | None:
        """Drain what the store should commit; None when nothing changed."""

    def urgent(self, now: Now) -> QuorumBatch | None:
        """Drain what the journal should commit, at once; None when there is nothing."""

    def urgent_written(self, now: Now) -> None:
        """The disk works on what `urgent` gave just now: what waits for it can be made ready."""

    def urgent_committed(self, ticket: int, now: Now) -> bool:
        """Everything that `urgent` gave up to this ticket is durable. True when something follows from that."""

    def changes(self) -> Sequence[Key]:
        """Drain the keys whose cells changed."""

    def events(self) -> Sequence[Event]:
        """Drain what the node's user is told."""


class Sink(Protocol):
    """The part of a store that the loop uses."""

    def submit(self, batch: Batch) -> object:
        """Take a batch; it is committed soon, in another thread."""


class UrgentSink(Protocol):
    """The part of a journal that the loop uses."""

    on_durable: Callable[[int], None]
    """Called in the trio thread with the newest ticket that is on the disk."""

    def submit(self, batch: QuorumBatch) -> None:
        """Take a batch; its commit begins soon, or with the end of the one under way."""

    def begin(self) -> None:
        """Somebody waits for what was submitted: it may be durable on return, where that is a matter of moments."""

    def visit(self) -> None:
        """Something came in: what is durable by now may be told at once."""


class Alarm(Protocol):
    """Who waits until there is something to do."""

    def postpone(self, due: float) -> None:
        """The next turn is wanted then, in monotonic seconds of the core's clock."""

    def ring(self) -> None:
        """A turn is wanted now. Called only while it sleeps (`Turns.asleep`)."""

    def turned(self) -> None:
        """There was a turn. Called only where somebody awaits one (`Turns.awaited`)."""

    def fail(self, error: BaseException) -> None:
        """Whoever runs this is to end with it."""


def _nothing() -> None:
    pass


class Turns:
    """`wrote` is how a local write tells that there is something to send, `wake` is for all else; `on_turn` is called after every
    turn."""

    def __init__(
        self,
        core: Core,
        socket: UdpSocket,
        store: Sink,
        journal: UrgentSink,
        clock: Clock,
        *,
        on_changes: Callable[[Sequence[Key]], None],
        on_events: Callable[[Sequence[Event]], None],
    ) -> None:
        self.core, self.socket, self.clock = core, socket, clock
        # Found once: each datagram asks them all.
        self._read_clocks, self._visit = clock.now, journal.visit
        self._handle_untrusted, self._changes, self._transmits = core.handle_untrusted, core.changes, core.transmits
        self._may_rest, self._gathers, self._came_at = core.may_rest, core.gathers, core.came_at
        self.alarm: Alarm
        """Its driver puts itself here."""
        self._store, self._journal = store, journal
        journal.on_durable = self._urgent_durable
        self._on_changes, self._on_events = on_changes, on_events
        self._turning = self._is_receiving = False
        self._is_promised = False
        """Something that waited for the disk may go out, since it was told so in the middle of something else."""
        self.rest_seconds = REST_SECONDS
        self._received_at = -inf
        self.due = inf
        """What the time is kept for: the core's deadline."""
        self.asleep = False
        """Nothing is done until `due`, or a call."""
        self.awake = False
        """Somebody called, ..."""
        self._is_whole = False
        """... and not only to have sent what was written here."""
        self.awaited = False
        """Somebody waits for a turn."""
        self.is_attended = False
        """Somebody looks at `due` himself (`mesh.net.io_wait`)."""
        self.alarm_at = inf
        """What the alarm is set for: while this is attended, `due` may have moved on."""
        self.has_failed = False
        self.has_ended = False
        self._home = get_ident()
        self.on_turn: Callable[[], None] = _nothing

    def visit(self, now: float, *, is_ready: bool) -> bool:
        """What is to be done now, in no task of trio's. `is_ready`: something may have come. Whether it has, or a turn was due.
        What the core raises ends the driver, as it always does."""
        if self.has_failed:
            return False
        try:
            if is_ready and self.take_in():
                return True
            if now < self.due:
                return False
            if now > self.due + LATE_SECONDS:
                self.receive()
            self.turn()
            self.wait_until(self.wanted)
        except BaseException as error:  # noqa: BLE001 - trio would write it into a log, and go on
            self.has_failed = True
            self.alarm.fail(error)
        return True

    def take_in(self) -> bool:
        """Whether anything had come.

        A delivery is told before anything else is done about it, and leaves the time as it is: where many agents share a
        machine, each of them has its news sooner when none does its book-keeping first.
        """
        first = self.socket.take()
        if first is None and not self.socket.has_refused:
            return False
        core, now = self.core, self._receive(first)
        self._keep_promises(now)
        if self.awaited or not self._may_rest():  # who waits for a turn may wait for this
            self.turn()
            self.wait_until(core.deadline)
            return True
        waits = False
        if changes := self._changes():
            self._on_changes(changes)
            waits = self._put_off(now)
        sent = self._send(now)
        came = self._came_at()  # None: all is done with, perhaps what was waited for: an answer to a ping
        is_as_due = came is not None and not (sent or waits)
        self.wait_until(self._settled_by(came, self.due if is_as_due else core.deadline))
        return True

    def receive(self) -> None:
        """What has arrived, before a turn that is late."""
        self._receive(self.socket.take())

    def _receive(self, first: tuple[bytes, Address] | None) -> Now:
        """What has arrived. After a pause it is one datagram, nearly always; to ask for a second one costs as much as to take the
        first, so it waits for the next look, and only then the socket is drained. What goes to the disk had better go together:
        then what came meanwhile is taken, too."""
        now = self._read_clocks()
        self._is_receiving = True
        self._visit()
        self._is_receiving = False
        paused = now.monotonic >= self._received_at + PAUSE_SECONDS
        self._received_at = now.monotonic
        socket = self.socket
        if first is not None:
            datagram, address = first
            self._handle_untrusted(datagram, address, now)
            left = DRAIN_MAX - 1
            while more := socket.drain(left) if not paused or self._gathers() else ():
                paused, left = True, left - len(more)
                for datagram, address in more:
                    now = self._read_clocks()
                    self._handle_untrusted(datagram, address, now)
        if socket.has_refused:
            self._tell_refused(now)
        return now

    def _tell_refused(self, now: Now) -> None:
        for address in self.socket.refused():
            self.core.refused(address, now)

    def turn(self) -> None:
        """Do what is due and carry out what the core asks for. Synchronous; for use between the steps of this trio thread only.

        A caller that wants its writes handed to the store now (`flush`) may call it too. Raises NodeClosed where the core has
        failed.
        """
        if self.has_failed:
            raise NodeClosed("this node has ended")
        self._is_whole = False
        self._turning = True
        try:
            self._turn(self._read_clocks())
        except Exception:
            self.has_failed = True
            raise
        finally:
            self._turning = False
        self.on_turn()
        if self.awaited:
            self.awaited = False
            self.alarm.turned()

    def woken(self) -> None:
        """The turn that somebody called for. Where it was only to send what was written here, those who receive it may need this
        processor: all else waits, as after a delivery.
        """
        if self.has_failed:
            return  # whoever met the failure brings it out
        if self._is_whole or self.awaited or not self._send_news():
            self.turn()
        self.wait_until(self.wanted)

    def _send_news(self) -> bool:
        """What was written here is sent, and told; whether that is all for now."""
        core = self.core
        try:
            now = self._read_clocks()
            if core.push(now):
                self._send(now)
            if not self._may_rest():
                return False
            if changes := self._changes():
                self._on_changes(changes)
                self._put_off(now)
        except Exception:
            self.has_failed = True
            raise
        return True

    def _put_off(self, now: Now) -> bool:
        """Whether something that was due soon waits now: to ask the core costs more than to look at the time."""
        return self.due < now.monotonic + COURTESY_SECONDS and self.core.put_off(now)

    @property
    def wanted(self) -> float:
        """When the next turn is due, in monotonic seconds of the core's clock."""
        return self._settled_by(self._came_at(), self.core.deadline)

    def _settled_by(self, came: Now | None, due: float) -> float:
        """The time that is due, or sooner, so that what came has not rested for longer than it may."""
        return due if came is None else min(due, came.monotonic + self.rest_seconds)

    def _turn(self, now: Now) -> None:
        if self._write_urgent(now):  # what came in: the disk works while the core does
            self._journal.begin()
        self._keep_promises(now)
        if self.core.push(now):
            self._send(now)
        self.core.tick(now)
        self._send(now)
        self._write_urgent(now)
        if self._is_promised:
            self._is_promised = False
            self.wake()
        if (batch := self.core.batch()) is not None:
            self._store.submit(batch)
        if changes := self._changes():
            self._on_changes(changes)
        if events := self.core.events():
            self._on_events(events)

    def _write_urgent(self, now: Now) -> bool:
        """Whether there was anything."""
        urgent = self.core.urgent(now)
        if urgent is None:
            return False
        self._journal.submit(urgent)
        self.core.urgent_written(now)
        return True

    def _keep_promises(self, now: Now) -> None:
        """Whoever waits for what the disk has already hears of it before anything else is done."""
        if self._is_promised:
            self._is_promised = False
            self._send(now)

    def _send(self, now: Now) -> bool:
        """Whether there was anything."""
        transmits = self._transmits(now)
        for transmit in transmits:
            self.socket.send(transmit.datagram, transmit.address)
        if self.socket.has_refused:  # the kernel says it with what is sent next: the socket is no longer readable for it
            self._tell_refused(now)
            self.wake()
        return bool(transmits)

    def _urgent_durable(self, ticket: int) -> None:
        """Somebody waits for what may go out now: turn here, not when the loop comes round again. Who tells this is often a task
        of the event loop's own: what it raised would end the program, with all other nodes in it."""
        if self.has_ended or self.has_failed:
            return  # the journal is closed last, and writes what waits: there is no socket any more
        try:
            self._committed(ticket, self._read_clocks())
        except Exception as error:
            if self._turning or self._is_receiving:
                raise
            self.has_failed = True
            self.alarm.fail(error)

    def _committed(self, ticket: int, now: Now) -> None:
        if self._is_receiving:
            self._is_promised |= self.core.urgent_committed(ticket, now)
        elif not self.core.urgent_committed(ticket, now):
            # A leader whose followers have not answered yet: it waits for them, but not for ever.
            self.wait_until(min(self.due, self.core.deadline))
        elif self._turning:
            self._is_promised = True
        else:
            self._send(now)
            if self.awaited or not self._may_rest():
                self.turn()
                self.wait_until(self.core.deadline)
            else:  # a follower, which has said what it was waited for
                self.wait_until(min(self.due, self.core.deadline))

    def wake(self) -> None:
        """Make the loop turn before the event loop waits again. Cheap, never blocks, for calls from the trio thread.

        All writes made until the calling task next yields are then one turn, so they share a delta and a datagram.
        """
        self._is_whole = True
        self.wrote()

    def wrote(self) -> None:
        """As `wake`, where nothing is wanted but that it is sent (`woken`)."""
        if self.awake:
            return
        self.check_thread()
        self.awake = True
        if self.asleep:
            self.asleep = False
            self.alarm.ring()

    def check_thread(self) -> None:
        """Raises RuntimeError in another thread than the one that made this: there it could wake up nobody, or wait for ever."""
        if get_ident() != self._home:
            raise RuntimeError(
                "this node belongs to the thread that opened it: call it there by trio.from_thread.run, or use mesh.blocking"
            )

    def hurry(self) -> None:
        """As `wake`, now: for whoever is sure that nobody else writes in the same step. It saves a round of the event loop, a
        fiftieth of what one client waits for a critical write."""
        if not self.asleep or self.awake or self._turning:
            self.wake()
            return
        self.turn()
        self.wait_until(self.core.deadline)

    def wait_until(self, due: float) -> None:
        """Trio takes longer to move a deadline than a core to read a header."""
        if due != self.due:
            self.due = due
            if not self.is_attended:
                self.set_alarm()

    def set_alarm(self) -> None:
        """For the time that is due."""
        if self.alarm_at != self.due:
            self.alarm_at = self.due
            self.alarm.postpone(self.due)

    def begin_wait(self) -> float:
        """The alarm sets itself, for the time returned."""
        self.due = self.alarm_at = self.wanted
        return self.due
