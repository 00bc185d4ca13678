"""Checkers: what must be true at every transition of every host, and after the calm.

Each checker reads the state from outside, through the replica's public reading methods, and compares it with what the oracle
knows. It counts what it has looked at, so that a run in which a checker had nothing to do is seen. The first thing that is wrong
ends the run.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from crdt.delta import header_from_bytes_untrusted
from crdt.ids import ReplicaId, ShelfId, replica_of
from crdt.ops import Key
from crdt.replica import HeadSet
from mesh.events import Event, MemberDown, MemberLeft, MemberUp, MemberUpdated, ShelfFault
from mesh.peer import Peer
from mesh.store.rows import Batch
from mesh.testing import SECOND, Host, Mesh, SimulationError, Written
from mesh.testing.tables import Tables
from tools.sim.oracle import Oracle

DATAGRAM_BYTES_MAX: Final = 1_200
"""DESIGN section 2: sealed, without IP and UDP headers."""
DETECTION_EVERY: Final = 4
"""Of a host's turns, how many look for ghosts."""
COPIES_EVERY: Final = 8
"""Of a host's turns, how many are looked at for copies."""
ACCUSERS_MIN: Final = 3
"""Others that must be up for a death to be sure soon: two accusers, and one that is paused."""
DETECTION_SECONDS: Final = 20.0
"""A crash is known to everybody within this, by the `lan` preset's slowest way: twice the longest suspicion, after a round of
probes by a stretched schedule (computed)."""
FORMING_SECONDS: Final = 3
"""A mesh that forms for the first time has nothing to catch up with."""
PATIENCE_SECONDS: Final = 28
"""A replica that was in touch for so long sees no flicker: mesh.housekeeping.DROP_PATIENCE_SECONDS is 30, less some delay."""
LOOSE_MAX: Final = 256
"""DESIGN section 2: loose deltas per shelf."""


class CheckFailure(SimulationError):
    """A checker found what must not be. `name` is the checker's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class Checker(Protocol):
    name: str

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        """After every turn of a running host."""

    def settled(self) -> None:
        """After the calm phase."""


@dataclass(slots=True)
class Ground:
    """What checkers share."""

    mesh: Mesh
    oracle: Oracle
    counts: Counter[str]

    def fail(self, name: str, host: Host[Peer] | int | None, text: str) -> None:
        where = "" if host is None else f"host {host if isinstance(host, int) else host.number}: "
        raise CheckFailure(name, f"{where}{text} (at {self.mesh.world.time / SECOND:.6f} s)")

    def key(self, key: Key) -> str:
        return f"type {key[0]} at {'/'.join(map(str, key[1]))}"


class Touch:
    """Who was out of touch lately. Housekeeping waits so that views do not flicker, but not for ever (DESIGN section 1)."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._apart_at: dict[int, int] = {}
        self._floors: deque[tuple[int, dict[ShelfId, int]]] = deque()
        self._numbers = {membership.replica_id: number for number, membership in enumerate(mesh.memberships)}

    def started(self, number: int) -> None:
        if self._mesh.world.time > FORMING_SECONDS * SECOND:
            self._apart_at[number] = self._mesh.world.time

    def turned(self, host: Host[Peer], events: Sequence[Event]) -> None:
        time = self._mesh.world.time
        for event in events if time > FORMING_SECONDS * SECOND else ():
            if isinstance(event, MemberDown | MemberLeft | MemberUp):
                self._apart_at[host.number] = self._apart_at[self._numbers[event.replica]] = time
        if not self._floors or time - self._floors[-1][0] >= SECOND:
            peers = [self._mesh.peer(number).replica for number in self._mesh.running]
            self._floors.append((time, {replica.shelf: replica.floor(replica.shelf) for replica in peers}))
            while len(self._floors) > 1 and self._floors[1][0] <= time - PATIENCE_SECONDS * SECOND:
                self._floors.popleft()

    def is_behind(self, host: Host[Peer]) -> bool:
        """It was down, alone or given up within the patience, or lacks what its authors had that long ago."""
        time = self._mesh.world.time
        apart_at = self._apart_at.get(host.number)
        if host.core is None or (apart_at is not None and time - apart_at < PATIENCE_SECONDS * SECOND):
            return True
        since, floors = self._floors[0]
        if since > time - PATIENCE_SECONDS * SECOND:
            return False
        replica = host.core.replica
        return any(replica.reached(shelf) < floor for shelf, floor in floors.items())


class Views:
    """No view lacks a write that nothing its replica has seen replaces, and none shows one that something seen replaces.

    Held against every change of every view, but for those of replicas that are catching up after they were out of touch.
    """

    name = "views"

    def __init__(self, ground: Ground, touch: Touch) -> None:
        self._ground = ground
        self._touch = touch

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        ground, oracle = self._ground, self._ground.oracle
        core = host.core
        if not changes or core is None:
            return
        for key in changes:
            history = oracle.keys.get(key)
            if history is None:
                continue
            ground.counts[self.name] += 1
            seen = oracle.observe(host.number, key, core.replica)
            shown = history.mask(core.replica.shown(key))
            expected = oracle.expected(key, seen)
            if shown != expected and self._touch.is_behind(host):
                ground.counts["flickers"] += 1
                continue
            if expected & ~shown:
                lacking = [write.name for write in history.each(expected & ~shown)]
                ground.fail(self.name, host, f"{ground.key(key)} lacks {lacking}, which nothing that it has seen replaces")
            extra = shown & ~expected
            if extra:
                overtaken = oracle.overtaken(key, seen, extra)
                ground.counts["overtaken"] += bool(overtaken)
                extra &= ~overtaken
            if extra:
                stale = [write.name for write in history.each(extra)]
                ground.fail(self.name, host, f"{ground.key(key)} shows {stale}, which something that it has seen replaces")

    def settled(self) -> None:
        """Every replica shows exactly what nobody replaced, of the writes that anybody kept."""
        ground, oracle, mesh = self._ground, self._ground.oracle, self._ground.mesh
        for key, history in oracle.keys.items():
            for number in mesh.running:
                oracle.observe(number, key, mesh.peer(number).replica)
            kept = oracle.kept(key, mesh.running)
            gap = oracle.has_gap(key, kept)
            views = {number: history.mask(mesh.peer(number).replica.shown(key)) for number in mesh.running}
            want = next(iter(views.values()), 0) if gap else oracle.expected(key, kept)
            ground.counts["gaps"] += gap
            for number, shown in views.items():
                ground.counts[f"{self.name} at the end"] += 1
                if shown != want:
                    lacks = [write.name for write in history.each(want & ~shown)]
                    stale = [write.name for write in history.each(shown & ~want)]
                    ground.fail(self.name, number, f"after the calm {ground.key(key)} lacks {lacks} and shows {stale} too much")


class Bases:
    """Every base is its author's S(n): the same head everywhere, and a state that has the digest which the author signed."""

    name = "bases"

    def __init__(self, ground: Ground, every: int = 16) -> None:
        """`every`: of how many turns with changes the digest is computed anew (about 5 us per body that moved)."""
        self._ground = ground
        self._every = every
        self._turns = 0
        self._heads: dict[tuple[ShelfId, int], bytes] = {}

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        if not changes or host.core is None:
            return
        self._turns += 1
        replica = host.core.replica
        own = replica.head(replica.shelf)
        if own is not None:
            self._same(host, replica.shelf, own.header.seq, own.hash)
        if not self._turns % self._every:
            self._all(host)

    def _same(self, host: Host[Peer], shelf: ShelfId, seq: int, found: bytes) -> None:
        known = self._heads.setdefault((shelf, seq), found)
        if known != found:
            self._ground.fail(
                self.name, host, f"another delta {seq} of shelf {self._ground.mesh.shelf_name(shelf)} than elsewhere: a fork"
            )

    def _all(self, host: Host[Peer]) -> None:
        assert host.core is not None
        replica = host.core.replica
        for shelf in replica.shelves():
            head = replica.head(shelf)
            if head is None:
                continue
            self._ground.counts[self.name] += 1
            self._same(host, shelf, head.header.seq, head.hash)
            if replica.digest(shelf) != head.header.shelf_digest:
                self._ground.fail(
                    self.name,
                    host,
                    f"its base of {self._ground.mesh.shelf_name(shelf)} at {head.header.seq} is not what the author signed",
                )
            if len(replica.loose_seqs(shelf)) > LOOSE_MAX:
                self._ground.fail(
                    self.name, host, f"{len(replica.loose_seqs(shelf))} loose deltas of {self._ground.mesh.shelf_name(shelf)}"
                )

    def settled(self) -> None:
        for number in self._ground.mesh.running:
            self._all(self._ground.mesh.hosts[number])


class Faults:
    """Nobody is blamed where nobody did wrong: no fork, no wrong digest, nothing void."""

    name = "faults"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        self._ground.counts[self.name] += 1
        for event in events:
            if isinstance(event, ShelfFault):
                self._ground.fail(
                    self.name, host, f"blames {self._ground.mesh.shelf_name(event.shelf)}: {event.kind}, {event.detail}"
                )

    def settled(self) -> None:
        pass


class Datagrams:
    """No datagram is larger than the limit."""

    name = "datagrams"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        if self._ground.mesh.world.network.largest > DATAGRAM_BYTES_MAX:
            self._ground.fail(self.name, host, f"a datagram of {self._ground.mesh.world.network.largest} bytes")

    def settled(self) -> None:
        self._ground.counts[self.name] += self._ground.mesh.world.network.delivered


class Life(NamedTuple):
    """A process of a member, by the shelf that it writes, and the newest incarnation that it claimed."""

    shelf: ShelfId | None
    incarnation: int


class Membership:
    """Crashed are found, living are not buried, nobody comes back from the dead without a new incarnation.

    A new process is a new life: one that lost its disk cannot know which incarnation it had.
    """

    name = "membership"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._buried: dict[tuple[int, ReplicaId], Life] = {}
        """By observer and member: the life that was given up."""
        self._known: dict[tuple[int, ReplicaId], Life] = {}
        self.deaths: list[tuple[int, int, ReplicaId]] = []
        """(world time, observer, member) of each burial."""
        self._turns: dict[int, int] = {}
        self._awake_since: dict[int, int] = {}
        self._disturbed_at = -1

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        if not host.runs % DETECTION_EVERY:
            self._look_for_ghosts(host)
        for event in events:
            match event:
                case MemberUp(replica=replica, incarnation=incarnation) | MemberUpdated(replica=replica, incarnation=incarnation):
                    self._up(host, replica, incarnation)
                case MemberDown(replica=replica, accusers=()):
                    self._ground.counts["alone"] += 1  # the observer hears nobody: it says nothing about the member
                case MemberDown(replica=replica) | MemberLeft(replica=replica):
                    self._ground.counts[self.name] += 1
                    self._buried[host.number, replica] = self._known.get((host.number, replica), Life(None, -1))
                    if isinstance(event, MemberDown):
                        self.deaths.append((self._ground.mesh.world.time, host.number, replica))

    def _up(self, host: Host[Peer], replica: ReplicaId, incarnation: int) -> None:
        self._ground.counts[self.name] += 1
        buried = self._buried.pop((host.number, replica), None)
        assert host.core is not None
        life = Life(host.core.swim.current_shelf(replica), incarnation)
        if buried is not None and life.shelf == buried.shelf and incarnation <= buried.incarnation:
            self._ground.fail(
                self.name,
                host,
                f"{self._ground.mesh.name_of(replica)} is back from the dead with its old incarnation {incarnation}",
            )
        self._known[host.number, replica] = life

    def _look_for_ghosts(self, host: Host[Peer]) -> None:
        """Whoever is gone for long is given up by everybody who has been running for as long, within reach of enough others.

        Two have to accuse, so those who are cut off with fewer go on hoping (DESIGN section 5).
        """
        mesh, time = self._ground.mesh, self._ground.mesh.world.time
        last = self._turns.get(host.number, 0)
        self._turns[host.number] = time
        if time - last > SECOND or host.core is None or mesh.preset.name != "lan":
            self._awake_since[host.number] = time
            return
        long_ago = time - DETECTION_SECONDS * SECOND
        if mesh.world.network.is_disturbed or len(mesh.running) < ACCUSERS_MIN + 1:
            self._disturbed_at = time
        awake_since = self._awake_since.setdefault(host.number, time)
        if max(awake_since, self._disturbed_at) > long_ago:
            return
        for other in mesh.hosts:
            if other.running or other.stopped_at is None or other.stopped_at > long_ago:
                continue
            self._ground.counts["detection"] += 1
            swim, gone = host.core.swim, mesh.memberships[other.number].replica_id
            if gone in swim.alive() or gone in swim.suspects():
                self._ground.fail(self.name, host, f"has not given up node-{other.number}, down for {DETECTION_SECONDS:g} s")

    def restarted(self, number: int) -> None:
        """A new process of this host remembers nothing of what the former one was told."""
        for table in (self._buried, self._known):
            for name in [name for name in table if name[0] == number]:
                del table[name]

    def settled(self) -> None:
        """Everybody who runs is alive to everybody who runs; nobody else is."""
        mesh = self._ground.mesh
        alive = {mesh.memberships[number].replica_id for number in mesh.running if not mesh.peer(number).left}
        for number in mesh.running:
            if mesh.peer(number).left:
                continue
            self._ground.counts[f"{self.name} at the end"] += 1
            believed = set(mesh.peer(number).swim.alive())
            wanted = alive - {mesh.memberships[number].replica_id}
            if believed != wanted:
                missing = sorted(map(mesh.name_of, wanted - believed))
                ghosts = sorted(map(mesh.name_of, believed - wanted))
                self._ground.fail(self.name, number, f"after the calm takes {missing} for dead and {ghosts} for alive")


class Copies:
    """Nobody counts a copy that is not there: whoever says that it holds a shelf has it on its disk."""

    name = "copies"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._stored: dict[tuple[int, ShelfId], int] = {}
        """The most that a host's disks ever had of a shelf."""

    def stored(self, number: int, shelf: ShelfId, seq: int) -> None:
        self._stored[number, shelf] = max(seq, self._stored.get((number, shelf), 0))

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        mesh = self._ground.mesh
        if not mesh.setup.durable or host.core is None or host.runs % COPIES_EVERY:
            return
        shelf = host.core.replica.shelf
        seq = host.core.replica.floor(shelf)
        if not seq:
            return
        self._ground.counts[self.name] += 1
        said = host.core.sync.copies.count(seq)
        there = sum(number != host.number and self._stored.get((number, shelf), 0) >= seq for number in range(len(mesh.hosts)))
        if said > there:
            self._ground.fail(self.name, host, f"counts {said} copies of its delta {seq}, {there} are on disks")

    def settled(self) -> None:
        pass


class Rest:
    """Housekeeping comes to rest, and leaves one shelf for each agent: former ones are taken over."""

    name = "rest"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        pass

    def settled(self) -> None:
        pass

    def rested(self, quiet_seconds: float, limit_seconds: float) -> None:
        """Nobody writes any more; runs the mesh until nothing has moved for `quiet_seconds`."""
        mesh = self._ground.mesh
        end, last, floors = mesh.now + limit_seconds, mesh.now, self._floors()
        while mesh.now - last < quiet_seconds:
            if mesh.now >= end:
                self._ground.fail(self.name, None, f"housekeeping still writes after {limit_seconds:g} s without a write")
            mesh.run(1.0)
            if self._floors() != floors:
                last, floors = mesh.now, self._floors()
        self._ground.counts[self.name] += 1
        current = {mesh.peer(number).replica.shelf for number in mesh.running}
        for number in mesh.running:
            former = set(mesh.peer(number).replica.shelves()) - current
            if former:
                names = sorted(map(mesh.shelf_name, former))
                self._ground.fail(self.name, number, f"still holds {names}, which nobody took over")

    def _floors(self) -> list[int]:
        mesh = self._ground.mesh
        return [mesh.peer(number).replica.floor(mesh.peer(number).replica.shelf) for number in mesh.running]


class Equality:
    """After the calm every replica is byte-equal."""

    name = "equality"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        pass

    def settled(self) -> None:
        mesh = self._ground.mesh
        digests = {number: mesh.peer(number).replica.state_digest() for number in mesh.running}
        self._ground.counts[self.name] += len(digests)
        if len(set(digests.values())) > 1:
            self._ground.fail(self.name, None, f"states differ: { ({n: d.hex()[:8] for n, d in digests.items()}) }")


class Inspector:
    """Runs all checkers over a mesh. Made before the mesh starts."""

    def __init__(self, mesh: Mesh, names: Sequence[str] = ()) -> None:
        self.oracle = Oracle()
        self.ground = Ground(mesh, self.oracle, Counter())
        self.membership = Membership(self.ground)
        self.copies = Copies(self.ground)
        self.rest = Rest(self.ground)
        self.touch = Touch(mesh)
        available: list[Checker] = [
            Views(self.ground, self.touch),
            Bases(self.ground),
            Faults(self.ground),
            Datagrams(self.ground),
            self.membership,
            self.copies,
            self.rest,
            Equality(self.ground),
        ]
        self.checkers = [checker for checker in available if not names or checker.name in names]
        self._starts = [0] * len(mesh.hosts)
        for number in range(len(mesh.hosts)):
            mesh.node(number).on_write.append(self._wrote)
        mesh.on_durable = self._durable
        mesh.on_disk_lost = self.oracle.disk_lost
        mesh.world.observers.append(self._turned)

    @property
    def counts(self) -> Counter[str]:
        return self.ground.counts

    def _begin(self, host: Host[Peer]) -> None:
        if self._starts[host.number] != host.starts:
            self._starts[host.number] = host.starts
            self.oracle.began(host.number)
            self.membership.restarted(host.number)
            self.touch.started(host.number)
            assert host.core is not None
            for key in self.oracle.keys:
                self.oracle.observe(host.number, key, host.core.replica)
            if host.disk is not None and isinstance(host.disk.image, Tables):  # a transaction under way at the crash may be there
                for shelf in host.core.replica.shelves():
                    self.copies.stored(host.number, shelf, host.disk.image.floor(shelf))
            self.counts["restarts"] += host.starts > 1
            for key, write in self.oracle.unconfirmed_loss(host.number):
                self.ground.fail(
                    "durability", host, f"{write.name}, {self.ground.key(key)}, was on its disk and is gone after a restart"
                )

    def _durable(self, host: Host[Peer], batches: Sequence[Batch]) -> None:
        self.counts["commits"] += 1
        for batch in batches:
            for entry in batch.journal:
                if isinstance(entry, HeadSet):
                    replica = replica_of(entry.shelf)
                    seq = header_from_bytes_untrusted(replica, entry.header_bytes).seq
                    self.copies.stored(host.number, entry.shelf, seq)

    def _wrote(self, written: Written) -> None:
        mesh = self.ground.mesh
        self._begin(mesh.hosts[written.host])
        self.oracle.wrote(written, mesh.world.time)

    def _turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Any]) -> None:
        self._begin(host)
        self.counts["transitions"] += 1
        self.touch.turned(host, events)
        if host.disk is not None and not host.disk.pending and host.core is not None:  # flush() would return now
            self.oracle.confirmed(host.number, host.core.replica.shelf, host.core.replica.floor(host.core.replica.shelf))
        for checker in self.checkers:
            checker.turned(host, events, changes)

    def settled(self) -> None:
        """To be called after the calm phase."""
        for checker in self.checkers:
            checker.settled()
