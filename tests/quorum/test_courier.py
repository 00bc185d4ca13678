"""Whom an entry is sent to, and when it is sent again; who signs it."""

from __future__ import annotations

import random
from itertools import pairwise

from consensus_escalation.authorship import BY_BLOCK
from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.quorum.courier import AGAIN_DOUBLINGS_MAX, Courier
from mesh.testing import Mesh, open_mesh
from tests.quorum.helpers import DONE, has_voters, leader, put, replica, wait

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
            now = Now(now.monotonic + STEP_SECONDS, now.wall)
    waits = [(to == chief, after - at) for (at, to), (after, _) in pairwise(sent)]
    assert {wait for led, wait in waits if not led} == {AGAIN_SECONDS}
    assert max(wait for led, wait in waits if led) == AGAIN_SECONDS * 2**AGAIN_DOUBLINGS_MAX


def signatures(mesh: Mesh, number: int, author: ReplicaId) -> list[bytes]:
    """In this voter's log, of what this author asked for."""
    raft = mesh.peer(number).quorum.raft
    assert raft is not None
    entries = [entry for block in raft.log.between(1, raft.log.last_index) for entry in block.entries]
    return [entry.signature for entry in entries if entry.author == author]


def test_a_leader_signs_what_it_wants_with_its_block_and_others_theirs() -> None:
    with open_mesh(4, voters=3, critical=("tasks/**",)) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        first = leader(mesh)
        assert first is not None
        other = next(number for number in range(3) if number != first)
        for number in (first, other, 3):
            assert wait(mesh, number, put(mesh, number, f"tasks/{number}", number)).status is DONE
        assert signatures(mesh, other, replica(mesh, first)) == [BY_BLOCK]
        assert [len(each) for each in signatures(mesh, first, replica(mesh, other))] == [64]
        assert [len(each) for each in signatures(mesh, first, replica(mesh, 3))] == [64]


def test_what_a_leader_could_not_bring_about_it_signs_for_the_next_one() -> None:
    """It was to sign it with a block, and lost the others before they had that."""
    with open_mesh(4, voters=3, critical=("tasks/**",)) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        first = leader(mesh)
        assert first is not None
        mesh.cut([first], [number for number in range(4) if number != first])
        key = put(mesh, first, "tasks/1", 1)
        assert mesh.run_until(lambda: leader(mesh) not in (None, first), 5.0)
        assert signatures(mesh, first, replica(mesh, first)) == [BY_BLOCK]
        mesh.heal()
        assert wait(mesh, first, key, limit=10.0).status is DONE
        assert [len(each) for each in signatures(mesh, first, replica(mesh, first))] == [64]
