"""A whole mesh of real peer cores on virtual time: what is written is seen by all, whatever the network does."""

from __future__ import annotations

import pytest

import crdt
from mesh.effects import REST_SECONDS
from mesh.store.rows import Batch
from mesh.testing import Link, Mesh, open_mesh
from mesh.testing.delay import Fixed


def digests(mesh: Mesh) -> set[tuple[bytes, ...]]:
    """What each running replica holds: the newest header of every shelf."""
    return {
        tuple(head.hash if (head := replica.head(shelf)) else b"" for shelf in replica.shelves()) for replica in replicas(mesh)
    }


def replicas(mesh: Mesh) -> list[crdt.Replica]:
    return [mesh.peer(host).replica for host in mesh.running]


def equal_after(mesh: Mesh, limit: float) -> float:
    """Virtual seconds until all running replicas show the same. Fails at the limit."""
    start = mesh.now
    mesh.run(0.006)  # what is drafted is sealed by then
    assert mesh.run_until(lambda: len(digests(mesh)) == 1, limit), f"not equal after {limit} s"
    assert len({replica.state_digest() for replica in replicas(mesh)}) == 1
    return mesh.now - start


def counter(mesh: Mesh, name: str) -> int:
    return sum(mesh.peer(host).statistics()["sync"][name] for host in mesh.running)


def test_without_loss_every_delta_is_received_once() -> None:
    with open_mesh(16, seed=1) as mesh:
        mesh.run(3.0)
        for number in range(20):
            mesh.node(number % 16).register(f"key/{number}").set(number)
            mesh.run(0.2)
        assert len(digests(mesh)) == 1
        assert counter(mesh, "deltas_duplicate") == 0
        assert counter(mesh, "repairs") == 0


def test_what_is_settled_after_a_write_waits_until_others_have_it() -> None:
    """It took a core from them, where they share a machine."""
    with open_mesh(4, seed=1, durable=False) as mesh:
        mesh.run(20.0)
        mesh.node(0).register("key").set(1)
        mesh.run(0.01)
        assert [mesh.node(number).register("key").value for number in range(4)] == [1] * 4
        assert mesh.peer(0).unsettled is not None
        mesh.run(REST_SECONDS)
        assert mesh.peer(0).unsettled is None


def test_who_has_a_disk_settles_a_write_at_once() -> None:
    """What it wrote itself was on the disk a quarter of a second later than it could be."""
    with open_mesh(4, seed=1) as mesh:
        mesh.run(20.0)
        batches: list[Batch] = []
        mesh.on_durable = lambda _host, rows: batches.extend(rows)
        mesh.node(0).register("key").set(1)
        mesh.run(0.0)
        assert mesh.peer(0).unsettled is None
        assert not mesh.node(0).is_flushed()
        mesh.run(0.1)
        assert any(row.shelf == mesh.node(0).shelf for batch in batches for row in batch.journal)


def test_the_last_lost_delta_is_found_without_waiting_for_a_digest() -> None:
    """Nothing follows it, so no gap shows; the author's repeated floor does."""
    with open_mesh(8, seed=2) as mesh:
        mesh.run(3.0)
        mesh.cut([0], [1])
        mesh.node(0).register("key").set("lost on the way to 1")
        mesh.run(0.005)
        mesh.heal()
        assert equal_after(mesh, 1.0) < 0.1


@pytest.mark.parametrize("loss", [0.1, 0.2, 0.4])
def test_loss_delays_but_loses_nothing(loss: float) -> None:
    with open_mesh(8, seed=3, link=Link(loss=loss)) as mesh:
        mesh.run(5.0)
        for number in range(60):
            mesh.node(number % 8).register(f"key/{number % 7}").set(number)
            mesh.node(number % 5).set("set").add(number)
            mesh.run(0.02)
        equal_after(mesh, 5.0)
        assert len(mesh.node(0).set("set")) == 60


@pytest.mark.parametrize("seconds", [1.0, 20.0, 300.0])
def test_a_cut_of_any_length_heals_within_two_seconds(seconds: float) -> None:
    with open_mesh(10, seed=4) as mesh:
        mesh.run(3.0)
        mesh.cut(range(3), range(3, 10))
        for host in range(10):
            mesh.node(host).register("shared").set(host)
            mesh.node(host).counter("total").add(1)
        mesh.run(seconds)
        assert len(digests(mesh)) > 1
        mesh.heal()
        assert equal_after(mesh, 10.0) < 2.0
        assert mesh.node(0).counter("total").value == 10


def test_a_newcomer_gets_everything_at_its_own_pace() -> None:
    with open_mesh(4, seed=5, link=Link(loss=0.05)) as mesh:
        mesh.run(3.0)
        mesh.crash(3)
        for number in range(3000):
            mesh.node(number % 3).register(f"key/{number:04}").set(number)
        mesh.run(5.0)
        mesh.restart(3, "lost")
        equal_after(mesh, 10.0)
        assert mesh.node(3).register("key/2999").value == 2999


def test_a_large_value_travels_in_pieces_and_its_pieces_go_with_it() -> None:
    value = bytes(range(256)) * 2000
    with open_mesh(3, seed=6, link=Link(loss=0.05)) as mesh:
        mesh.run(3.0)
        mesh.node(0).register("map/floor").set(value)
        equal_after(mesh, 10.0)
        assert mesh.node(2).register("map/floor").value == value
        mesh.node(1).register("map/floor").set("small")
        mesh.run(400.0)
        assert {len(mesh.peer(host).replica.index.slots) for host in mesh.running} == {1}


def test_copies_are_counted_when_they_are_on_the_disk() -> None:
    with open_mesh(4, seed=7) as mesh:
        mesh.run(3.0)
        dot = mesh.node(0).register("key").set(1)
        mesh.run(0.01)
        assert mesh.peer(0).replicated(dot) == 0  # received by all, on nobody's disk
        mesh.run(0.5)
        assert mesh.peer(0).replicated(dot) == 3


def test_a_spent_right_is_on_the_own_disk_before_anybody_hears_of_it() -> None:
    """A crash between spending and committing must not let the next start spend the same right again."""
    with open_mesh(3, seed=8, fsync=Fixed(200_000)) as mesh:
        mesh.run(3.0)
        mesh.node(0).bounded_counter("stock").add(5)
        mesh.run(1.0)
        mesh.node(0).bounded_counter("stock").add(-5)
        mesh.run(0.01)
        assert mesh.node(1).bounded_counter("stock").value == 5
        mesh.crash(0)
        mesh.run(1.0)
        mesh.restart(0, "kept")
        mesh.run(3.0)
        assert {mesh.node(host).bounded_counter("stock").value for host in range(3)} == {5}
        mesh.node(0).bounded_counter("stock").add(-5)
        mesh.run(2.0)
        assert {mesh.node(host).bounded_counter("stock").value for host in range(3)} == {0}


def test_a_digest_is_one_datagram_at_a_thousand_authors() -> None:
    with open_mesh(2, seed=9) as mesh:
        mesh.run(3.0)
        peer = mesh.peer(0)
        assert len(peer.sync._digest(mesh.peer(1).replica_id, request=True, now=peer._now).encode()) < 1000


def test_a_run_is_a_function_of_its_seed() -> None:
    def run(seed: int) -> str:
        with open_mesh(5, seed=seed, link=Link(loss=0.1)) as mesh:
            mesh.run(2.0)
            mesh.node(0).register("key").set(1)
            mesh.run(2.0)
            return mesh.digest

    assert run(10) == run(10) != run(11)


def test_a_value_of_two_datagrams_is_there_at_once() -> None:
    """Regression: its chunks were not pushed, so everybody had to ask for them."""
    with open_mesh(5, seed=3) as mesh:
        mesh.node(0).register("map").set("x" * 1_600)
        mesh.run(0.03)
        assert [mesh.node(number).register("map").value for number in range(5)] == ["x" * 1_600] * 5
        assert sum(mesh.peer(number).sync.counters.repairs for number in range(5)) == 0
