"""Whom an entry is sent to, and when it is sent again."""

from __future__ import annotations

import random
from itertools import pairwise

from mesh.effects import Now
from mesh.quorum.courier import AGAIN_DOUBLINGS_MAX, Courier
from mesh.testing import open_mesh
from tests.quorum.helpers import has_voters, leader

AGAIN_SECONDS = 2.0
STEP_SECONDS = 0.5


def test_who_does_not_lead_is_not_waited_for_as_the_leader_is() -> None:
    """Regression, `mesh sim --seed 112540`: every other time an entry goes to some voter, who may know better. When that was lost
    on the way, the leader was asked again after the longest wait of all, 16 s on `wan`."""
    with open_mesh(4, voters=3, critical=("tasks/**",)) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        quorum = mesh.peer(3).quorum
        chain, chief = quorum.chain, quorum.leader
        assert chain is not None
        assert chief is not None
        now = Now(0.0, chain.ledger.time)
        sent = []
        courier = Courier(
            me=mesh.peer(3).replica_id,
            keys=quorum.keys,
            again_seconds=AGAIN_SECONDS,
            rng=random.Random(1),
            send=lambda to, batch: sent.append((now.monotonic, to)),
            leader=lambda: chief,
            wall=lambda: now.wall,
        )
        courier.want(chain, b"\x80")
        for _ in range(400):
            courier.tick(chain, now)
            now = now._replace(monotonic=now.monotonic + STEP_SECONDS)
    waits = [(to == chief, after - at) for (at, to), (after, _) in pairwise(sent)]
    assert {wait for led, wait in waits if not led} == {AGAIN_SECONDS}
    assert max(wait for led, wait in waits if led) == AGAIN_SECONDS * 2**AGAIN_DOUBLINGS_MAX
