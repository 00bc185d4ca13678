"""The strategies that users get: what a step does is what its text says, and what breaks is found and told."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test

from crdt.replica import Replica
from mesh.sync.pull import Puller
from mesh.testing import open_mesh
from mesh.testing.strategies import Steps, calm, histories, leave, passing, restart, script, write
from tests.machines import test_small_mesh
from tests.machines.test_small_mesh import SETTINGS, SmallMesh
from tests.sim.scenarios import played
from tools.sim.script import parse
from tools.sim.stage import Stage

HOSTS = 3
FEW = settings(max_examples=15, derandomize=True)


@given(histories(hosts=HOSTS, steps_max=15))
@FEW
def test_a_step_does_what_its_text_says(history: Steps) -> None:
    """Played as steps and played as text by the simulator's stage, a history sends the very same datagrams."""
    with open_mesh(HOSTS, seed=1, settle=0.5) as acted, open_mesh(HOSTS, seed=1, settle=0.5) as read:
        for step in history:
            step.play(acted)
        Stage(read).play(parse(script(history)))
        for mesh in (acted, read):
            mesh.run(0.2)
        assert acted.digest == read.digest


@given(histories(hosts=HOSTS, steps_max=12))
@FEW
def test_any_history_ends_as_one(history: Steps) -> None:
    """The example of the module's docstring."""
    with open_mesh(HOSTS, settle=0.5) as mesh:
        for step in history:
            step.play(mesh)
        calm(mesh)
        assert mesh.run_until(mesh.converged, 60.0, every=0.1), script(history)


def test_calm_brings_everybody_back() -> None:
    with open_mesh(HOSTS, settle=1.0) as mesh:
        mesh.crash(1)
        mesh.cut([0])
        mesh.hosts[2].disk.full = True  # type: ignore[union-attr]  # there are disks
        calm(mesh)
        mesh.run(3.0)
        assert mesh.running == [0, 1, 2]
        assert all(len(mesh.peer(number).swim.alive()) == 2 for number in range(HOSTS))
        assert not mesh.hosts[2].disk.full  # type: ignore[union-attr]


def test_a_write_may_be_refused_and_nobody_may_be_there() -> None:
    with open_mesh(HOSTS, settle=1.0, may_write=("a/**",)) as mesh:
        assert write("set", 0, "a/x", 1).play(mesh)
        assert not write("set", 0, "b/x", 2).play(mesh)
        mesh.crash(1)
        assert not write("set", 1, "a/x", 3).play(mesh)
        assert restart(1).play(mesh)
        leave(2).play(mesh)
        passing(3_000).play(mesh)
        assert mesh.running == [0, 1]


# ---- broken on purpose: the machine must find it, and tell how


def found(what: str) -> str:
    """What the machine says of a broken product: a scenario."""
    brief = settings(SETTINGS, max_examples=40, database=None, phases=[Phase.generate])
    with pytest.raises(Exception, match=what) as failure:
        run_state_machine_as_test(SmallMesh, settings=brief)
    (note,) = (note for note in getattr(failure.value, "__notes__", []) if "mesh nodes=" in note)
    return str(note)


@pytest.mark.interpreted
def test_a_mesh_that_never_pulls_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Puller, "offer", lambda *_: False)
    monkeypatch.setattr(test_small_mesh, "CALM_SECONDS", 15.0)
    scenario = found("not one again|views: ")
    monkeypatch.undo()
    assert played(scenario) == scenario + "\n"  # with the product as it is, nothing is wrong with it


@pytest.mark.interpreted
def test_a_replica_that_shows_too_little_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Replica.shown
    monkeypatch.setattr(Replica, "shown", lambda self, key: honest(self, key)[:1])
    assert "> " in found("views: ")
