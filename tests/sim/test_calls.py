"""What the simulator records of the calls that programs make."""

from __future__ import annotations

from mesh.testing import Mesh
from tools.sim.checks import Inspector


def test_the_time_of_a_call_is_that_of_its_own_cell_not_of_one_with_an_equal_dot() -> None:
    """Hunt, seeds 30125 and 30303: dots of two origins can be equal numbers. The recorder took the time of the cell that was
    overwritten, half an hour ahead, so the specification let this write win against a concurrent one that was truly later."""
    mesh = Mesh(2, seed=1)
    calls = Inspector(mesh).calls
    mesh.start()
    mesh.run(3.0)
    mesh.hosts[0].clock.jump(1_800.0)
    for number in (0, 1):
        calls.make(number, "register/0", mesh.node(number).register("register/0"), "set", [number])
        assert mesh.run_until(mesh.converged, 3.0)
    ahead, overwrite = calls.by_place["register/0"]
    assert ahead.writes[0].dot == overwrite.writes[0].dot, "or this test shows nothing"
    assert ahead.writes[0].origin != overwrite.writes[0].origin
    assert overwrite.saw == 0
    assert overwrite.time < ahead.time - 1_700_000_000, "each by its author's clock"
    assert mesh.node(0).register("register/0").value == 1
