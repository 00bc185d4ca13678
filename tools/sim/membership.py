"""Membership truth: crashed are found, living are not buried, nobody comes back from the dead without a new incarnation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from crdt.ids import ReplicaId, ShelfId, shelf_id
from crdt.ops import Key
from mesh.events import Event, MemberDown, MemberLeft, MemberUp, MemberUpdated
from mesh.peer import Peer
from mesh.testing import SECOND, Host
from tools.sim.ground import Ground, Moment

DETECTION_EVERY: Final = SECOND // 5
"""At least between a host's looks for ghosts. A share of its turns would be too few where little happens: whoever has not looked
for a second is taken for one that was stopped."""
ACCUSERS_MIN: Final = 3
"""Others that must be up for a death to be sure soon: two accusers, and one that is paused."""
STALL_SECONDS: Final = 3.0
"""Between two turns of one that runs. Ten rounds of probes: in most of them it has something to do, or is told something."""
DETECTION_SECONDS: Final = 20.0
"""A crash is known to everybody within this, by the `lan` preset's slowest way: twice the longest suspicion, after a round of
probes by a stretched schedule (computed)."""


class Life(NamedTuple):
    """A process of a member, by the shelf that it writes, and the newest incarnation that it claimed."""

    shelf: ShelfId | None
    incarnation: int


class Membership:
    """Crashed are found, living are not buried, nobody comes back from the dead without a new incarnation.

    A new process is a new life: one that lost its disk cannot know which incarnation it had.
    """

    name = "membership"
    looks_at: Moment = "turns"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._buried: dict[int, dict[ReplicaId, Life]] = {}
        """By observer and member: the life that was given up."""
        self._known: dict[int, dict[ReplicaId, Life]] = {}
        """Likewise: the last one that it was told of."""
        self.deaths: list[tuple[int, int, ReplicaId]] = []
        """(world time, observer, member) of each burial."""
        self._turns: dict[int, int] = {}
        self._awake_since: dict[int, int] = {}
        self._disturbed_at = -1

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        if self._ground.mesh.world.time >= self._turns.get(host.number, 0) + DETECTION_EVERY:
            self._look_for_ghosts(host)
        for event in events:
            match event:
                case MemberUp(replica=replica, incarnation=incarnation) | MemberUpdated(replica=replica, incarnation=incarnation):
                    self._up(host, replica, incarnation)
                case MemberDown(replica=replica, accusers=()):
                    self._ground.counts["alone"] += 1  # the observer hears nobody: it says nothing about the member
                case MemberDown(replica=replica) | MemberLeft(replica=replica):
                    self._ground.counts[self.name] += 1
                    self._buried.setdefault(host.number, {})[replica] = self._life(host, replica)
                    if isinstance(event, MemberDown):
                        self.deaths.append((self._ground.mesh.world.time, host.number, replica))

    def _up(self, host: Host[Peer], replica: ReplicaId, incarnation: int) -> None:
        self._ground.counts[self.name] += 1
        buried = self._buried.get(host.number, {}).pop(replica, None)
        assert host.core is not None
        life = Life(host.core.swim.current_shelf(replica), incarnation)
        if buried is not None and life.shelf == buried.shelf and incarnation <= buried.incarnation:
            self._ground.fail(
                self.name,
                host,
                f"{self._ground.mesh.name_of(replica)} is back from the dead with its old incarnation {incarnation}",
            )
        self._known.setdefault(host.number, {})[replica] = life

    def _life(self, host: Host[Peer], replica: ReplicaId) -> Life:
        """As far as this process was told of it, or knew it when it began."""
        known = self._known.get(host.number, {}).get(replica)
        if known is not None:
            return known
        picture = self._ground.mesh.picture
        record = picture.records.get(replica) if picture is not None and host.starts == 1 else None
        return Life(None, -1) if record is None else Life(shelf_id(replica, record.birth), record.incarnation)

    def _look_for_ghosts(self, host: Host[Peer]) -> None:
        """Whoever is gone for long is given up by everybody who has been running for as long, within reach of enough others.

        Two have to accuse, so those who are cut off with fewer go on hoping (DESIGN section 5).
        """
        mesh, time = self._ground.mesh, self._ground.mesh.world.time
        last = self._turns.get(host.number, 0)
        self._turns[host.number] = time
        if time - last > STALL_SECONDS * SECOND or host.core is None or mesh.preset.name != "lan":
            self._awake_since[host.number] = time
            return
        long_ago = time - DETECTION_SECONDS * SECOND
        if mesh.world.network.is_disturbed or mesh.world.up < ACCUSERS_MIN + 1:
            self._disturbed_at = time
        awake_since = self._awake_since.setdefault(host.number, time)
        if max(awake_since, self._disturbed_at) > long_ago or mesh.world.up == len(mesh.hosts):
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
        self._buried.pop(number, None)
        self._known.pop(number, None)

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
