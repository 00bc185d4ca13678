"""Say two things under one number: a hostile author, a cloned machine. A cloned card or a restored backup must not even do so."""

from __future__ import annotations

from typing import Any

import crdt
from crdt.ids import birth_of
from mesh.closing import CLASH_SECONDS
from mesh.events import IdentityInUse, ShelfClosed, ShelfFault, ShelfForked
from mesh.sync.sync import Sync
from mesh.testing import Mesh, open_mesh
from mesh.wire.frames import Frame
from tests.attacks.stage import Author, both, honest, say, shows, told, without

THREAT = "equivocation"
LIAR = 3


def forks(mesh: Mesh, number: int) -> list[Any]:
    return told(mesh, number, ShelfForked)


@both
def test_two_deltas_of_one_number(defended: bool) -> None:
    """Undefended, the second is dropped as a duplicate before anybody compares it, and replicas differ for ever."""
    with open_mesh(4, seed=1) as mesh, without(defended, Sync, "_contradicts", lambda *_: False):
        one, two = Author(mesh, LIAR, birth=7), Author(mesh, LIAR, birth=7)
        say(mesh, LIAR, 0, Frame.DELTA, one.write("key", "to you: yes"))
        say(mesh, LIAR, 1, Frame.DELTA, two.write("key", "to you: no"))
        mesh.run(1.0)
        known = [number for number in honest(mesh, LIAR) if forks(mesh, number)]
        assert (known == honest(mesh, LIAR)) == defended
        assert all(one.shelf in mesh.peer(number).replica.ended for number in known)
        mesh.node(0).register("other").set("goes on")
        mesh.run(1.0)
        assert all(shows(mesh, number, "other") == "goes on" for number in honest(mesh, LIAR))


@both
def test_a_running_machine_is_cloned(defended: bool) -> None:
    """Memory and all: the same boot, the same shelf, the same next number. Undefended: nobody tells the two apart."""

    with open_mesh(4, seed=2) as mesh, without(defended, crdt.Replica, "_fork", lambda *_: None):
        mesh.node(LIAR).register("key").set("before")
        mesh.run(1.0)
        twin = Author(mesh, LIAR, birth=birth_of(mesh.peer(LIAR).replica.shelf))
        twin.replica.rights = mesh.peer(LIAR).replica.rights
        wall = mesh.hosts[0].now().wall
        for number in range(3):  # as many as the original has written, and its own words from then on
            raw = twin.write("key", f"by the clone, {number}", wall=wall + number)
            say(mesh, LIAR, 0, Frame.DELTA, raw)
        mesh.node(LIAR).register("key").set("by the original")
        mesh.run(2.0)
        known = [number for number in honest(mesh, LIAR) if forks(mesh, number)]
        assert bool(known) == defended


def go_on(mesh: Mesh, birth: int) -> None:
    """What every start avoids by beginning a new shelf: writing on in the one that the disk remembers, from where it was then."""
    second = Author(mesh, LIAR, birth=birth)
    for number in range(3):
        say(mesh, LIAR, 0, Frame.DELTA, second.write(f"again/{number}", number))
        mesh.run(0.1)


@both
def test_a_cloned_card_does_not_fork(defended: bool) -> None:
    """Two machines of one identity write two shelves, and everybody hears that there are two."""
    with open_mesh(5, seed=3) as mesh:
        birth = birth_of(mesh.peer(LIAR).replica.shelf)
        mesh.node(LIAR).register("key/0").set(0)
        mesh.run(1.0)
        copy = 4
        mesh.clone(LIAR, copy)
        if not defended:
            go_on(mesh, birth)
            mesh.run(1.0)
            assert [number for number in (0, 1, 2) if forks(mesh, number)]
        for number in range(1, 6):
            mesh.node(LIAR).register(f"key/{number}").set("original")
            mesh.run(0.3)
            mesh.node(copy).register(f"copy/{number}").set("copy")
            mesh.run(0.3)
        mesh.run(12.0)
        assert bool([number for number in (0, 1, 2) if forks(mesh, number)]) == (not defended)
        assert any(told(mesh, number, IdentityInUse) for number in range(5))
        assert all(shows(mesh, number, "key/5") == "original" for number in (0, 1, 2))
        assert all(shows(mesh, number, "copy/5") == "copy" for number in (0, 1, 2))


def forked_in_a_clash(mesh: Mesh) -> None:
    """Somebody else writes the shelf of host 3, and lives, as far as host 3 knows."""
    birth = birth_of(mesh.peer(LIAR).replica.shelf)
    mesh.node(LIAR).register("key").set("before")
    mesh.run(1.0)
    peer = mesh.peer(LIAR)
    peer.notify(IdentityInUse(peer.replica_id, ("203.0.113.9", 4000)))
    go_on(mesh, birth)
    mesh.run(1.0)
    assert told(mesh, LIAR, ShelfForked)


def test_a_fork_that_is_found_while_a_clone_lives_waits_in_peace() -> None:
    """Regression: a fork was due a second after it was found, the clash held it back for thirty, and the core asked to be woken
    at once for all that time.
    """
    with open_mesh(4, seed=5) as mesh:
        forked_in_a_clash(mesh)
        mesh.run(2.0)
        assert mesh.peer(LIAR).deadline > mesh.hosts[LIAR].now().monotonic
        assert not told(mesh, LIAR, ShelfClosed), "it may be writing what we would speak for"
        mesh.run(CLASH_SECONDS)
        assert told(mesh, LIAR, ShelfClosed)


def test_a_fork_of_ours_waits_in_peace_until_we_are_in_step() -> None:
    """Regression: who started with a forked former shelf on its disk, and met nobody, asked to be woken at once."""
    with open_mesh(4, seed=6) as mesh:
        forked_in_a_clash(mesh)
        mesh.crash(LIAR)
        mesh.cut([LIAR], honest(mesh))
        mesh.restart(LIAR)
        mesh.run(2.0)
        assert not mesh.peer(LIAR).synced
        assert not told(mesh, LIAR, ShelfClosed)
        mesh.heal()
        mesh.run(5.0)
        assert told(mesh, LIAR, ShelfClosed)


@both
def test_a_restored_backup_does_not_fork(defended: bool) -> None:
    with open_mesh(4, seed=4) as mesh:
        birth = birth_of(mesh.peer(LIAR).replica.shelf)
        mesh.node(LIAR).register("key/0").set("kept")
        mesh.run(1.0)
        mesh.back_up(LIAR)
        mesh.node(LIAR).register("key/1").set("after the backup")
        mesh.run(1.0)
        mesh.crash(LIAR)
        mesh.run(1.0)
        mesh.restart(LIAR, "old")
        if not defended:
            go_on(mesh, birth)
        mesh.node(LIAR).register("key/2").set("after the restore")
        mesh.run(8.0)
        assert bool([number for number in (0, 1, 2) if forks(mesh, number)]) == (not defended)
        if defended:
            assert not [number for number in range(4) if told(mesh, number, ShelfFault)]
            for number in range(4):
                values = [shows(mesh, number, f"key/{each}") for each in range(3)]
                assert values == ["kept", "after the backup", "after the restore"]
