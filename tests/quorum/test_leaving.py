"""A replica to which the log goes no longer: it keeps what it hears from the chain, and what it promised as a voter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus_escalation.types import Role
from mesh.presets import LAN
from mesh.quorum.rows import Image
from mesh.testing import Mesh, open_mesh
from tests.quorum.helpers import DONE, has_voters, leader, put, replica, shown_with_proof, value, wait

CRITICAL = ("tasks/**",)


def applied(mesh: Mesh, number: int) -> int:
    chain = mesh.peer(number).quorum.chain
    assert chain is not None
    return chain.applied


def votes(mesh: Mesh) -> set[int]:
    chain = mesh.peer(4).quorum.chain
    assert chain is not None
    return {number for number in range(5) if replica(mesh, number) in chain.config.electorate}


def replaced(mesh: Mesh) -> int:
    """A voter that was away until another took its place, and is back."""
    assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
    wait(mesh, 4, put(mesh, 4, "tasks/0", 0))
    gone = min(votes(mesh) - {leader(mesh)})
    mesh.crash(gone)
    assert mesh.run_until(lambda: gone not in votes(mesh), 10.0)
    mesh.run(0.5)
    mesh.restart(gone)
    assert mesh.run_until(lambda: mesh.peer(gone).quorum.raft is None, 5.0), "its Raft remembered its last leader for ever"
    return gone


@pytest.mark.parametrize("snapshot_blocks", [4096, 20])
def test_a_replaced_voter_keeps_what_it_hears(snapshot_blocks: int) -> None:
    """It fetched all blocks since its replacement anew at each restart: only its Raft wrote blocks down, and got none."""
    preset = replace(LAN, quorum=replace(LAN.quorum, replace_seconds=2.0, snapshot_blocks=snapshot_blocks))
    with open_mesh(5, voters=4, critical=CRITICAL, preset=preset) as mesh:
        gone = replaced(mesh)
        for n in range(1, 51):
            assert wait(mesh, gone, put(mesh, gone, f"tasks/{n % 7}", n)).status is DONE
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/1", 50), 5.0)
        mesh.run(0.5)
        before = applied(mesh, gone)
        for _ in range(2):
            mesh.restart(gone)
            assert applied(mesh, gone) == before, "fetched anew"
        assert value(mesh, gone, "tasks/1") == 50
        assert mesh.peer(gone).quorum.raft is None
        chain, disk = mesh.peer(gone).quorum.chain, mesh.hosts[gone].journal
        assert chain is not None
        assert disk is not None
        kept = disk.image
        assert isinstance(kept, Image)
        assert not kept.joined
        assert min(kept.blocks) == chain.digest[0] + 1


def test_a_replaced_voter_that_is_asked_again_remembers_its_vote() -> None:
    """Begun from nothing, it would vote a second time in a term."""
    preset = replace(LAN, quorum=replace(LAN.quorum, replace_seconds=2.0))
    with open_mesh(5, voters=4, critical=CRITICAL, preset=preset) as mesh:
        gone = replaced(mesh)
        voted = mesh.peer(gone).quorum._voted
        assert voted[0] > 0
        mesh.restart(gone)
        assert mesh.peer(gone).quorum._voted == voted
        for n in range(5):
            wait(mesh, 4, put(mesh, 4, f"tasks/{n}", n))
        other = min(votes(mesh) - {leader(mesh)})
        mesh.crash(other)
        assert mesh.run_until(lambda: gone in votes(mesh) and other not in votes(mesh) and has_voters(mesh, 3), 10.0)
        raft = mesh.peer(gone).quorum.raft
        assert raft is not None
        assert raft.term >= voted[0]
        for _ in range(2):  # with a term of another's, and of its own
            first = leader(mesh)
            assert first is not None
            assert mesh.peer(first).quorum.raft.role is Role.LEADER  # type: ignore[union-attr]
            mesh.crash(first)
            assert wait(mesh, 4, put(mesh, 4, "tasks/9", first), limit=10.0).status is DONE
            mesh.restart(first)
            mesh.run(1.0)
        assert mesh.run_until(lambda: shown_with_proof(mesh, "tasks/9", first), 5.0)


def test_a_replaced_leader_asks_for_what_stands_where_it_appended_alone() -> None:
    """Its own block, which nobody else has, counted as the one that was agreed on in that place: it never asked for that one, and
    applied nothing any more (simulator seed 70084).
    """
    preset = replace(LAN, quorum=replace(LAN.quorum, replace_seconds=2.0))
    with open_mesh(5, voters=4, critical=CRITICAL, preset=preset) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        wait(mesh, 4, put(mesh, 4, "tasks/0", 0))
        gone = leader(mesh)
        assert gone is not None
        mesh.cut([gone])
        for n in range(3):
            put(mesh, gone, "tasks/alone", n)
            mesh.run(0.05)
        raft = mesh.peer(gone).quorum.raft
        assert raft is not None
        assert raft.log.last_index > applied(mesh, gone), "blocks of its own, on its disk"
        mesh.crash(gone)
        assert mesh.run_until(lambda: gone not in votes(mesh), 10.0)
        for n in range(1, 11):
            wait(mesh, 4, put(mesh, 4, "tasks/0", n))
        mesh.heal()
        mesh.restart(gone)
        assert mesh.run_until(lambda: value(mesh, gone, "tasks/0") == 10, 10.0)
        assert wait(mesh, gone, put(mesh, gone, "tasks/0", "back")).status is DONE
