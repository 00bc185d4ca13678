"""Which floors go along with a delta, and what of that a sign of loss is."""

from __future__ import annotations

from dataclasses import replace

from crdt.ids import ReplicaId, shelf_id
from mesh.effects import REST_SECONDS, Now
from mesh.intake import TRAILS_MAX
from mesh.presets import LAN
from mesh.sync.fresh import CHANGED_MAX, CHANGED_SECONDS, TRAIL_MAX, Fresh
from mesh.sync.messages import FloorNote, Purpose
from mesh.sync.repeat import CLEAN_ENOUGH, LOSSY_SECONDS, Losses
from mesh.sync.serve import RecentDeltas
from mesh.testing import Mesh, open_mesh
from mesh.wire.frames import Frame

SHELVES = [shelf_id(ReplicaId(bytes((number,)) * 8), 1) for number in range(20)]


def fresh(count: int) -> Fresh:
    """So many changed, a second apart, the last one at 10 s."""
    found = Fresh()
    for number in range(count):
        found.moved(SHELVES[number], Now(10.0 - (count - 1 - number), 0))
    return found


def test_what_came_by_least_goes_along_first() -> None:
    """Regression: the newest went, however often they had been by; one floor in five came by less than twice, and cost a datagram
    for each receiver."""
    found = fresh(6)
    for shelf in (SHELVES[5], SHELVES[4], SHELVES[4], SHELVES[2]):
        found.rode(shelf)
    assert found.trail(10.0, Now(10.0, 0)) == [SHELVES[3], SHELVES[1], SHELVES[0]]
    assert found.trail(8.5, Now(10.0, 0)) == [SHELVES[3], SHELVES[1], SHELVES[0]], "of those that have settled"
    assert found.trail(6.0, Now(10.0, 0)) == [SHELVES[1], SHELVES[0]]
    found.moved(SHELVES[4], Now(10.1, 0))
    assert SHELVES[4] in found.trail(10.1, Now(10.1, 0)), "that is another floor"
    assert len(found.trail(10.1, Now(10.1, 0))) == TRAIL_MAX


def test_few_are_kept_and_not_for_long() -> None:
    found = fresh(20)
    assert found.newest(Now(10.0, 0)) == SHELVES[: -CHANGED_MAX - 1 : -1][: int(CHANGED_SECONDS)]
    found.rode(SHELVES[0])
    assert found.trail(10.0, Now(30.0, 0)) == []
    assert len(found._rides) == len(found._at) == CHANGED_MAX


def test_what_nobody_pushed_is_forgotten_with_what_it_was() -> None:
    recent = RecentDeltas(limit=4)
    for seq in range(1, 11):
        recent.add(SHELVES[0], seq, b"raw", news=seq % 2 == 0)
        recent.add(SHELVES[0], seq, b"raw again", news=False)
    assert [seq for seq in range(1, 11) if recent.was_pushed(SHELVES[0], seq)] == [8, 10]
    assert sorted(recent._quiet) == [(SHELVES[0], 7), (SHELVES[0], 9)]


def test_the_same_bytes_again_are_nothing_new() -> None:
    """Regression: replicas in one process share their bytes; then a delta stood twice in the order, and went twice."""
    recent, raw = RecentDeltas(limit=2), b"raw"
    for seq in (1, 1, 2, 3, 4, 5):
        recent.add(SHELVES[0], seq, raw)
    assert [seq for seq in range(1, 6) if recent.get(SHELVES[0], seq)] == [4, 5]


def lossy(mesh: Mesh) -> list[bool]:
    return [mesh.peer(number).sync.losses.likely(mesh.hosts[number].now()) for number in mesh.running]


def busy(mesh: Mesh, seconds: int) -> None:
    """All write a key in turn, so that there is something to tidy, and then nobody does, so that it goes alone."""
    for second in range(seconds):
        mesh.node(second % 4).register("key").set(second)
        mesh.run(1.0)
    mesh.run(60.0)


def test_to_ask_for_housekeeping_is_no_sign_of_loss() -> None:
    """Regression: nobody pushes what housekeeping writes alone, so everybody asks for it. From the first time on, half a minute
    after the start, every delta of a mesh that lost nothing was asked after and answered: twice the datagrams."""
    with open_mesh(4, seed=5) as mesh:
        busy(mesh, 20)
        counters = [mesh.peer(number).sync.counters for number in range(4)]
        assert sum(each.repairs for each in counters) > 0, "something was asked for"
        assert lossy(mesh) == [False] * 4


def test_relays_push_no_housekeeping() -> None:
    """Regression: who asked for it told its children at once, and pushed it to those that had not answered after two round trips,
    which were asking for it: 25,000 deltas came twice in a minute of 256 agents."""
    with open_mesh(16, seed=5, preset=replace(LAN, sync=replace(LAN.sync, direct_max=4, degree=2)), settle=33.0) as mesh:
        busy(mesh, 30)
        counters = [mesh.peer(number).sync.counters for number in range(16)]
        assert sum(each.repairs for each in counters) > 0, "something was asked for"
        assert sum(each.deltas_duplicate for each in counters) == 0


def test_where_nobody_knows_yet_something_may_be_lost() -> None:
    with open_mesh(4, seed=5) as mesh:
        assert lossy(mesh) == [True] * 4


def test_to_ask_for_what_was_pushed_is_one() -> None:
    with open_mesh(4, seed=5) as mesh:
        while any(lossy(mesh)):
            mesh.run(1.0)
        mesh.cut_one_way([0], [1, 2, 3])
        mesh.node(0).register("key").set("lost")
        mesh.run(0.05)
        mesh.heal()
        mesh.run(6.0)
        assert mesh.node(3).register("key").value == "lost"
        assert lossy(mesh)[0], "who sent it knows by being asked"
        received = mesh.peer(0).transport.counters.sealed_received
        mesh.run_until(lambda: mesh.peer(0).transport.counters.sealed_received > received + CLEAN_ENOUGH, 60.0)
        assert not any(lossy(mesh))


def calm_mesh(count: int) -> Mesh:
    """A mesh that has lost nothing for long, all of whose members know that; the floors of three writes are to go along."""
    with open_mesh(count, seed=5) as mesh:
        while any(lossy(mesh)):
            mesh.run(1.0)
        for number in range(3):
            mesh.node(number).register(f"key-{number}").set("old")
        mesh.run(6.0)  # digests came by meanwhile
        assert all(mesh.peer(number).sync.losses.calm for number in range(count))
        return mesh


def test_where_nothing_is_lost_a_floor_beside_a_delta_waits_for_the_turn() -> None:
    mesh = calm_mesh(4)
    mesh.node(0).register("key-0").set("new")
    mesh.run(0.01)
    floors = mesh.peer(3).transport.counters.frames_received[Frame.FLOOR]
    mesh.node(1).register("key-1").set("new")
    mesh.run(0.01)
    peer = mesh.peer(3)
    assert mesh.node(3).register("key-1").value == "new"
    assert peer.transport.counters.frames_received[Frame.FLOOR] == floors + 1
    assert [each for each, _ in peer.intake.trails[-1:]] == [mesh.node(1).replica_id], "it came, and waits"
    mesh.run(REST_SECONDS)
    assert peer.intake.trails == []


def test_what_was_lost_is_found_by_a_floor_that_waited() -> None:
    mesh = calm_mesh(4)
    for number in mesh.running:
        mesh.peer(number).transport.tap = lambda _peer, _lane, kind, payload: None if kind is Frame.DIGEST else payload
    mesh.cut_one_way([0], [3])
    mesh.node(0).register("lost").set("found")
    for _ in range(2):
        mesh.run(0.1)
        mesh.node(1).register("key-1").set(mesh.now)
        mesh.node(2).register("key-2").set(mesh.now)
    mesh.run(REST_SECONDS + 0.1)
    assert mesh.node(3).register("lost").value == "found", "nothing but those floors can have told"
    assert not mesh.peer(3).sync.losses.calm, "from now on floors wait no more"
    mesh.node(1).register("key-1").set("news")
    mesh.run(0.05)
    assert mesh.peer(3).intake.trails == []


def test_few_floors_wait_and_none_of_who_is_no_member() -> None:
    mesh = calm_mesh(4)
    intake, replica = mesh.peer(3).intake, mesh.node(1).replica_id
    note = FloorNote(()).encode()
    assert [intake.puts_off(replica, note) for _ in range(TRAILS_MAX + 1)] == [True] * TRAILS_MAX + [False]
    intake.forget(replica)
    assert intake.trails == []
    asked = FloorNote((), Purpose.ASK_RECEIVED).encode()
    assert not intake.puts_off(replica, asked), "somebody waits for the answer"


class Traffic:
    sealed_received = sealed_skipped = sealed_late = 0


def test_to_be_overtaken_is_no_sign_of_loss() -> None:
    """Regression: a datagram counted as lost when a later one came first, and a write of a key that fifty others write, two
    deltas or three, overtook itself all the time: a third of all deliveries were answered."""
    traffic = Traffic()
    losses = Losses(traffic, lambda: 0.02, Now(0.0, 0))
    at = LOSSY_SECONDS + 1.0
    for _ in range(20):
        traffic.sealed_skipped += 1
        assert not losses.likely(Now(at, 0))
        traffic.sealed_late += 1
        at += 0.1
    traffic.sealed_skipped += 2
    assert not losses.likely(Now(at, 0)), "they may be on their way"
    assert losses.likely(Now(at + 0.03, 0)), "no more"
    at += LOSSY_SECONDS + 1.0
    assert not losses.likely(Now(at, 0)), "that was long ago"
    traffic.sealed_late += 1
    assert not losses.likely(Now(at + 1.0, 0)), "one came after all"
    traffic.sealed_skipped += 1
    at += 2.0
    assert not losses.likely(Now(at, 0))
    assert losses.likely(Now(at + 0.03, 0)), "another one did not"


def test_news_are_pushed() -> None:
    """Who reads a delta has to tell by what is in it, so nothing is news that its author does not push."""
    with open_mesh(4, seed=6) as mesh:
        seen: list[tuple[bool, bool]] = []
        for number in range(4):
            write = mesh.peer(number).sync._write_delta

            def told(delta, write=write):  # type: ignore[no-untyped-def]
                seen.append((delta.content.is_news, not delta.bulk))
                return write(delta)

            mesh.peer(number).sync._write_delta = told
        mesh.node(0).register("large").set("x" * 5_000)
        mesh.node(0).register("not so large").set("x" * 1_500)
        busy(mesh, 20)
        assert len(seen) > 20
        assert set(seen) == {(True, True), (False, False), (False, True)}, "the last are the chunks of the smaller value"
