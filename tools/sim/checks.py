"""Checkers: what must be true at every transition of every host, and after the calm.

Each checker reads the state from outside, through the replica's public reading methods, and compares it with what the oracle
knows. It counts what it has looked at, so that a run in which a checker had nothing to do is seen. The first thing that is wrong
ends the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from crdt.delta import Head
from crdt.ids import ShelfId
from crdt.ops import Key
from crdt.replica import HeadSet
from mesh.events import Event, ShelfFault
from mesh.peer import Peer
from mesh.store.rows import Batch
from mesh.testing import Host, Mesh, Written
from mesh.testing.tables import Tables
from mesh.values import read_value, value_keys
from tools.sim.bounds import Datagrams, Memory
from tools.sim.calls import Calls
from tools.sim.ground import Checker, CheckFailure, Ground, Moment, Touch, seldom
from tools.sim.membership import Membership
from tools.sim.oracle import KeyHistory, Oracle
from tools.sim.values import Values

__all__ = ["CheckFailure", "Checker", "Ground", "Inspector", "Touch"]

BASES_EVERY: Final = 16
"""Of the turns with changes in a mesh of usual size, how many are followed by digests anew (about 5 us per body that moved)."""
COPIES_EVERY: Final = 8
"""Of a host's turns, how many are looked at for copies."""
LOOSE_MAX: Final = 256
"""DESIGN section 2: loose deltas per shelf."""


class Views:
    """No view lacks a write that nothing its replica has seen replaces, and none shows one that something seen replaces.

    Held against every change of every view, but for those of replicas that are catching up after they were out of touch.
    """

    name = "views"
    looks_at: Moment = "changes"

    def __init__(self, ground: Ground, touch: Touch) -> None:
        self._ground = ground
        self._touch = touch

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        ground, oracle = self._ground, self._ground.oracle
        core = host.core
        if core is None:
            return
        replica = core.replica
        for key in changes:
            history = oracle.keys.get(key)
            if history is None:
                continue
            ground.counts[self.name] += 1
            seen = oracle.observe(host.number, key, replica)
            shown = history.mask(replica.shown(key))
            expected = seen & ~history.replaced_by(seen) & history.shows
            if history.passing:
                expected &= ~(history.passing & ~shown)
            if shown == expected:
                continue
            if self._touch.is_behind(host):
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
            want = next(iter(views.values()), 0) if gap else oracle.expected(key, kept) & ~self._absent(history)
            ground.counts["gaps"] += gap
            for number, shown in views.items():
                ground.counts[f"{self.name} at the end"] += 1
                if shown != want:
                    lacks = [write.name for write in history.each(want & ~shown)]
                    stale = [write.name for write in history.each(shown & ~want)]
                    ground.fail(self.name, number, f"after the calm {ground.key(key)} lacks {lacks} and shows {stale} too much")

    def _absent(self, history: KeyHistory) -> int:
        """Writes that show only while their author lives, of processes that are gone."""
        mesh = self._ground.mesh
        current = {mesh.peer(number).replica.shelf for number in mesh.running}
        return sum(1 << write.bit for write in history.each(history.passing) if write.origin not in current)


class Bases:
    """Every base is its author's S(n): the same head everywhere, and a state that has the digest which the author signed."""

    name = "bases"
    looks_at: Moment = "changes"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._every = seldom(BASES_EVERY, len(ground.mesh.hosts))
        self._turns = 0
        self._heads: dict[tuple[ShelfId, int], bytes] = {}
        self._own: list[Head | None] = [None] * len(ground.mesh.hosts)
        self._held: list[dict[ShelfId, Head]] = [{} for _ in ground.mesh.hosts]
        """By host: what it held when its base was last found right. Until the head moves, only the last look checks it again."""

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        if host.core is None:
            return
        self._turns += 1
        replica = host.core.replica
        own = replica.head(replica.shelf)
        if own is not None and own is not self._own[host.number]:
            self._own[host.number] = own
            self._same(host, replica.shelf, own.header.seq, own.hash)
        if not self._turns % self._every:
            self._look(host)

    def _same(self, host: Host[Peer], shelf: ShelfId, seq: int, found: bytes) -> None:
        known = self._heads.setdefault((shelf, seq), found)
        if known != found:
            self._ground.fail(
                self.name, host, f"another delta {seq} of shelf {self._ground.mesh.shelf_name(shelf)} than elsewhere: a fork"
            )

    def _look(self, host: Host[Peer], *, at_all: bool = False) -> None:
        assert host.core is not None
        replica, held = host.core.replica, self._held[host.number]
        moved = [(shelf, base.head) for shelf, base in replica.bases.items() if at_all or held.get(shelf) is not base.head]
        for shelf, head in moved:
            if head is None:
                continue
            held[shelf] = head
            self._ground.counts[self.name] += 1
            self._same(host, shelf, head.header.seq, head.hash)
            if replica.digest(shelf) != head.header.shelf_digest:
                self._ground.fail(
                    self.name,
                    host,
                    f"its base of {self._ground.mesh.shelf_name(shelf)} at {head.header.seq} is not what the author signed",
                )
        for shelf, loose in replica.loose.items():
            if len(loose) > LOOSE_MAX:
                self._ground.fail(self.name, host, f"{len(loose)} loose deltas of {self._ground.mesh.shelf_name(shelf)}")

    def settled(self) -> None:
        for number in self._ground.mesh.running:
            self._look(self._ground.mesh.hosts[number], at_all=True)


class Faults:
    """Nobody is blamed where nobody did wrong: no fork, no wrong digest, nothing void."""

    name = "faults"
    looks_at: Moment = "events"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        for event in events:
            self._ground.counts[self.name] += 1
            if isinstance(event, ShelfFault):
                self._ground.fail(
                    self.name, host, f"blames {self._ground.mesh.shelf_name(event.shelf)}: {event.kind}, {event.detail}"
                )

    def settled(self) -> None:
        pass


class Copies:
    """Nobody counts a copy that is not there: whoever says that it holds a shelf has it on its disk."""

    name = "copies"
    looks_at: Moment = "turns"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._stored: dict[ShelfId, list[int]] = {}
        """The most that the disks of each host ever had of a shelf."""
        self._right: dict[int, tuple[ShelfId, int, int]] = {}
        """By host: what was found right at the last look. What disks ever had does not become less."""

    def stored(self, number: int, shelf: ShelfId, seq: int) -> None:
        stored = self._stored.get(shelf)
        if stored is None:
            stored = self._stored[shelf] = [0] * len(self._ground.mesh.hosts)
        if seq > stored[number]:
            stored[number] = seq

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        if host.runs % COPIES_EVERY or host.core is None or not self._ground.mesh.setup.durable:
            return
        shelf = host.core.replica.shelf
        seq = host.core.replica.floor(shelf)
        if not seq:
            return
        self._ground.counts[self.name] += 1
        said = host.core.sync.copies.count(seq)
        if not said or self._right.get(host.number) == (shelf, seq, said):
            return
        stored = self._stored.get(shelf, ())
        there = sum(map(seq.__le__, stored)) - (bool(stored) and stored[host.number] >= seq)
        if said > there:
            self._ground.fail(self.name, host, f"counts {said} copies of its delta {seq}, {there} are on disks")
        self._right[host.number] = (shelf, seq, said)

    def settled(self) -> None:
        pass


class Rest:
    """Housekeeping comes to rest, and leaves one shelf for each agent: former ones are taken over."""

    name = "rest"
    looks_at: Moment = "end"

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
    """After the calm every replica is byte-equal, and what programs read there is equal, too."""

    name = "equality"
    looks_at: Moment = "end"

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
        values: dict[Key, object] = {}
        for number in mesh.running:
            node = mesh.node(number)
            for key in value_keys(node, ()):
                value = read_value(node, key).change.value
                if values.setdefault(key, value) != value:
                    self._ground.fail(self.name, number, f"reads {value!r}, others read {values[key]!r}: {self._ground.key(key)}")


class Inspector:
    """Runs all checkers over a mesh. Made before the mesh starts."""

    def __init__(self, mesh: Mesh, names: Sequence[str] = ()) -> None:
        self.oracle = Oracle()
        for number in range(len(mesh.hosts)):
            mesh.node(number).on_write.append(self._wrote)
        self.calls = Calls(mesh, self.oracle)
        self.ground = Ground(mesh, self.oracle, self.calls, Counter())
        self.membership = Membership(self.ground)
        self.copies = Copies(self.ground)
        self.rest = Rest(self.ground)
        self.touch = Touch(mesh)
        available: list[Checker] = [
            Views(self.ground, self.touch),
            Bases(self.ground),
            Faults(self.ground),
            Datagrams(self.ground),
            Memory(self.ground),
            self.membership,
            self.copies,
            self.rest,
            Equality(self.ground),
            Values(self.ground, self.touch),
        ]
        self.checkers = [checker for checker in available if not names or checker.name in names]
        self._at: dict[str, list[Checker]] = {"turns": [], "changes": [], "events": [], "end": []}
        for checker in self.checkers:
            self._at[checker.looks_at].append(checker)
        self._starts = [0] * len(mesh.hosts)
        mesh.on_durable = self._durable
        mesh.on_disk_lost = self.oracle.disk_lost
        mesh.world.observers.append(self._turned)

    @property
    def counts(self) -> Counter[str]:
        return self.ground.counts

    def add(self, checker: Checker) -> None:
        """One more, for this mesh only."""
        self.checkers.append(checker)
        self._at[checker.looks_at].append(checker)

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
                    self.copies.stored(host.number, entry.shelf, entry.seq)

    def _wrote(self, written: Written) -> None:
        mesh = self.ground.mesh
        self._begin(mesh.hosts[written.host])
        self.oracle.wrote(written, mesh.world.time)

    def _turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Any]) -> None:
        if self._starts[host.number] != host.starts:
            self._begin(host)
        self.ground.counts["transitions"] += 1
        if events or self.ground.mesh.world.time >= self.touch.due_at:
            self.touch.turned(host, events)
        if host.disk is not None and not host.disk.pending and host.core is not None:  # flush() would return now
            replica = host.core.replica
            self.oracle.confirmed(host.number, replica.shelf, replica.floor(replica.shelf))
        for checker in self._at["turns"]:
            checker.turned(host, events, changes)
        if changes:
            for checker in self._at["changes"]:
                checker.turned(host, events, changes)
        if events:
            for checker in self._at["events"]:
                checker.turned(host, events, changes)

    def settled(self) -> None:
        """To be called after the calm phase."""
        for checker in self.checkers:
            checker.settled()
