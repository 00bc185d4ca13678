"""A whole mesh on virtual time: real peer cores, real cryptography, a simulated network and simulated disks.

    with mesh.testing.open_mesh(3, seed=1) as mesh:
        mesh.node(0).register("robots/0/pose").set([1.0, 2.0])
        mesh.run(0.1)
        assert mesh.node(2).register("robots/0/pose").value == [1.0, 2.0]

Nothing here sleeps, opens a socket or starts a thread. A run depends on the seed and on the calls made, on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from crdt.ids import ReplicaId, ShelfId, birth_of, replica_of
from crdt.ops import Key
from mesh.errors import ConfigError
from mesh.events import Event
from mesh.paths import parse_path
from mesh.peer import Peer, PeerConfig
from mesh.presets import Preset, preset
from mesh.quorum.rows import Image, QuorumBatch, QuorumRestored
from mesh.store.rows import Batch, KnownPeer, Restored
from mesh.swim.roster import Picture
from mesh.testing.clock import SECOND, Clock
from mesh.testing.crypto import SharedCrypto
from mesh.testing.delay import Delay
from mesh.testing.disk import FSYNC_DEFAULT, Disk
from mesh.testing.network import Cut, Link
from mesh.testing.node import VirtualNode
from mesh.testing.streams import stream
from mesh.testing.tables import Tables
from mesh.testing.world import Boot, Host, World
from mesh.trust import Authority, Directory, Identity, Membership
from mesh.values import read_value, type_name, types_at
from mesh.wire.cose import MESH_ID_BYTES
from mesh.wire.crypto import PUBLIC_KEY_BYTES
from mesh.wire.frames import Frame

DiskFate = Literal["kept", "lost", "old"]

READDRESS_SECONDS: Final = 5.0
"""As mesh.start.OWN_ADDRESS_S: until a process notices that its machine has another address."""
SEEDS: Final = 3
"""Hosts that everybody is told of: enough that the loss of one at the start does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How a mesh is built. All of it belongs to a run's identity, beside the seed."""

    preset: str | Preset = "lan"
    link: Link = field(default_factory=Link)
    durable: bool = True
    """Every host has a disk."""
    fsync: Delay = FSYNC_DEFAULT
    drift: float = 0.0
    """Clocks run fast or slow by up to so many parts per million."""
    skew: float = 0.0
    """Wall clocks are off by up to so many seconds."""
    warm: bool = False
    """Everybody has met everybody before (restart of a whole mesh), instead of starting from the seeds."""
    introduced: bool = False
    """When all start at once (`warm`), everybody has heard everybody's first word already, as in a mesh that has been running: no
    storm of greetings, which grows with the square of the mesh. All that this makes equal is shared (`mesh.overlay`), so neither
    do time and memory of the start."""
    coalesce: float = 0.005
    """Seconds, as NodeConfig.coalesce_ms."""
    may_write: tuple[str, ...] = ("**",)
    critical: tuple[str, ...] = ()
    """Prefixes of the charter."""
    voters: int = 0
    """So many of the first hosts are enrolled as voters."""
    scores: tuple[int, ...] = ()
    """Of the first voters; of the others 0."""
    threshold: int = 1
    authority_keys: int = 1
    """Keys of the authority, and how many must sign."""


class Mesh:
    """N agents. Times are virtual seconds unless said otherwise."""

    def __init__(self, count: int, *, seed: int = 0, setup: Setup | None = None) -> None:
        self.setup = setup if setup is not None else Setup()
        if self.setup.introduced and not self.setup.warm:
            raise ConfigError("nobody can be introduced to a mesh whose keys it does not know: introduced without warm")
        self.seed = seed
        self.crypto = SharedCrypto()
        self.world: World[Peer] = World(seed, link=self.setup.link)
        chosen = self.setup.preset
        self.preset = preset(chosen) if isinstance(chosen, str) else chosen
        keys = stream(seed, "keys")
        several = self.setup.authority_keys
        self.authority = Authority.generate(
            critical=self.setup.critical,
            threshold=self.setup.threshold,
            keys=several,
            entropy=keys.randbytes(PUBLIC_KEY_BYTES * several + MESH_ID_BYTES),
        )
        self._trust: Directory | None = None
        self._trusted: frozenset[bytes] = frozenset()
        """What every disk of a warm mesh holds of keys, read once, and as it is there."""
        self._introducing = False
        self.picture: Picture | None = None
        """What everybody believed of everybody at the start, if they had been introduced."""
        self._remembered = Restored()
        """What a process without a disk starts with, besides that."""
        self.memberships: list[Membership] = []
        self.identities = list(range(count))
        """Of which member each host has the keys: its own, unless its disk is a clone."""
        self._cuts: dict[str, list[Cut]] = {}
        self._nodes: list[VirtualNode] = []
        self.on_durable: Callable[[Host[Peer], Sequence[Batch]], None] | None = None
        """Told when more of a host's batches are on its disk; for oracles."""
        self.on_disk_lost: Callable[[int], None] | None = None
        """Told when a disk is lost or set back."""
        self.world.observers.append(self._told)
        for number in range(count):
            identity = Identity.generate(keys.randbytes(32), self.crypto)
            score = self.setup.scores[number] if number < len(self.setup.scores) else 0
            membership = self.authority.enrol(
                identity,
                name=f"node-{number}",
                may_write=list(self.setup.may_write),
                voter=number < self.setup.voters,
                score=score,
            )
            self.memberships.append(membership)
        for number in range(count):
            self._add_host(number)
        if self.setup.warm:
            self._warm_up()

    def _add_host(self, number: int) -> None:
        rng = stream(self.seed, "host", number)
        clock = Clock(
            drift=rng.uniform(-self.setup.drift, self.setup.drift),
            skew=rng.uniform(-self.setup.skew, self.setup.skew),
            start=rng.uniform(10.0, 100_000.0),
        )
        disk: Disk[Batch, Restored] | None = None
        if self.setup.durable:
            disk = Disk(Tables, stream(self.seed, "disk", number), self.world.at, fsync=self.setup.fsync)
        journal: Disk[QuorumBatch, QuorumRestored] | None = None
        if self.setup.durable:
            rng = stream(self.seed, "journal", number)
            journal = Disk(Image, rng, self.world.at, fsync=self.setup.fsync, group_delay=0, is_log=True)
        host = self.world.add_host(self._start_peer, clock=clock, disk=disk, journal=journal)
        self._nodes.append(VirtualNode(host))
        if disk is not None:
            disk.on_durable = lambda batches: self._committed(host, batches)
            disk.on_torn = lambda: self._disk_lost(number)
        if journal is not None:
            journal.on_durable = lambda batches: self._urgent_committed(host, batches)

    def _start_peer(self, boot: Boot) -> Peer:
        """One start of an agent's process, as mesh.start does it."""
        membership = self.memberships[self.identities[boot.host]]
        restored, trust = self._known_to_all(boot.restored if boot.restored is not None else self._remembered)
        config = PeerConfig(
            membership=membership,
            address=boot.address,
            birth=boot.rng.getrandbits(32),
            boot_id=boot.rng.randbytes(16),
            entropy=stream(self.seed, "entropy", boot.host, self.hosts[boot.host].starts).randbytes,
            seeds=tuple(host.address for host in self.hosts[:SEEDS] if host.number != boot.host),
            preset=self.preset,
            coalesce_seconds=self.setup.coalesce,
            durable=self.setup.durable,
            crypto=self.crypto,
            read_delta_untrusted=self.crypto.read_delta_untrusted,
            write_delta=self.crypto.write_delta,
            trust=trust,
        )
        quorum = boot.quorum if boot.quorum is not None else QuorumRestored()
        return Peer(config, restored, boot.rng, boot.now, replace(quorum, anchor=config.membership.anchor))

    def _known_to_all(self, restored: Restored) -> tuple[Restored, Directory | None]:
        """What this disk holds beyond what all know of keys, and that. Members who are about to be introduced are left out."""
        peers = [] if self._introducing else restored.peers
        if restored is not self._remembered and not self._trusted.issubset(restored.statements):
            return restored, None
        statements = [raw for raw in restored.statements if raw not in self._trusted]
        return replace(restored, peers=peers, statements=statements), self._trust

    def _committed(self, host: Host[Peer], batches: Sequence[Batch]) -> None:
        """The driver of mesh.node does the same: the core learns what is on the disk, and turns if that is news to somebody."""
        if host.core is not None:
            for batch in batches:
                if host.core.committed(batch):
                    host.wake_soon()
        if self.on_durable is not None:
            self.on_durable(host, batches)

    def _urgent_committed(self, host: Host[Peer], batches: Sequence[QuorumBatch]) -> None:
        if host.core is not None and batches:
            host.core.urgent_committed(batches[-1].ticket, host.now())
            host.wake_soon()

    def _told(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        if events:
            self._nodes[host.number].told += events
        if host.core is not None and host.core.left:
            self.world.at(self.world.time, host.stop)

    def _warm_up(self) -> None:
        """Every disk knows every member, as after a restart of a mesh that ran before. Where there are no disks, every start of a
        process is told.
        """
        statements = tuple(membership.credential for membership in self.memberships)
        self._trust = Directory(self.authority.charter, crypto=self.crypto)
        self._trust.restore(statements)
        self._trust.take_changed()
        self._trusted = frozenset(statements)
        peers = tuple(
            KnownPeer(membership.replica_id, membership.identity.public_key, host.address, 1, membership.name, 0)
            for membership, host in zip(self.memberships, self.hosts, strict=True)
        )
        if not self.setup.durable:
            self._remembered = Restored(peers=list(peers), incarnation=1)
        rows = {peer.replica: peer for peer in peers}, dict.fromkeys(statements, True)
        for host in self.hosts:
            if host.disk is not None:
                host.disk.image = Tables(*rows)
                host.disk.image.apply(Batch(forgotten=(self.memberships[host.number].replica_id,), incarnation=1))

    # ---- what there is

    @property
    def hosts(self) -> list[Host[Peer]]:
        return self.world.hosts

    def peer(self, number: int) -> Peer:
        """The core that runs on this host. Raises ValueError when none does."""
        core = self.hosts[number].core
        if core is None:
            raise ValueError(f"host {number} is down")
        return core

    def node(self, number: int) -> VirtualNode:
        """Handles, members and events of this host, as a program on it would see them."""
        return self._nodes[number]

    @property
    def running(self) -> list[int]:
        return [host.number for host in self.hosts if host.running]

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.world.time / SECOND

    @property
    def digest(self) -> str:
        return self.world.digest

    # ---- time

    def start(self, numbers: Iterable[int] | None = None) -> None:
        """Switch hosts on, all by default."""
        if numbers is None and self.setup.introduced:
            self._start_introduced()
            return
        for number in range(len(self.hosts)) if numbers is None else numbers:
            if not self.hosts[number].running:
                self.hosts[number].start()

    def _start_introduced(self) -> None:
        started = [host for host in self.hosts if not host.running]
        self._introducing = True
        cores = [host.start(wake=False) for host in started]
        self._introducing = False
        if len(cores) > 1:
            self.picture = self._picture(cores)
            for host, core in zip(started, cores, strict=True):
                core.adopt(self.picture, host.now())
        for host in started:
            host.wake()

    def _picture(self, cores: Sequence[Peer]) -> Picture:
        """What two agents believe to whom all of these have said their first word. Neither is part of the mesh; the second
        tells of the first.
        """
        rng, host = stream(self.seed, "listeners"), self.hosts[0]
        told = Restored(statements=sorted(self._trusted))
        listeners = [self._start_peer(Boot(number, host.address, told, None, rng, host.now())) for number in range(2)]
        for core in cores:
            for listener in listeners:
                if core.replica_id != listener.replica_id:
                    listener.swim.handle_untrusted(core.replica_id, Frame.CLAIM, core.swim.own_claim, host.now())
        return listeners[0].swim.picture(listeners[1].swim)

    def run(self, seconds: float) -> None:
        self.world.run(seconds)

    def run_until(self, predicate: Callable[[], bool], limit: float, *, every: float = 0.01) -> bool:
        return self.world.run_until(predicate, limit, every=every)

    # ---- faults

    def cut(self, *groups: Iterable[int], name: str = "cut") -> None:
        """Groups that cannot reach each other. One group alone is cut off from all others."""
        sides = [frozenset(group) for group in groups]
        if len(sides) == 1:
            sides.append(frozenset(range(len(self.hosts))) - sides[0])
        for index, side in enumerate(sides):
            others = frozenset[int]().union(*sides[index + 1 :])
            if others:
                self._cuts.setdefault(name, []).extend(self.world.network.cut(side, others))

    def cut_one_way(self, sources: Iterable[int], targets: Iterable[int], name: str = "cut") -> None:
        self._cuts.setdefault(name, []).extend(self.world.network.cut(sources, targets, both_ways=False))

    def mend(self, name: str = "cut") -> None:
        """End the cuts of this name."""
        self.world.network.mend(self._cuts.pop(name, []))

    def heal(self) -> None:
        """End all cuts; links keep their loss and delay."""
        self._cuts.clear()
        self.world.network.heal()

    def crash(self, number: int) -> None:
        """kill -9, or the battery is out."""
        self.hosts[number].crash()

    def restart(self, number: int, disk: DiskFate = "kept") -> None:
        """Crashes it first when it runs. `old`: its disk is what it was at the last `back_up`."""
        host = self.hosts[number]
        host.crash()
        if disk != "kept":
            self._disk_lost(number)
        if disk == "lost":
            self.identities[number] = number
        disks = [each for each in (host.disk, host.journal) if each is not None]
        for each in disks:
            if disk == "lost":
                each.lose()
        if disk == "old" and not [each for each in disks if each.restore_backup()]:
            disk = "kept"
        self.world.marks[f"restart, disk {disk}"] += 1
        host.start()

    def clone(self, source: int, target: int) -> None:
        """Another machine starts with a copy of this one's card: the same keys, the same state. Whatever ran on it is gone.

        `restart(target, "lost")` gives it its own card again.
        """
        machine, original = self.hosts[target], self.hosts[source]
        if machine.disk is None or original.disk is None:
            raise ValueError("without disks there is nothing to clone")
        machine.crash()
        self._disk_lost(target)
        self.identities[target] = self.identities[source]
        machine.disk.copy_from(original.disk)
        if machine.journal is not None and original.journal is not None:
            machine.journal.copy_from(original.journal)
        self.world.marks["clone"] += 1
        machine.start()

    def _disk_lost(self, number: int) -> None:
        if self.on_disk_lost is not None:
            self.on_disk_lost(number)

    def back_up(self, number: int) -> None:
        for disk in (self.hosts[number].disk, self.hosts[number].journal):
            if disk is not None:
                disk.back_up()

    def pause(self, number: int, seconds: float) -> None:
        self.hosts[number].pause(seconds)

    def move(self, number: int, host: str) -> None:
        """The machine has another address. Its process notices after READDRESS_SECONDS and announces it."""
        machine = self.hosts[number]
        machine.move((host, machine.address[1]))
        self.world.after(READDRESS_SECONDS, lambda: self._readdress(machine))

    def _readdress(self, machine: Host[Peer]) -> None:
        if machine.core is not None:
            machine.core.swim.readdress(machine.address, machine.now())
            machine.wake_soon()

    def calm(self) -> None:
        """Every fault ends: links as they were set up, disks good, everybody up. Then give it time to become one again."""
        self.heal()
        self.world.network.links.clear()
        self.world.network.default = self.setup.link
        for host in self.hosts:
            if host.disk is not None:
                host.disk.full = False
                host.disk.lie(False)
                host.disk.fsync = self.setup.fsync
            if self.identities[host.number] != host.number:
                self.restart(host.number, "lost")
            elif not host.running:
                self.restart(host.number)

    def leave(self, number: int) -> None:
        """Say good-bye; the process ends by itself when that is confirmed, or after a while."""
        host = self.hosts[number]
        if host.core is not None:
            self.world.marks["leave"] += 1
            host.core.leave(host.now())
            host.wake()

    # ---- state

    def shelf_name(self, shelf: ShelfId) -> str:
        """node-3/1f9c0b77: for people who look for what went wrong."""
        return f"{self.name_of(replica_of(shelf))}/{birth_of(shelf):08x}"

    def name_of(self, replica: ReplicaId) -> str:
        names = [membership.name for membership in self.memberships if membership.replica_id == replica]
        return names[0] if names else replica.hex()

    def read(self, number: int, path: str) -> dict[str, Any]:
        """What a host shows at a path, by name of the type."""
        node, where = self.node(number), parse_path(path)
        return {type_name(code): read_value(node, (code, where)).change.value for code in types_at(node, where)}

    def converged(self) -> bool:
        """Every running replica shows the same state, and no write is under way."""
        digests = (self.peer(number).replica.state_digest() for number in self.running)
        first = next(digests, None)
        return all(digest == first for digest in digests)


@contextmanager
def open_mesh(count: int, *, seed: int = 0, settle: float = 3.0, **setup: Any) -> Iterator[Mesh]:
    """A mesh of `count` agents that know each other, for a `with` block. `setup`: the fields of `Setup`."""
    mesh = Mesh(count, seed=seed, setup=Setup(**setup))
    mesh.start()
    mesh.run(settle)
    yield mesh
