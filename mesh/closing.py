"""What an agent does about shelves that end: proves forks, takes nothing more, heals its own, closes those that it has to close.

two headers that cannot both be their author's -> a proof of forking, a statement like others: everybody ends that shelf
the shelf that ended is our own, or somebody else writes it -> this process goes on with a new one
a shelf of ours that forked, or one of a replica whose cut names us -> collect what members hold, issue it again, speak for it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from math import inf
from typing import Final, Protocol

import crdt
from crdt.delta import Head, is_fork
from crdt.ids import ReplicaId, ShelfId, replica_of
from crdt.state import Fault
from mesh.complaints import Complaints
from mesh.effects import Now
from mesh.errors import Malformed, Refused
from mesh.events import Event, MemberCut, ShelfClosed, ShelfFault, ShelfForked
from mesh.sync.sync import Sync
from mesh.trust import Directory
from mesh.trust.statements import fork_statement

CHECK_SECONDS: Final = 1.0
"""DESIGN section 2: a replica checks its own digests at the latest after a second (or 64 deltas)."""
GRACE_SECONDS: Final = 1.0
"""From when a shelf ended until it is collected, so that everybody has stopped taking it: nothing that comes later is lost."""
CLASH_SECONDS: Final = 30.0
"""After another living agent with this identity was heard of, nothing is taken over: it may be writing what we would speak for.
Guess: longer than an agent is suspected."""


FORKED: Final = (
    "two processes wrote one shelf of {name}: was its machine cloned or set back while it ran, or copied with its keys? Then "
    "stop one of the two and enrol it anew; {name} closes the shelf by itself. Else it tells two stories: "
    "`mesh keys cut {name} --host OTHER`"
)
CUT: Final = "{name} is cut, and {host} has not taken over yet: is {host} running, and in step?"
ENDED: Final = "{name} forked too often: nothing more of it is taken. Name who takes over: `mesh keys cut {name} --host OTHER`"


class Owner(Protocol):
    """The peer, as far as this needs it."""

    def notify(self, event: Event) -> None: ...
    def begin_again(self, now: Now) -> None: ...
    def seal_soon(self, now: Now) -> None: ...


class Closer:
    def __init__(
        self,
        me: ReplicaId,
        replica: crdt.Replica,
        directory: Directory,
        sync: Sync,
        living: Callable[[], Sequence[ReplicaId]],
        owner: Owner,
        now: Now,
    ) -> None:
        self._me = me
        self._replica = replica
        self._directory = directory
        self._sync = sync
        self._living = living
        self._owner = owner
        self._complaints = Complaints()
        self._check_due = now.monotonic + CHECK_SECONDS
        self._close_from = inf
        self._quiet_from = -inf
        self._begin_again = False
        self._forked: set[ShelfId] = set()
        self._hosts: set[tuple[ReplicaId, ReplicaId]] = set()
        """(cut, host) of all cuts that are in force here."""

    def may_take_over(self) -> bool:
        """Nobody else lives with this identity, as far as is known."""
        return self._quiet_from == -inf

    def clashed(self, now: Now) -> None:
        """Another living agent has this identity."""
        self._quiet_from = now.monotonic + CLASH_SECONDS

    # ---- what ends

    def learn(self, now: Now) -> None:
        """There are other statements than last time: what they end, ends here."""
        limits = self._directory.limits
        self._replica.shelf_bytes_max, self._replica.shelf_ops_max = limits.shelf_bytes_max, limits.shelf_ops_max
        endings, ended = self._directory.endings, self._replica.ended
        for shelf in endings.forked():
            if shelf not in self._forked:
                self._end_shelf(shelf, now)
        for replica in endings.ended_replicas():
            if replica not in ended.replicas:
                self._end_replica(replica, now)
        for replica, hosts in sorted(endings.cuts.items()):
            for host in sorted({cut.host for cut in hosts.values()}):
                if (replica, host) not in self._hosts:
                    self._hosts.add((replica, host))
                    self._replica.rejudge((host,))
                    self._close_from = min(self._close_from, now.monotonic + GRACE_SECONDS)

    def _end_shelf(self, shelf: ShelfId, now: Now) -> None:
        self._forked.add(shelf)
        self._replica.end(shelf)
        self._sync.ended(shelf, now)
        if not self._replica.is_closed(shelf):
            self._owner.notify(ShelfForked(shelf, self._directory.name(replica_of(shelf)), own=replica_of(shelf) == self._me))
        self._close_from = min(self._close_from, now.monotonic + GRACE_SECONDS)
        if shelf == self._replica.shelf:
            self._begin_again = True

    def _end_replica(self, replica: ReplicaId, now: Now) -> None:
        self._replica.end_replica(replica)
        for shelf in self._replica.shelves():
            if replica_of(shelf) == replica:
                self._sync.ended(shelf, now)
        host = self._directory.endings.host(replica)
        name = self._directory.name
        self._owner.notify(MemberCut(replica, name(replica), None if host is None else name(host)))
        self._close_from = min(self._close_from, now.monotonic + GRACE_SECONDS)

    # ---- what the replica finds

    def found(self, faults: Iterable[Fault], now: Now) -> dict[str, int]:
        """Tells the user of faults, of each kind and shelf once for a while; makes proofs of them. Who issues again what it wrote
        under a newer credential is not at fault where that one has not arrived yet. Returns how many were not told, by reason."""
        silent = {"fault_repeated": 0, "fault_unsure": 0}
        for fault in faults:
            if not all(self._directory.knows(replica, rights) for replica, rights in fault.claims):
                silent["fault_unsure"] += 1
            elif self._complaints.is_due(fault, now):
                self._owner.notify(ShelfFault(fault.shelf, fault.kind, fault.detail))
            else:
                silent["fault_repeated"] += 1
            if fault.kind in ("fork", "identity"):
                self._prove(fault, now)
            if fault.kind == "identity" and fault.shelf == self._replica.shelf:
                self._begin_again = True
        return silent

    def _prove(self, fault: Fault, now: Now) -> None:
        """The two headers are those of the fault, or among what is still at hand as it came."""
        heads: list[Head] = list(fault.proof)
        for seq in sorted({head.header.seq + step for head in fault.proof for step in (-1, 0, 1)}):
            heads += self._sync.heads_at(fault.shelf, seq)
        mine = self._replica.head(fault.shelf)
        heads += [mine] if mine else []
        pair = next((pair for pair in combinations(heads, 2) if is_fork(*pair)), None)
        if pair:
            try:
                self._directory.add_untrusted(fork_statement(*pair), now)
            except (Malformed, Refused) as error:
                self._owner.notify(ShelfFault(fault.shelf, "proof", f"two headers of it are not both signed: {error}"))

    def describe(self) -> list[dict[str, str]]:
        """Shelves that ended and that nobody has closed yet, for people: innocent explanations first."""
        endings, name, closed = self._directory.endings, self._directory.name, self._replica.is_closed
        told = []
        for shelf in (each for each in endings.forked() if not closed(each) and not endings.is_cut(replica_of(each))):
            who = name(replica_of(shelf))
            told.append({"name": who, "shelf": shelf.hex(), "why": "fork", "told": FORKED.format(name=who)})
        for replica in endings.ended_replicas():
            host, held = endings.host(replica), [each for each in self._replica.shelves() if replica_of(each) == replica]
            for shelf in (each for each in held if not closed(each)):
                text = ENDED.format(name=name(replica)) if host is None else CUT.format(name=name(replica), host=name(host))
                told.append({"name": name(replica), "shelf": shelf.hex(), "why": "cut", "told": text})
        return told

    # ---- what is to be done

    @property
    def deadline(self) -> float:
        collector = self._sync.collector
        check_due = self._check_due if self._replica.unchecked else inf
        return min(check_due, collector.deadline if collector.current else self._close_at)

    @property
    def _close_at(self) -> float:
        """When the next shelf may be collected: nothing to wake up for before this replica is in step, nor in a clash."""
        return max(self._close_from, self._quiet_from) if self._sync.synced else inf

    def tick(self, now: Now) -> None:
        if self._begin_again:
            self._begin_again = False
            self._owner.begin_again(now)
        if now.monotonic >= self._quiet_from:
            self._quiet_from = -inf
        if now.monotonic >= self._check_due:
            self._check_due = now.monotonic + CHECK_SECONDS
            self._replica.check_digests()
        collector = self._sync.collector
        if collector.current is None and now.monotonic < self._close_from:
            return
        collector.tick(now)
        done = collector.take(now)
        if done is not None:
            self._close(done.shelf, done.copies(), len(done.silent), now)
        if collector.current is None and now.monotonic >= self._close_at:
            due = self._due()
            self._close_from = now.monotonic if due else inf
            if due:
                collector.begin(due[0], self._living(), now)

    def _due(self) -> list[ShelfId]:
        """Shelves that this agent has to close, and that somebody may hold something of."""
        mine = [shelf for shelf in self._directory.endings.forked() if replica_of(shelf) == self._me]
        named = set(self._directory.endings.hosted_by(self._me))
        held = self._replica.shelves() if named else []
        hosted = [shelf for shelf in {*held, *self._sync.ended_elsewhere} if replica_of(shelf) in named]
        found = [shelf for shelf in {*mine, *hosted} if shelf != self._replica.shelf and not self._replica.is_closed(shelf)]
        return sorted(found)

    def _close(self, shelf: ShelfId, copies: Sequence[crdt.ended.Copy], silent: int, now: Now) -> None:
        if self._directory.rights(self._me) is None or shelf not in self._replica.ended:
            return
        unfit = self._replica.close(shelf, copies)
        name = self._directory.name(replica_of(shelf))
        self._owner.notify(ShelfClosed(shelf, name, len(copies), silent, unfit))
        self._owner.seal_soon(now)
