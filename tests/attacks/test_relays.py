"""A relay that hides, keeps back, replays old state or bends what it carries: the shelf's digest is the author's, so it shows."""

from __future__ import annotations

from typing import Any

import crdt
from crdt.ids import ReplicaId
from crdt.state import RULES
from mesh.effects import Now
from mesh.sync.messages import Floor, FloorNote, ListingPage
from mesh.sync.pull import Puller
from mesh.sync.sync import Sync
from mesh.testing import Mesh, open_mesh
from mesh.wire.frames import Frame
from tests.attacks.stage import Author, both, say, say_at_once, shows, without

THREAT = "a relay that hides or replays old state"
AUTHOR, RELAY, READER = 0, 1, 2
SECRET = "hidden/secret"


def lie(mesh: Mesh, host: int, change: Any) -> None:
    """What this member sends passes by `change(kind, payload) -> payload or None` first."""
    mesh.peer(host).transport.tap = lambda _target, _lane, kind, payload: change(kind, payload)


def filled(mesh: Mesh) -> None:
    for number in range(90):  # more than are repaired one by one
        mesh.node(AUTHOR).register(f"open/{number}").set(number)
        mesh.run(0.006)
    mesh.node(AUTHOR).register(SECRET).set("you may know")
    mesh.run(1.0)


def apart(mesh: Mesh) -> None:
    """The reader lost its disk, and meets the author only through the relay."""
    mesh.cut([AUTHOR], [READER], name="apart")
    mesh.restart(READER, "lost")


def believing(defended: bool) -> Any:
    """Undefended: replicas that take a statement for what it says, without the digest that the author signed."""
    whole = crdt.Replica

    def build(shelf: crdt.ShelfId, **options: Any) -> crdt.Replica:
        return whole(shelf, **options, rules=RULES - {"VERIFY"})

    return without(defended, crdt, "Replica", build)


@both
def test_a_listing_without_one_entry(defended: bool) -> None:
    """What a full listing does not name is gone: so nothing may be left out of one."""

    def without_one(kind: Frame, payload: bytes) -> bytes | None:
        if kind is not Frame.LISTING:
            return None if kind in (Frame.REPAIR, Frame.DELTA) else payload
        page = ListingPage.decode_untrusted(payload)
        hidden = page.entries[-1:] if page.offset + len(page.entries) == page.total else ()
        entries = page.entries[: len(page.entries) - len(hidden)]
        return page._replace(entries=entries, total=page.total - 1).encode()

    matches = without(defended, crdt.Replica, "listing_matches", lambda *_: True)
    with matches, believing(defended), open_mesh(3, seed=1) as mesh:
        filled(mesh)
        lie(mesh, RELAY, without_one)
        apart(mesh)
        mesh.run(10.0)
        reader, shelf = mesh.peer(READER), mesh.peer(AUTHOR).replica.shelf
        if defended:
            assert reader.replica.floor(shelf) == 0
            assert reader.sync.puller.counters.mismatches > 0
            mesh.heal()
            mesh.run(10.0)
            assert shows(mesh, READER, SECRET) == "you may know"
        else:
            assert reader.replica.floor(shelf) > 0
            assert shows(mesh, READER, "open/7") == 7
            assert shows(mesh, READER, SECRET) is None


@both
def test_one_delta_is_kept_back(defended: bool) -> None:
    """It passes on all but one: the gap shows, and is asked for elsewhere. Undefended: nobody compares floors or digests."""

    def but_the_secret(kind: Frame, payload: bytes) -> bytes | None:
        return None if kind in (Frame.DELTA, Frame.REPAIR, Frame.BODY) and b"secret" in payload else payload

    def deaf(self: Sync, *_: Any, **__: Any) -> None:
        return None

    with open_mesh(4, seed=2) as mesh:
        lie(mesh, RELAY, but_the_secret)
        with without(defended, Sync, "_digest_untrusted", deaf), without(defended, Puller, "offer", lambda *_, **__: False):
            if not defended:
                for number in mesh.running:
                    mesh.peer(number).sync._handlers[Frame.DIGEST] = lambda *_: None
            mesh.cut([AUTHOR], [READER], name="apart")
            mesh.node(AUTHOR).register(SECRET).set("you may know")
            mesh.run(5.0)
        assert shows(mesh, READER, SECRET) == ("you may know" if defended else None)  # by way of the fourth


def hears_old(mesh: Mesh, defended: bool) -> str | None:
    """The relay kept S(1) of the author's shelf and shows the signed head of it to somebody who comes back."""
    mesh.node(AUTHOR).register("key").set("old")
    mesh.run(1.0)
    replica = mesh.peer(RELAY).replica
    shelf = mesh.peer(AUTHOR).replica.shelf
    old = replica.listing(shelf, 0)
    assert old is not None
    mesh.node(AUTHOR).register("key").set("new")
    mesh.run(1.0)
    reader = mesh.peer(READER)
    bodies = {(body.shelf, body.seq): body for body in old.bodies}
    if not defended:
        reader.replica.bases[shelf].head = None  # as if it did not remember how far it was
        reader.replica.jump(old.head, 0, old.entries, bodies)
    else:
        assert not reader.replica.jump(old.head, 0, old.entries, bodies)
    mesh.run(0.0)
    value: str | None = shows(mesh, READER, "key")
    return value


@both
def test_an_old_state_that_was_true_once(defended: bool) -> None:
    with open_mesh(3, seed=3) as mesh:
        assert hears_old(mesh, defended) == ("new" if defended else "old")


@both
def test_a_removed_value_is_brought_back_to_somebody_who_was_away(defended: bool) -> None:
    """The relay sends it the delta from before; the removal itself is long gone. Absence under a signed digest is the tombstone,
    and one honest neighbour is enough to hear of it. Undefended: nobody compares digests.
    """
    with open_mesh(4, seed=4) as mesh:
        kept: list[bytes] = []
        inner = mesh.peer(RELAY).sync._handlers[Frame.DELTA]

        def hoard(peer: ReplicaId, raw: bytes, now: Now) -> None:
            kept.append(raw)
            inner(peer, raw, now)

        mesh.peer(RELAY).sync._handlers[Frame.DELTA] = hoard
        mesh.cut([READER], [0, 1, 3], name="away")
        mesh.node(AUTHOR).register("key").set("removed since")
        mesh.run(0.1)
        mesh.node(AUTHOR).register("key").clear()
        mesh.run(90.0)
        lie(mesh, RELAY, lambda kind, payload: None if kind in (Frame.LISTING, Frame.REPAIR) else payload)
        mesh.mend("away")
        mesh.cut([READER], [AUTHOR], name="apart")
        if not defended:
            for number in mesh.running:
                mesh.peer(number).sync._handlers[Frame.DIGEST] = lambda *_: None
                mesh.peer(number).sync.puller.offer = lambda *_, **__: False  # type: ignore[method-assign]
        say_at_once(mesh, RELAY, READER, Frame.DELTA, kept[0])
        assert shows(mesh, READER, "key") == "removed since"
        mesh.run(10.0)
        assert shows(mesh, READER, "key") == (None if defended else "removed since")


def test_a_relay_that_says_nothing_at_all_is_passed_by() -> None:
    with open_mesh(4, seed=5) as mesh:
        lie(mesh, RELAY, lambda kind, payload: payload if kind < Frame.DELTA else None)
        mesh.node(AUTHOR).register("key").set("through")
        mesh.run(0.2)
        assert [shows(mesh, number, "key") for number in (0, 2, 3)] == ["through"] * 3


def test_a_relay_that_claims_to_have_more_than_there_is_keeps_nobody_from_the_rest() -> None:
    """Floors of 2**40 on an honest shelf: its pull went for what nobody has."""
    with open_mesh(4, seed=6) as mesh:
        shelf = mesh.peer(AUTHOR).replica.shelf
        for _ in range(50):
            say(mesh, RELAY, READER, Frame.FLOOR, FloorNote((Floor(shelf, 1 << 40, b"liar"),)).encode())
            mesh.run(0.05)
        mesh.node(AUTHOR).register("key").set("here")
        mesh.run(1.0)
        assert shows(mesh, READER, "key") == "here"


@both
def test_an_author_that_leaves_out_its_first_delta_and_tells_each_other_ones(defended: bool) -> None:
    """What follows is shown, and can never become a base. Eight numbers of it were named beside a floor, and compared: of more,
    replicas differed for ever. Regression.
    """

    def brief(self: Sync, shelf: crdt.ShelfId) -> Floor | None:
        return self._floor_of(shelf)

    with without(defended, Sync, "_whole_floor_of", brief), open_mesh(4, seed=7) as mesh:
        author = Author(mesh, 3, birth=7)
        raws = [author.write(f"key/{number}", number) for number in range(100)]
        mesh.crash(3)
        mesh.cut([0], [1, 2])
        for number, upto in ((0, 100), (1, 20)):
            for raw in raws[1:upto]:
                say_at_once(mesh, 2, number, Frame.REPAIR, raw)
            mesh.hosts[number].wake()
        mesh.run(1.0)
        mesh.heal()
        mesh.run(12.0)
        assert mesh.converged() == defended
