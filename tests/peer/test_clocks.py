"""Wrong clocks stop nobody but their owner, and move nobody's state."""

from __future__ import annotations

import pytest

from mesh.errors import ClockWrong
from mesh.testing import Mesh, open_mesh

YEAR = 365 * 86_400.0


def set_ahead(mesh: Mesh, host: int, seconds: float) -> None:
    mesh.hosts[host].clock.jump(seconds)


def test_an_agent_whose_clock_is_ten_years_ahead_is_told_and_nobody_else_is_stopped() -> None:
    with open_mesh(4, seed=1) as mesh:
        set_ahead(mesh, 3, 10 * YEAR)
        mesh.run(20.0)
        with pytest.raises(ClockWrong, match="ahead of its peers"):
            mesh.node(3).register("key").set("from the future")
        for host in range(3):
            mesh.node(host).register(f"key/{host}").set(host)


def test_a_healthy_agent_writes_on_while_the_only_peer_it_heard_is_wrong() -> None:
    """It was refused: the median of one peer is that peer."""
    with open_mesh(2, seed=2) as mesh:
        set_ahead(mesh, 1, 10 * YEAR)
        mesh.run(20.0)
        mesh.node(0).register("key").set("written")


def test_what_was_written_in_the_future_is_overwritten_by_whoever_has_seen_it() -> None:
    with open_mesh(3, seed=3) as mesh:
        set_ahead(mesh, 2, 0.9 * 3600)
        mesh.node(2).register("key").set("ahead")
        mesh.run(1.0)
        mesh.node(0).register("key").set("later")
        mesh.run(1.0)
        assert {mesh.node(host).register("key").value for host in range(3)} == {"later"}


def test_a_clock_beyond_what_a_delta_carries_is_refused_at_its_owner() -> None:
    """It was signed, and every peer refused the delta for ever."""
    with open_mesh(2, seed=4) as mesh:
        set_ahead(mesh, 0, 2.0**63 / 1e6)
        with pytest.raises(ClockWrong):
            mesh.node(0).register("key").set(1)
