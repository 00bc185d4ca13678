"""Discrete events on virtual time: N hosts, each running one core, over a simulated network.

A host's loop mirrors the real one (mesh.net.driver and mesh.net.turns): it is readable, or its deadline has come, or a local
call woke it; it drains the socket into the core, ticks when due, then carries out what the core wants. After deliveries that
want nothing it only tells, and lets the rest of the turn wait. Nothing here knows what a core is for.

    world = World(seed=7)
    for number in range(3):
        world.add_host(start=lambda boot: MyCore(boot), ...)
    world.run(10.0)

World time is an integer of microseconds; events at one instant happen in the order in which they were scheduled. So a run is a
pure function of the seed and of the calls made, and `digest` proves it.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import struct
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from mesh.effects import REST_SECONDS, Address, Now, Transmit
from mesh.testing.clock import SECOND, Clock, microseconds
from mesh.testing.disk import Disk
from mesh.testing.network import Link, Network
from mesh.testing.streams import stream

DRAIN_MAX: Final = 64
"""As mesh.net.udp: datagrams that one turn of the driver takes from the socket."""
RECEIVE_BUFFER_BYTES: Final = 212_992
"""Linux's default net.core.rmem_default."""
DATAGRAM_OVERHEAD_BYTES: Final = 512
"""What the kernel charges a small datagram against the receive buffer, besides its bytes (measured on Linux: 512-768)."""
NEVER: Final = 1 << 62
"""World time that never comes: no timer is armed for it."""
_REST: Final = int(REST_SECONDS * SECOND)
SPIN_TICKS_MAX: Final = 500
"""More runs without input than this within one virtual millisecond mean a core whose deadline never moves on."""

_RECORD = struct.Struct(">QIIII")


class Core(Protocol):
    """What a host runs: the methods of mesh.peer.Peer that the driver uses."""

    @property
    def deadline(self) -> float: ...
    def may_rest(self) -> bool: ...
    def came_at(self) -> Now | None: ...
    def put_off(self, now: Now) -> bool: ...
    def handle_untrusted(self, datagram: bytes, address: Address, now: Now) -> None: ...
    def push(self, now: Now) -> bool: ...
    def tick(self, now: Now) -> None: ...
    def transmits(self, now: Now) -> Sequence[Transmit]: ...
    def events(self) -> Sequence[Any]: ...
    def changes(self) -> Sequence[Any]: ...
    def batch(self) -> Any | None: ...
    def urgent(self, now: Now) -> Any | None: ...
    def urgent_written(self, now: Now) -> None: ...
    def urgent_committed(self, ticket: int, now: Now) -> bool: ...


CoreT = TypeVar("CoreT", bound=Core)


class SimulationError(Exception):
    """The simulated program did what no program may do: spun, or raised out of its receive path."""


class Boot(NamedTuple):
    """What a starting process is given."""

    host: int
    address: Address
    restored: Any
    """From the disk; None for a host without one."""
    quorum: Any
    """From the quorum's disk; None likewise."""
    rng: random.Random
    """Fresh for every start: boot ids and births come from it."""
    now: Now


Action: TypeAlias = Callable[[], None]


class Host(Generic[CoreT]):
    """One machine: address, clocks, disk, socket buffer and perhaps a running core."""

    __slots__ = (
        "_awake",
        "_busy_until",
        "_inbox",
        "_inbox_bytes",
        "_is_whole",
        "_rests_until",
        "_spin_count",
        "_spin_since",
        "_start",
        "_timer_at",
        "_world",
        "address",
        "buffer_bytes",
        "bytes_received",
        "bytes_sent",
        "clock",
        "core",
        "cost",
        "datagrams_received",
        "datagrams_sent",
        "disk",
        "journal",
        "number",
        "runs",
        "starts",
        "stopped_at",
    )

    def __init__(
        self,
        world: World[CoreT],
        number: int,
        start: Callable[[Boot], CoreT],
        *,
        address: Address,
        clock: Clock,
        disk: Disk[Any, Any] | None,
        journal: Disk[Any, Any] | None,
    ) -> None:
        self.number = number
        self.address = address
        self.clock = clock
        self.disk = disk
        self.journal = journal
        """For what must be durable before it is sent; without one the core's memory has to do."""
        self.core: CoreT | None = None
        self.cost = 0
        """Microseconds of this machine's time per received datagram; while it is busy, others wait in the socket buffer."""
        self.buffer_bytes = RECEIVE_BUFFER_BYTES
        self.starts = 0
        self.runs = 0
        self.stopped_at: int | None = None
        """World time of the last end of a process here."""
        self.bytes_sent = self.bytes_received = self.datagrams_sent = self.datagrams_received = 0
        self._world = world
        self._start = start
        self._inbox: deque[tuple[bytes, Address]] = deque()
        self._inbox_bytes = 0
        self._busy_until = 0
        self._awake = False
        self._is_whole = False
        """The turn that was called for is not only to send what was written here."""
        self._timer_at = -1
        self._rests_until = NEVER
        """World time of the turn that waits, though nothing asks for it: what was told then is settled."""
        self._spin_since = self._spin_count = 0

    # ---- processes

    @property
    def running(self) -> bool:
        return self.core is not None

    def now(self) -> Now:
        return self.clock.now(self._world.time)

    def start(self, *, wake: bool = True) -> CoreT:
        """`wake`: let it have its first turn at once; else the caller wakes it later."""
        if self.core is not None:
            raise ValueError(f"host {self.number} runs already")
        self.starts += 1
        rng = stream(self._world.seed, "process", self.number, self.starts)
        restored = self.disk.image.restored() if self.disk is not None else None
        quorum = self.journal.image.restored() if self.journal is not None else None
        self._busy_until = self._world.time
        self._world.up += 1
        self.core = core = self._start(Boot(self.number, self.address, restored, quorum, rng, self.now()))
        self._world.record(b"start", self.number, self.starts)
        if wake:
            self.wake()
        return core

    def stop(self) -> None:
        """The process ends in order: what it wanted to store is stored."""
        for disk in (self.disk, self.journal):
            if self.core is not None and disk is not None:
                disk.close()
        self._gone()

    def crash(self) -> None:
        """The battery is out: the core and what the kernel had for it are gone; the disk keeps what it had."""
        for disk in (self.disk, self.journal):
            if self.core is not None and disk is not None:
                disk.crash()
        self._gone()

    def _gone(self) -> None:
        if self.core is None:
            return
        self.core = None
        self._world.up -= 1
        self.stopped_at = self._world.time
        self._inbox.clear()
        self._inbox_bytes = 0
        self._timer_at = -1
        self._rests_until = NEVER
        self._is_whole = False
        self._world.marks["crash"] += 1
        self._world.record(b"crash", self.number, 0)

    def pause(self, seconds: float) -> None:
        """The process does not run (SIGSTOP, swapping, a stalled machine); its clocks go on and its socket buffer fills."""
        self._world.marks["pause"] += self.core is not None
        self._busy_until = max(self._busy_until, self._world.time + microseconds(seconds))
        self._world.schedule_timer(self._busy_until, self)
        self._timer_at = self._busy_until

    @property
    def paused(self) -> bool:
        return self._busy_until > self._world.time

    def move(self, address: Address) -> None:
        """The machine has another address from now on (roaming, DHCP)."""
        self._world.move(self, address)

    # ---- the driver's loop

    def wake(self) -> None:
        """After a local call into the core: carry out what it wants, as the driver does in the same turn of its loop."""
        if self.core is not None and self._busy_until <= self._world.time:
            self._run()

    def wake_soon(self) -> None:
        """As `wake`, when virtual time goes on: calls until then are one turn of the driver."""
        self._is_whole = True
        self.wrote()

    def wrote(self) -> None:
        """As `wake_soon`, where nothing is wanted but that it is sent: the rest of the turn rests as after a delivery."""
        if not self._awake:
            self._awake = True
            self._world.at(self._world.time, self._woken)

    def _woken(self) -> None:
        self._awake = False
        if self.core is None:
            return
        if self._busy_until > self._world.time:
            self._arm(self._busy_until)
        elif self._is_whole or self._inbox:
            self._run()
        else:
            self._send_news(self.core, self.clock.now(self._world.time))

    def deliver(self, datagram: bytes, address: Address) -> None:
        world = self._world
        if self.core is None:
            world.network.dropped["nobody"] += 1
            return
        if self._busy_until > world.time:
            if self._inbox_bytes + len(datagram) + DATAGRAM_OVERHEAD_BYTES > self.buffer_bytes:
                world.network.dropped["buffer"] += 1
                return
            self._inbox_bytes += len(datagram) + DATAGRAM_OVERHEAD_BYTES
            self._inbox.append((datagram, address))
            self._arm(self._busy_until)
            return
        core, now = self.core, self.clock.now(world.time)
        if self._inbox:
            self._inbox_bytes += len(datagram) + DATAGRAM_OVERHEAD_BYTES
            self._inbox.append((datagram, address))
            self._drain(core, now)
        else:  # nearly always
            if self.cost:
                self._busy_until = world.time + self.cost
            self._take(core, datagram, address, now)
        if self._inbox or not core.may_rest():
            self._turn(core, now)
        else:
            self._rest(core, now)

    def timer(self, armed_at: int) -> None:
        if armed_at != self._timer_at or self.core is None:
            return  # a later call armed another one, or the process is gone
        self._timer_at = -1
        if self._busy_until > armed_at:
            self._arm(self._busy_until)
            return
        if not self._inbox:
            wanted = min(self._wanted(self.core), self._rests_until)
            if wanted > armed_at:
                self._arm(wanted)  # the deadline has moved on
                return
            self._guard_against_spinning(armed_at)
        self._run()

    def _run(self) -> None:
        core, now = self.core, self.clock.now(self._world.time)
        assert core is not None
        if self._inbox:
            self._drain(core, now)
        self._turn(core, now)

    def _send_news(self, core: CoreT, now: Now) -> None:
        core.push(now)
        if core.may_rest():
            self._rest(core, now)
            self._arm_for(core)
        else:
            self._turn(core, now)

    def _rest(self, core: CoreT, now: Now) -> None:
        """What came is told and answered, what was written here is sent, and that is all for now."""
        self.runs += 1
        if self._send(core, now):
            self._arm_for(core)
        changes = core.changes()
        if changes:
            for observer in self._world.observers:
                observer(self, (), changes)
            core.put_off(now)
        if self._rests_until == NEVER and core.came_at() is not None:
            self._rests_until = self._world.time + _REST
            self._arm(max(self._rests_until, self._busy_until))

    def _turn(self, core: CoreT, now: Now) -> None:
        world, time = self._world, self._world.time
        self.runs += 1
        self._rests_until = NEVER
        self._is_whole = False
        core.tick(now)
        self._send(core, now)
        batch = core.batch()
        if batch is not None and self.disk is not None:
            self.disk.commit(batch, time)
        urgent = core.urgent(now)
        if urgent is not None:
            if self.journal is not None:
                self.journal.commit(urgent, time)
                core.urgent_written(now)
            else:
                core.urgent_committed(urgent.ticket, now)
                self.wake_soon()
        events, changes = core.events(), core.changes()
        for observer in world.observers:
            observer(self, events, changes)
        self._arm_for(core)

    def _send(self, core: CoreT, now: Now) -> bool:
        """Whether there was anything."""
        transmits = core.transmits(now)
        for transmit in transmits:
            self.datagrams_sent += 1
            self.bytes_sent += len(transmit.datagram)
            self._world.send(self, transmit.address, transmit.datagram)
        return bool(transmits)

    def _wanted(self, core: CoreT) -> int:
        """World time of the core's deadline."""
        deadline = core.deadline
        return self.clock.when(deadline) if deadline < 1e15 else NEVER

    def _drain(self, core: CoreT, now: Now) -> None:
        inbox, taken = self._inbox, min(len(self._inbox), DRAIN_MAX)
        if self.cost:
            self._busy_until = self._world.time + self.cost * taken
        for _ in range(taken):
            datagram, address = inbox.popleft()
            self._inbox_bytes -= len(datagram) + DATAGRAM_OVERHEAD_BYTES
            self._take(core, datagram, address, now)
        if inbox:
            self._arm(max(self._world.time, self._busy_until))

    def _take(self, core: CoreT, datagram: bytes, address: Address, now: Now) -> None:
        self.datagrams_received += 1
        self.bytes_received += len(datagram)
        core.handle_untrusted(datagram, address, now)

    def _arm_for(self, core: CoreT) -> None:
        """The core's deadline, when virtual time has gone on and the machine is not busy."""
        self._arm(max(self._wanted(core), self._world.time + 1, self._busy_until))

    def _arm(self, time: int) -> None:
        """At most one timer counts. One that is too early is kept and looks again when it fires: deadlines mostly move on."""
        if time >= NEVER:
            return
        if self._timer_at < 0 or time < self._timer_at or self._timer_at <= self._world.time:
            self._timer_at = time
            self._world.schedule_timer(time, self)

    def _guard_against_spinning(self, time: int) -> None:
        if time - self._spin_since > SECOND // 1_000:
            self._spin_since, self._spin_count = time, 0
        self._spin_count += 1
        if self._spin_count > SPIN_TICKS_MAX:
            raise SimulationError(f"host {self.number} spins: its deadline does not move on")


Observer: TypeAlias = Callable[[Host[CoreT], Sequence[Any], Sequence[Any]], None]
"""Called after every run of a host: the host, the events and the changes that the core handed out."""


class World(Generic[CoreT]):
    """Everything that exists in one simulated run."""

    def __init__(self, seed: int, *, link: Link | None = None) -> None:
        self.seed = seed
        self.time = 0
        """Microseconds."""
        self.network = Network(stream(seed, "network"), link if link is not None else Link())
        self.hosts: list[Host[CoreT]] = []
        self.observers: list[Observer[CoreT]] = []
        self.events_handled = 0
        self.up = 0
        """Hosts on which a process runs."""
        self.marks: Counter[str] = Counter()
        """What happened to machines, by name, where it met a running process."""
        self._by_address: dict[Address, Host[CoreT]] = {}
        self._queue: list[tuple[int, int, Host[CoreT] | None, Any]] = []
        self._order = 0
        self.tap: Callable[[Host[CoreT], Address, bytes], object] | None = None
        """Is told of every datagram that is sent: (source, address, datagram)."""
        self._hash = hashlib.blake2b(digest_size=16)

    def rng(self, *names: str | int) -> random.Random:
        """The random stream of this name."""
        return stream(self.seed, *names)

    def add_host(
        self,
        start: Callable[[Boot], CoreT],
        *,
        address: Address | None = None,
        clock: Clock | None = None,
        disk: Disk[Any, Any] | None = None,
        journal: Disk[Any, Any] | None = None,
    ) -> Host[CoreT]:
        """`start` makes a core; it is called at every start of the process. The host is off until `host.start()`."""
        number = len(self.hosts)
        where = address if address is not None else host_address(number)
        host = Host(
            self,
            number,
            start,
            address=where,
            clock=clock if clock is not None else Clock(start=1_000.0 + number),
            disk=disk,
            journal=journal,
        )
        self.hosts.append(host)
        self._by_address[where] = host
        return host

    def move(self, host: Host[CoreT], address: Address) -> None:
        self.marks["move"] += host.core is not None
        del self._by_address[host.address]
        host.address = address
        self._by_address[address] = host

    # ---- time

    def at(self, time: int, action: Action) -> None:
        """Do this at a world time, in microseconds."""
        if time < self.time:
            raise ValueError("that is past")
        self._order += 1
        heapq.heappush(self._queue, (time, self._order, None, action))

    def after(self, seconds: float, action: Action) -> None:
        self.at(self.time + microseconds(seconds), action)

    def schedule_timer(self, time: int, host: Host[CoreT]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (time, self._order, host, None))

    def send(self, source: Host[CoreT], address: Address, datagram: bytes) -> None:
        if self.tap is not None:
            self.tap(source, address, datagram)
        target = self._by_address.get(address)
        if target is None:
            self.network.dropped["no such address"] += 1
            return
        time, size = self.time, len(datagram)
        arrivals = self.network.carry(time, source.number, target.number, size)
        self._hash.update(
            _RECORD.pack(time, source.number, target.number, zlib.crc32(datagram), arrivals[0] - time if arrivals else 0)
        )
        for arrival in arrivals:
            self._order += 1
            heapq.heappush(self._queue, (arrival, self._order, target, (datagram, source.address)))

    def run(self, seconds: float) -> None:
        self.run_to(self.time + microseconds(seconds))

    def run_to(self, time: int) -> None:
        """Everything up to and including this world time happens."""
        queue = self._queue
        while queue and queue[0][0] <= time:
            self._step()
        self.time = max(self.time, time)

    def run_until(self, predicate: Callable[[], bool], limit: float, *, every: float = 0.0) -> bool:
        """Until the predicate holds; False when `limit` seconds did not do.

        It is asked after every event or, cheaper, every so many seconds.
        """
        end, step = self.time + microseconds(limit), microseconds(every)
        queue = self._queue
        while not predicate():
            if self.time >= end:
                return False
            if step:
                self.run_to(min(end, self.time + step))
            elif queue and queue[0][0] <= end:
                self._step()
            else:
                self.time = end
        return True

    def _step(self) -> None:
        time, _, host, item = heapq.heappop(self._queue)
        self.time = time
        self.events_handled += 1
        try:
            if host is None:
                item()
            elif item is None:
                host.timer(time)
            else:
                host.deliver(item[0], item[1])
        except Exception as error:
            where = f"host {host.number}" if host is not None else "a scripted action"
            error.add_note(f"in the simulation with seed {self.seed}, at {time / SECOND:.6f} s, in {where}")
            raise

    # ---- the trace

    def record(self, what: bytes, *numbers: int) -> None:
        """Make this part of the digest."""
        self._hash.update(what + repr((self.time, *numbers)).encode())

    @property
    def digest(self) -> str:
        """Of every datagram sent (when, from, to, content, fate) and every start and crash so far."""
        return self._hash.hexdigest()


def host_address(number: int) -> Address:
    """10.0.0.0/8, one port: numeric as real addresses are."""
    return (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 7946)
