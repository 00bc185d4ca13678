"""Floors that peers tell: what they claim costs nothing."""

from __future__ import annotations

import pytest

from mesh.sync.buckets import BUCKETS
from mesh.sync.messages import BucketPage, Floor, FloorNote
from mesh.testing import Mesh, open_mesh
from mesh.wire.frames import Frame

HIGHEST = (1 << 64) - 1


def told(mesh: Mesh, seq: int) -> None:
    """Host 0 hears from host 1, in every page that there is, that it has host 0's shelf up to `seq`."""
    mesh.node(0).register("key").set(1)
    mesh.run(0.5)
    listener, shelf = mesh.peer(0), mesh.peer(0).replica.shelf
    for bucket in range(BUCKETS):
        page = BucketPage(bucket, bytes(12), b"\xff" * 12, (Floor(shelf, seq, b"hash", (seq - 1,)),))
        listener.sync.handle_untrusted(mesh.peer(1).replica_id, Frame.BUCKETS, page.encode(), mesh.hosts[0].now())


@pytest.mark.parametrize("seq", [1 << 40, HIGHEST])
def test_a_floor_of_any_height_costs_the_same(seq: int) -> None:
    """Found by fuzzing: every number up to the floor was put into a set, so one frame stopped the process, for good."""
    with open_mesh(2, seed=1) as mesh:
        told(mesh, seq)


@pytest.mark.interpreted
def test_who_lacks_a_loose_delta_is_told() -> None:
    """The comparison that the bug was in: loose deltas above the peer's floor, and not among its loose ones."""
    with open_mesh(3, seed=2) as mesh:
        mesh.cut([0], [1, 2])
        mesh.node(0).register("key").set("lost")
        mesh.run(0.02)
        mesh.heal()
        mesh.node(0).register("other").set("arrives")
        mesh.run_until(lambda: bool(mesh.peer(1).replica.loose_seqs(mesh.peer(0).replica.shelf)), 1.0, every=0.0005)
        holder, shelf = mesh.peer(1), mesh.peer(0).replica.shelf
        (loose,) = holder.replica.loose_seqs(shelf)
        answers: list[FloorNote] = []
        vars(holder)["send"] = lambda _peer, _lane, kind, raw: (
            answers.append(FloorNote.decode_untrusted(raw)) if kind is Frame.FLOOR else None
        )

        def answer(floor: Floor) -> list[FloorNote]:
            answers.clear()
            holder.sync._tell_ahead(mesh.peer(2).replica_id, (floor,))
            return answers[:]

        floor = holder.replica.floor(shelf)
        assert answer(Floor(shelf, floor, b"hash")) != []
        assert answer(Floor(shelf, floor, b"hash", (loose,))) == []
        assert answer(Floor(shelf, loose, b"hash")) == []
