"""A clock ten years ahead, or in 1970: it wins no later write, moves nobody's clock, and stops nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from crdt.state import State
from mesh.effects import Now
from mesh.errors import ClockWrong
from mesh.peer import Peer
from mesh.swim.clock import PeerClocks
from mesh.testing import open_mesh
from tests.attacks.stage import REGISTER, Author, both, honest, shows, without

THREAT = "clock 10 years ahead, or in 1970"
TEN_YEARS = 10 * 365 * 86_400
LIAR = 3


@both
@pytest.mark.parametrize("seconds", [TEN_YEARS, -56 * 365 * 86_400], ids=["ahead", "1970"])
def test_a_write_of_the_future_wins_no_later_one(defended: bool, seconds: int) -> None:
    """By a program that does not ask its clock's leave. Undefended: the newest time wins, as in most stores of last writes."""

    def nothing_is_covered(self: State, op: Any, cells: Any) -> bool:
        return False

    with without(defended, State, "is_covered", nothing_is_covered), open_mesh(4, seed=1) as mesh:
        wall = mesh.hosts[0].now().wall
        author = Author(mesh, LIAR, birth=7)
        author.tell(0, author.write("key", "from another time", wall=max(0, wall + seconds * 1_000_000)))
        mesh.run(1.0)
        assert shows(mesh, 1, "key") == "from another time"
        mesh.node(1).register("key").set("later")
        mesh.run(1.0)
        wins = seconds > 0 and not defended
        for number in honest(mesh, LIAR):
            assert shows(mesh, number, "key") == ("from another time" if wins else "later")


@both
def test_nobody_sets_its_clock_by_what_comes_in(defended: bool) -> None:
    """Undefended, as with hybrid clocks: a receiver's time goes up to the highest that it has seen; all write in 2036."""
    with open_mesh(4, seed=2) as mesh:
        wall = mesh.hosts[0].now().wall
        author = Author(mesh, LIAR, birth=7)
        author.tell(0, author.write("key", "ahead", wall=wall + TEN_YEARS * 1_000_000))
        mesh.run(1.0)
        drafted = Peer.draft

        def hybrid(self: Peer, *arguments: Any, now: Now, **options: Any) -> Any:
            highest = max(op.time for key in self.replica.keys(()) for op in self.replica.cells(key))
            return drafted(self, *arguments, now=Now(now.monotonic, max(now.wall, highest + 1)), **options)

        with without(defended, Peer, "draft", hybrid):
            mesh.node(1).register("other").set("now")
        mesh.run(1.0)
        (cell,) = mesh.peer(2).replica.cells((REGISTER, ("other",)))
        assert (abs(cell.time - wall) < 60 * 1_000_000) == defended


@both
def test_one_wrong_clock_stops_nobody_else(defended: bool) -> None:
    """Undefended: the median of the peers alone is asked, and in a mesh of two that is the liar."""

    def median(self: PeerClocks, limit: int, now: Now) -> int | None:
        offset = self.offset(now)
        return offset if offset is not None and abs(offset) > limit else None

    with open_mesh(2, seed=3) as mesh, without(defended, PeerClocks, "outvoted", median):
        mesh.hosts[1].clock.jump(TEN_YEARS)
        mesh.run(20.0)
        if defended:
            mesh.node(0).register("key").set("written")
        else:
            with pytest.raises(ClockWrong):
                mesh.node(0).register("key").set("written")


@both
def test_its_owner_is_told_before_it_writes(defended: bool) -> None:
    with open_mesh(4, seed=4) as mesh, without(defended, PeerClocks, "outvoted", lambda *_: None):
        mesh.hosts[LIAR].clock.jump(TEN_YEARS)
        mesh.run(20.0)
        if defended:
            with pytest.raises(ClockWrong, match="ahead"):
                mesh.node(LIAR).register("key").set("from the future")
        else:
            mesh.node(LIAR).register("key").set("from the future")


def test_three_hostile_clocks_of_ten_stop_nobody() -> None:
    with open_mesh(10, seed=5) as mesh:
        for number in (7, 8, 9):
            mesh.hosts[number].clock.jump(TEN_YEARS)
        mesh.run(20.0)
        for number in range(7):
            mesh.node(number).register(f"key/{number}").set(number)
        mesh.run(1.0)
        assert all(shows(mesh, number, "key/0") == 0 for number in range(10))
