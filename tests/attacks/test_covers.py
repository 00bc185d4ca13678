"""Cover writes that are still to come, so that nobody ever sees them."""

from __future__ import annotations

from typing import Any

import pytest

import crdt
from crdt.ops import Cover
from crdt.state import RULES
from mesh.testing import open_mesh
from tests.attacks.stage import Author, both, honest, shows, without

THREAT = "covers of writes to come"
LIAR = 2


@pytest.mark.interpreted
@both
def test_a_cover_of_everything_that_an_author_will_ever_write(defended: bool) -> None:
    """Undefended, a cover is a bound, as version vectors are: one write of the liar hides all writes of the victim there."""
    whole = crdt.Replica

    def build(shelf: crdt.ShelfId, **options: Any) -> crdt.Replica:
        return whole(shelf, **options, rules=RULES - {"EXACT"})

    with without(defended, crdt, "Replica", build), open_mesh(3, seed=1) as mesh:
        author = Author(mesh, LIAR, birth=7)
        cover = Cover(mesh.peer(0).replica.shelf, 1 << 50, 0)
        vars(author.replica)["_covers_of_write"] = lambda *_: (cover,)
        author.tell(1, author.write("alarm", "all is well"))
        mesh.run(1.0)
        mesh.node(0).register("alarm").set("fire")
        mesh.run(1.0)
        for number in honest(mesh, LIAR):
            assert (shows(mesh, number, "alarm") == "fire") == defended


@pytest.mark.interpreted
@both
def test_a_cover_of_the_next_write_by_its_number(defended: bool) -> None:
    """Numbers can be guessed; what the write will say, to the microsecond, cannot. Undefended, checks are not compared."""
    from crdt.state import State

    def by_number(self: State, op: Any, cells: Any) -> bool:
        return any(cover.origin == op.origin and cover.dot == op.dot for cell in cells for cover in self.covers_of(cell))

    with without(defended, State, "is_covered", by_number), open_mesh(3, seed=2) as mesh:
        victim = mesh.peer(0).replica
        author = Author(mesh, LIAR, birth=7)
        covers = tuple(Cover(victim.shelf, victim.next_dot + (ahead << 8), 0) for ahead in range(-1, 40))
        vars(author.replica)["_covers_of_write"] = lambda *_: covers
        author.tell(1, author.write("alarm", "all is well"))
        mesh.run(1.0)
        mesh.node(0).register("alarm").set("fire")
        mesh.run(1.0)
        for number in honest(mesh, LIAR):
            assert (shows(mesh, number, "alarm") == "fire") == defended
