"""Real replicas whose journals go through a real file: what comes back is what their authors signed.

The histories are those of `crdt.testing`: deltas lost, repeated and overtaken, pulls, housekeeping, restarts. Here a restart is a
crash: what had not been written to the file is gone, as after a power cut.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from crdt.ids import replica_of
from crdt.testing import Network
from crdt.types.local import Local
from mesh.store import schema
from mesh.store.disk import Disk
from mesh.store.layout import ref
from mesh.store.pending import Backlog
from mesh.store.rows import Batch


class DiskNetwork(Network):
    """`crdt.testing.Network` with a file under each replica."""

    def __init__(self, directory: Path, rng: random.Random, replicas: int) -> None:
        self.rng = rng
        self._paths = [directory / str(index) for index in range(replicas)]
        self.disks = [Disk(path) for path in self._paths]
        self.backlogs = [Backlog(disk.loose) for disk in self.disks]
        super().__init__(replicas)

    def close(self) -> None:
        for disk in self.disks:
            disk.close()

    def commit(self, index: int) -> None:
        taken = self.backlogs[index].take()
        self.disks[index].write(taken)
        self.backlogs[index].wrote(taken)

    def crash(self, index: int) -> Local:
        """What had not been committed is lost; the next start reads the file."""
        self.disks[index].close()
        disk = self.disks[index] = Disk(self._paths[index])
        self.backlogs[index] = Backlog(disk.loose)
        self._disks[index] = disk.load().journal
        replica = self.restart(index)
        assert [fault for fault in replica.take_faults() if fault.kind == "stored"] == []
        return replica

    def _save(self, index: int) -> None:
        journal = self.replicas[index].take_journal()
        self.backlogs[index].add(Batch(tuple(journal)))
        if self.rng.random() < 0.3:
            self.commit(index)


def act(network: DiskNetwork, index: int, rng: random.Random) -> None:
    replica, value = network.replicas[index], rng.randrange(1_000)
    match rng.randrange(6):
        case 0 | 1:
            replica.register(f"pose/{rng.randrange(3)}").set(value)
        case 2:
            replica.counter("visits").add(1)
        case 3:
            replica.set("seen").add(rng.randrange(6))
        case 4:
            replica.set("seen").discard(rng.randrange(6))
        case 5:
            replica.register("large").set(f"{rng.random()} " * rng.choice((1, 150)))


def step(network: DiskNetwork, rng: random.Random) -> None:
    index = rng.randrange(len(network.replicas))
    chance = rng.random()
    network.now += rng.randrange(2_000_000)
    if chance < 0.4:
        for _ in range(rng.choice((1, 1, 4))):
            act(network, index, rng)
        network.send(index)
    elif chance < 0.7 and network.in_flight:
        network.deliver(rng.randrange(len(network.in_flight)), again=rng.random() < 0.2)
    elif chance < 0.75 and network.in_flight:
        network.lose(rng.randrange(len(network.in_flight)))
    elif chance < 0.85:
        network.sync(index, (index + 1) % len(network.replicas))
    elif chance < 0.95:
        replica = network.replicas[index]
        rng.choice((lambda: replica.drop(0.0, patience=0.0), replica.retire, replica.repack, replica.take_over))()
        network.send(index)
    else:
        network.crash(index)


@pytest.mark.parametrize("seed", range(4))
def test_histories_with_crashes_converge(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    with contextlib.closing(DiskNetwork(tmp_path, rng, 3)) as network:
        for _ in range(80):
            step(network, rng)
        for index in range(3):
            network.commit(index)
            twin = network._start(index)
            twin.restore(network.disks[index].load().journal)
            assert twin.state_digest() == network.replicas[index].state_digest()  # nothing is missing, and nothing else shows
            network.crash(index)
        network.heal()
        assert len({replica.state_digest() for replica in network.replicas}) == 1
        for index, replica in enumerate(network.replicas):
            network.commit(index)
            assert_tidy(network.disks[index], replica)


def assert_tidy(disk: Disk, replica: Local) -> None:
    """The file holds what the replica holds and no more: no row of a shelf that was let go, each body once."""
    database = disk._database
    shelves = {key[:12] for table in (schema.HEADS, schema.OWN, schema.HOSTED) for key, _ in schema.stored(database, table)}
    assert shelves == set(replica.bases)
    held = {ref(held.body.shelf, held.body.seq, held.body.hash) for base in replica.bases.values() for held in base.everything()}
    loose = {
        ref(shelf, seq, loose.delta.header.body_hash) for shelf, by_seq in replica.loose.items() for seq, loose in by_seq.items()
    }
    stored = [key for key, _ in schema.stored(database, schema.BODIES)]
    assert sorted(stored) == sorted(held | loose)


def test_an_old_copy_of_the_file_is_a_former_self(tmp_path: Path) -> None:
    """A restored backup: the agent begins a new shelf, takes the old state over, learns the rest from others, forks nothing."""
    rng = random.Random(1)
    with contextlib.closing(DiskNetwork(tmp_path, rng, 2)) as network:
        for number in range(5):
            network.replicas[0].register("a").set(number)
            network.send(0)
        network.commit(0)
        network.disks[0].close()
        backup = (tmp_path / "0" / "state.db").read_bytes()
        network.disks[0] = Disk(tmp_path / "0")
        network.backlogs[0] = Backlog(network.disks[0].loose)
        network.write(0, lambda replica: replica.register("a").set("newest"))
        network.write(0, lambda replica: replica.register("b").set("new"))
        while network.in_flight:
            network.deliver()
        network.commit(0)
        network.disks[0].close()
        (tmp_path / "0" / "state.db").write_bytes(backup)
        network.disks[0] = Disk(tmp_path / "0")
        replica = network.crash(0)
        assert replica.register("a").value == 4
        replica.register("c").set("written before the old state was complete")
        network.send(0)
        network.heal()
        replica.take_over()  # of what the others knew beyond the backup
        network.send(0)
        network.heal()
        for each in network.replicas:
            assert (each.register("a").value, each.register("b").value) == ("newest", "new")
            assert each.register("c").value == "written before the old state was complete"
            assert each.take_faults() == []
        births = {shelf for each in network.replicas for shelf in each.bases if replica_of(shelf) == replica_of(replica.shelf)}
        assert births == {replica.shelf}  # the former shelf was taken over and let go
