"""What a run measures: how fast writes reach everybody, how fast crashes are known, what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from crdt.ids import ReplicaId, ShelfId, dot_seq, make_dot
from crdt.ops import Key
from mesh.events import CaughtUp, Event, MemberDown
from mesh.peer import Peer
from mesh.testing import SECOND, Host, Mesh, Written

TRACKED_MAX: Final = 2_000
"""Writes followed at once; of more only a part is measured, so that a large run stays affordable."""


@dataclass(slots=True)
class Track:
    """One write on its way."""

    origin: ShelfId
    dot: int
    at: int
    to: int
    """Hosts that ran when it was made."""
    seen: dict[int, int] = field(default_factory=dict)
    """host -> microseconds until it was there."""


class Meter:
    """Made before the mesh starts. A write counts as seen by a host when that shows it or knows what replaced it."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._open: dict[Key, list[Track]] = {}
        self._open_count = 0
        self.tracks: list[Track] = []
        self.skipped = 0
        self._crashed: dict[ReplicaId, int] = {}
        self.detections: list[tuple[int, int]] = []
        """(microseconds from a crash to one observer's MemberDown, observer)."""
        self.false_deaths: list[tuple[int, int, ReplicaId]] = []
        """(world time, observer, member that ran)."""
        self.caught_up: list[int] = []
        """Microseconds from each restart of a process to its CaughtUp."""
        self.events: Counter[str] = Counter()
        """What nodes told their users, by class."""
        self._started: dict[int, tuple[int, int]] = {}
        """By host: (which start, world time)."""
        self._numbers = {membership.replica_id: number for number, membership in enumerate(mesh.memberships)}
        for number in range(len(mesh.hosts)):
            mesh.node(number).on_write.append(self._wrote)
        mesh.world.observers.append(self._turned)

    def _wrote(self, written: Written) -> None:
        if self._open_count >= TRACKED_MAX:
            self.skipped += 1
            return
        mesh = self._mesh
        track = Track(written.dot.origin, make_dot(written.dot.seq, written.dot.index), mesh.world.time, len(mesh.running))
        track.seen[written.host] = 0
        tracks = self._open.setdefault(written.key, [])
        if any(other.origin == track.origin and other.dot == track.dot for other in tracks):
            return  # it took the place of one in the same draft
        tracks.append(track)
        self.tracks.append(track)
        self._open_count += 1

    def _turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        core = host.core
        if core is None:
            return
        if self._started.get(host.number, (0, 0))[0] != host.starts:
            self._started[host.number] = (host.starts, self._mesh.world.time)
        for key in changes:
            tracks = self._open.get(key)
            if tracks:
                self._look(host, core, key, tracks)
        for event in events:
            self.events[type(event).__name__] += 1
            if isinstance(event, MemberDown):
                self._down(host.number, event.replica)
            elif isinstance(event, CaughtUp) and host.starts > 1:
                self.caught_up.append(self._mesh.world.time - self._started[host.number][1])

    def _look(self, host: Host[Peer], core: Peer, key: Key, tracks: list[Track]) -> None:
        time, number, replica = self._mesh.world.time, host.number, core.replica
        done = False
        for track in tracks:
            if number not in track.seen and replica.has(track.origin, dot_seq(track.dot)):
                track.seen[number] = time - track.at
                done |= len(track.seen) >= track.to
        if done:
            left = [track for track in tracks if len(track.seen) < track.to]
            self._open_count -= len(tracks) - len(left)
            self._open[key] = left

    def _down(self, observer: int, replica: ReplicaId) -> None:
        host = self._mesh.hosts[self._numbers[replica]]
        if host.running and self._mesh.identities[host.number] == host.number:
            self.false_deaths.append((self._mesh.world.time, observer, replica))
        elif host.stopped_at is not None:
            self.detections.append((self._mesh.world.time - host.stopped_at, observer))

    # ---- results

    def to_all(self) -> list[float]:
        """Milliseconds until each write was on every host, of those that got there; ascending."""
        return sorted(max(track.seen.values()) / 1_000 for track in self.tracks if len(track.seen) >= track.to)

    def to_each(self) -> list[float]:
        """Milliseconds to each other host, of all followed writes; ascending."""
        return sorted(delay / 1_000 for track in self.tracks for delay in track.seen.values() if delay)

    def unfinished(self) -> int:
        return sum(len(track.seen) < track.to for track in self.tracks)

    def traffic(self, since: tuple[int, int, int] = (0, 0, 0)) -> dict[str, float]:
        """Per node and second; `since`: (world time, bytes, datagrams) at the beginning, as `counters` gave them."""
        time, sent, datagrams = self.counters()
        seconds = max(1e-6, (time - since[0]) / SECOND) * max(1, len(self._mesh.hosts))
        return {"bytes_per_second": (sent - since[1]) / seconds, "datagrams_per_second": (datagrams - since[2]) / seconds}

    def counters(self) -> tuple[int, int, int]:
        hosts = self._mesh.hosts
        return self._mesh.world.time, sum(host.bytes_sent for host in hosts), sum(host.datagrams_sent for host in hosts)

    def sync_counts(self) -> dict[str, int]:
        """Sums over the running nodes of what their sync counted."""
        total: dict[str, int] = {}
        for number in self._mesh.running:
            for name, value in self._mesh.peer(number).sync.statistics().items():
                if isinstance(value, int):
                    total[name] = total.get(name, 0) + value
        return dict(sorted(total.items()))


def quantiles(ascending: Sequence[float]) -> dict[str, Any]:
    """p50, p90, p99 and max by nearest rank; None for all when there are no values."""
    names = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    if not ascending:
        return dict.fromkeys(names)
    return {
        name: round(ascending[min(len(ascending) - 1, -int(-share * len(ascending) // 1) - 1)], 3)
        for name, share in names.items()
    }
