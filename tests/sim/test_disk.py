"""What is on the disk after a crash, and when."""

from __future__ import annotations

from collections.abc import Iterable

from mesh.testing import Disk, Fixed, World, stream
from tests.sim.toy import Notebook, Toy, core, toy_world, write


class Numbers:
    def __init__(self, found: Iterable[int] = ()) -> None:
        self.found = list(found)

    def apply(self, batch: int) -> None:
        self.found.append(batch)

    def copy(self) -> Numbers:
        return Numbers(self.found)

    def restored(self) -> list[int]:
        return self.found


def disk_of(world: World[Toy], number: int = 0) -> Disk[list[bytes], list[bytes]]:
    disk = world.hosts[number].disk
    assert disk is not None
    return disk


def test_a_batch_is_durable_after_the_group_delay_and_one_fsync() -> None:
    world = toy_world(1, quiet=True)
    disk = disk_of(world)
    write(world.hosts[0], b"a")
    world.run(0.025)
    write(world.hosts[0], b"b")
    world.run(0.0255)
    assert disk.durable == 0
    world.run(0.0005)
    assert (disk.durable, disk.transactions) == (2, 1), "one transaction for both"


def test_a_flush_does_not_wait_for_company() -> None:
    world = toy_world(1, quiet=True)
    disk = disk_of(world)
    write(world.hosts[0], b"a")
    wanted = disk.flush(world.time)
    world.run(0.001)
    assert disk.durable == wanted == 1


def test_a_crash_loses_what_waits() -> None:
    world = toy_world(1, quiet=True)
    write(world.hosts[0], b"kept")
    world.run(0.2)
    write(world.hosts[0], b"lost")
    world.run(0.025)
    world.hosts[0].crash()
    world.run(1.0)
    assert world.hosts[0].start().facts == {b"kept"}
    assert disk_of(world).lost_batches == 1


def test_a_transaction_under_way_at_the_crash_is_there_entirely_or_not_at_all() -> None:
    outcomes = set()
    for seed in range(20):
        world = toy_world(1, seed=seed, quiet=True)
        disk_of(world).fsync = Fixed(50_000)
        write(world.hosts[0], b"a")
        write(world.hosts[0], b"b")
        world.run(0.06)
        world.hosts[0].crash()
        outcomes.add(frozenset(world.hosts[0].start().facts))
    assert outcomes == {frozenset(), frozenset({b"a", b"b"})}


def test_a_log_keeps_any_beginning_of_what_was_not_synced() -> None:
    """Regression: all of a sync or nothing, though each record of the real log is there or not by itself."""
    outcomes = set()
    for seed in range(60):
        world = toy_world(1, quiet=True, started=False)
        disk: Disk[int, list[int]] = Disk(Numbers, stream(seed, "log"), world.at, fsync=Fixed(1_000), group_delay=0, is_log=True)
        disk.commit(0, world.time)
        world.run(0.01)
        for number in (1, 2):
            disk.commit(number, world.time)
        world.run(0.0005)
        disk.commit(3, world.time)  # written, while those before it are synced
        disk.crash()
        assert (disk.lost_batches, disk.durable) == (4 - len(disk.image.restored()), len(disk.image.restored()))
        outcomes.add(tuple(disk.image.restored()))
    assert outcomes == {(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)}


def test_a_full_disk_keeps_trying_and_recovers() -> None:
    world = toy_world(1, quiet=True)
    disk = disk_of(world)
    disk.full = True
    write(world.hosts[0], b"a")
    world.run(5.0)
    assert disk.durable == 0
    assert disk.failures >= 3
    disk.full = False
    world.run(2.0)
    write(world.hosts[0], b"b")
    world.run(1.0)
    assert disk.image.restored() == [b"a", b"b"], "in order"


def test_a_lost_disk_and_an_old_backup() -> None:
    world = toy_world(1, quiet=True)
    host, disk = world.hosts[0], disk_of(world)
    assert not disk.restore_backup()
    write(host, b"a")
    world.run(1.0)
    disk.back_up()
    write(host, b"b")
    world.run(1.0)
    host.crash()
    assert disk.restore_backup()
    assert host.start().facts == {b"a"}
    host.crash()
    disk.lose()
    assert host.start().facts == set()


def test_a_restart_while_an_old_transaction_was_scheduled_does_not_finish_it_later() -> None:
    world = toy_world(1, quiet=True)
    disk = disk_of(world)
    disk.fsync = Fixed(500_000)
    write(world.hosts[0], b"a")
    world.run(0.2)
    world.hosts[0].crash()
    disk.lose()
    world.hosts[0].start()
    world.run(1.0)
    assert disk.image.restored() == []
    assert core(world.hosts[0]).facts == set()


def test_two_disks_draw_from_streams_of_their_own() -> None:
    assert stream(1, "disk", 0).random() != stream(1, "disk", 1).random()
    assert Notebook([b"x"]).copy().facts == [b"x"]
