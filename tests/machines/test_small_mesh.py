"""Hypothesis plays against a small mesh: it chooses what happens next, and cuts a failure down to the fewest steps.

Checked at every transition of every host is what the simulator checks (tools.sim.checks: no view lacks or keeps what it should
not, every base is its author's, nobody is blamed, nobody rises from the dead); after every step, that equal means complete; and
after the faults, that all are one and nothing is lost that was confirmed or seen.

A failure prints its steps as a scenario: as a file in tests/sim/scripts it is played again, exactly (tests.sim.scenarios).

How long: GOSSIPMESH_MACHINES=2000 plays so many histories, of up to 60 steps, chosen anew each time (about 0.3 s each). The
default is a handful that are the same every time.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from crdt.ids import ShelfId
from mesh.testing import Mesh
from mesh.testing.strategies import Step, calm, crash, faults, network_faults, passing, pauses, process_faults, writes
from tools.sim.checks import Inspector

HOSTS = 4
CALM_SECONDS = 60.0
"""In which all must be one again: what a suspicion, the longest pause (10 s) and a slow digest take together."""
REST_SECONDS = 2.0
TIME = pauses()

LONG = int(os.environ.get("GOSSIPMESH_MACHINES", "0"))
SETTINGS = settings(
    max_examples=LONG or 10,
    stateful_step_count=60 if LONG else 20,
    deadline=None,
    derandomize=not LONG,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


class SmallMesh(RuleBasedStateMachine):
    """Three or four agents with disks, from their first meeting on."""

    def __init__(self) -> None:
        super().__init__()
        self.mesh: Mesh | None = None
        self.played: list[Step] = []
        self.broken = False

    @initialize(late=st.booleans(), seed=st.integers(0, 7))
    def begin(self, late: bool, seed: int) -> None:
        self.head = f"mesh nodes={HOSTS} seed={seed}"
        self.mesh = Mesh(HOSTS, seed=seed)
        self.inspector = Inspector(self.mesh)
        self.mesh.start()
        if late:
            self.play(crash(HOSTS - 1))  # a mesh of three, until it is started again
        self.play(passing(1_000))

    def play(self, step: Step) -> None:
        assert self.mesh is not None
        self.played.append(step)
        self.guarded(lambda: step.play(self.mesh))  # type: ignore[arg-type]  # it is there

    def guarded(self, act: Callable[[], object]) -> None:
        """Whatever goes wrong is told with the script that leads there."""
        try:
            act()
        except BaseException as error:
            self.broken = True
            error.add_note(self.scenario())
            raise

    def scenario(self) -> str:
        """In the format of tests.sim.scenarios."""
        return "\n".join(("# The steps so far, and then calm:", self.head, *(f"> {step}" for step in self.played)))

    # ---- what may happen: about as many writes as faults, and time in between, or nobody would notice either

    @rule(steps=st.lists(writes(HOSTS), min_size=1, max_size=4), after=TIME)
    def write(self, steps: list[Step], after: Step) -> None:
        for step in (*steps, after):
            self.play(step)

    @rule(here=writes(HOSTS), there=writes(HOSTS), between=TIME, after=TIME)
    def answer(self, here: Step, there: Step, between: Step, after: Step) -> None:
        for step in (here, between, there, after):
            self.play(step)

    @rule(step=TIME)
    def wait(self, step: Step) -> None:
        self.play(step)

    @rule(step=network_faults(HOSTS), after=TIME)
    def network(self, step: Step, after: Step) -> None:
        self.play(step)
        self.play(after)

    @rule(step=process_faults(HOSTS), after=TIME)
    def process(self, step: Step, after: Step) -> None:
        self.play(step)
        self.play(after)

    @rule(step=writes(HOSTS), fault=faults(HOSTS))
    def write_and_fault(self, step: Step, fault: Step) -> None:
        """A write whose author, or whose way, is gone before anybody knows."""
        self.play(step)
        self.play(fault)

    # ---- what must hold

    @invariant()
    def equal_means_complete(self) -> None:
        """Who has the same deltas shows the same, whatever happened to it before."""
        if self.mesh is None or self.broken:
            return
        states: dict[tuple[tuple[ShelfId, int], ...], bytes] = {}
        for number in self.mesh.running:
            replica = self.mesh.peer(number).replica
            shelves = replica.shelves()
            if replica.draft_size or any(replica.loose_seqs(shelf) for shelf in shelves):
                continue
            held = tuple((shelf, replica.floor(shelf)) for shelf in shelves)
            state = replica.state_digest()
            self.guarded(lambda held=held, state=state: _same(states.setdefault(held, state), state, held))  # type: ignore[misc]

    def teardown(self) -> None:
        if self.mesh is not None and not self.broken:
            self.guarded(self.become_one)

    def become_one(self) -> None:
        mesh = self.mesh
        assert mesh is not None
        calm(mesh)
        others = len(mesh.hosts) - 1

        def one() -> bool:
            for host in mesh.hosts:
                if not host.running:
                    mesh.restart(host.number)  # it was about to leave when the faults ended
            alive = [len(mesh.peer(number).swim.alive()) for number in mesh.running]
            return all(count == others for count in alive) and not any(h.paused for h in mesh.hosts) and mesh.converged()

        assert mesh.run_until(one, CALM_SECONDS, every=0.1), f"not one again after {CALM_SECONDS:g} s of calm"
        mesh.run(REST_SECONDS)
        self.inspector.settled()


def _same(left: bytes, right: bytes, held: object) -> None:
    assert left == right, f"two replicas hold the same deltas and show different states: {held}"


def test_three_or_four_agents_through_anything() -> None:
    run_state_machine_as_test(SmallMesh, settings=SETTINGS)
