"""What the quorum owes to the disk: crashes at any moment, disks that stall, lose or garble what they were given."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consensus_escalation.machine import Machine
from consensus_escalation.messages import SnapshotPiece
from consensus_escalation.snapshot import Snapshot
from consensus_escalation.types import Position, Role
from consensus_escalation.wire import message_to_bytes
from mesh.events import QuorumFault
from mesh.presets import LAN
from mesh.quorum.rows import Image, QuorumBatch, QuorumRestored
from mesh.store.ledger_file import LedgerFile
from mesh.testing import Mesh, open_mesh
from mesh.testing.delay import Fixed
from mesh.wire.cbor import encode
from mesh.wire.frames import Frame
from tests.quorum.helpers import DONE, answers, has_voters, leader, put, replica, shown_with_proof, value, wait

CRITICAL = ("tasks/**",)


def settled(mesh: Mesh, voters: int) -> Mesh:
    assert mesh.run_until(lambda: has_voters(mesh, voters) and leader(mesh) is not None, 10.0)
    return mesh


def journal(mesh: Mesh, number: int) -> Any:
    disk = mesh.hosts[number].journal
    assert disk is not None
    return disk


def image(mesh: Mesh, number: int) -> Image:
    found = journal(mesh, number).image
    assert isinstance(found, Image)
    return found


def faults(mesh: Mesh, number: int) -> list[str]:
    return [event.detail for event in mesh.node(number).told if isinstance(event, QuorumFault)]


@pytest.mark.parametrize("seed", range(6))
def test_what_was_answered_is_kept_whoever_crashes_and_whenever(seed: int) -> None:
    """Transactions take 3 ms and commits come all the time, so crashes fall before, into and after them."""
    rng = random.Random(seed)
    with open_mesh(5, seed=seed, voters=3, critical=CRITICAL, fsync=Fixed(3_000)) as mesh:
        settled(mesh, 3)
        asked: dict[Any, tuple[str, int]] = {}
        for n in range(60):
            writer = rng.choice([3, 4])
            asked[put(mesh, writer, f"tasks/{n}", n)] = (f"tasks/{n}", n)
            mesh.run(rng.uniform(0.0, 0.02))
            if n % 5 == 4:
                victim = rng.randrange(3)
                if victim in mesh.running:
                    mesh.crash(victim)
                mesh.run(rng.uniform(0.0, 0.3))
                for number in range(3):
                    if number not in mesh.running:
                        mesh.restart(number)
        assert mesh.run_until(lambda: len(answers(mesh, 3) | answers(mesh, 4)) == len(asked), 30.0, every=0.05)
        assert mesh.run_until(lambda: all(shown_with_proof(mesh, *each) for each in asked.values()), 10.0, every=0.05)
        assert len({mesh.peer(number).quorum.chain.machine.digest() for number in range(5)}) == 1  # type: ignore[union-attr]
        assert not any(faults(mesh, number) for number in range(5))


def test_a_voter_with_a_damaged_log_votes_again_only_when_it_has_all_again() -> None:
    """Three voters, one dead, one with a hole in its log: electing from those two could lose what was committed."""
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        first = leader(mesh)
        assert first is not None
        garbled, behind = (number for number in range(3) if number != first)
        mesh.crash(behind)
        for n in range(5):
            assert wait(mesh, 3, put(mesh, 3, f"tasks/{n}", n)).status is DONE
        mesh.crash(garbled)
        mesh.crash(first)
        image(mesh, garbled).damage(max(image(mesh, garbled).blocks) - 3)
        mesh.restart(garbled)
        mesh.restart(behind)
        mesh.run(5.0)
        assert leader(mesh) is None, "who forgot what it acknowledged has helped to elect who never had it"
        assert any("damaged" in fault for fault in faults(mesh, garbled))
        mesh.restart(first)
        assert wait(mesh, 3, put(mesh, 3, "tasks/5", 5), limit=10.0).status is DONE
        assert mesh.run_until(lambda: all(shown_with_proof(mesh, f"tasks/{n}", n) for n in range(6)), 5.0)
        assert mesh.run_until(lambda: not image(mesh, garbled).is_damaged, 1.0)
        mesh.crash(first)
        assert wait(mesh, 3, put(mesh, 3, "tasks/6", 6), limit=10.0).status is DONE


def test_a_voter_that_lost_its_disk_stays_out() -> None:
    """It might vote a second time in one term."""
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        lost = next(number for number in range(3) if number != leader(mesh))
        wait(mesh, 3, put(mesh, 3, "tasks/1", 1))
        mesh.restart(lost, "lost")
        assert mesh.run_until(lambda: value(mesh, lost, "tasks/1") == 1, 5.0)
        mesh.run(2.0)
        assert mesh.peer(lost).quorum.raft is None
        assert any("lost the log" in fault for fault in faults(mesh, lost))
        assert wait(mesh, 3, put(mesh, 3, "tasks/2", 2)).status is DONE


def test_voters_that_lost_their_disks_say_so_though_nobody_leads() -> None:
    """Regression: of three voters two had lost their logs. Nothing was agreed on any more, and nobody said why."""
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        first = leader(mesh)
        assert first is not None
        lost = (first, next(number for number in range(3) if number != first))
        wait(mesh, 3, put(mesh, 3, "tasks/1", 1))
        for number in lost:
            mesh.crash(number)
        for number in lost:
            mesh.restart(number, "lost")
        assert mesh.run_until(lambda: all(any("lost the log" in fault for fault in faults(mesh, number)) for number in lost), 5.0)
        assert all(mesh.peer(number).quorum.raft is None for number in lost)


def test_the_first_voter_begins_no_second_log_because_the_peer_that_it_met_first_has_none() -> None:
    """Regression: it lost its disk, and was in step with another empty agent 3 ms before others could greet it. So it began the
    log again: a quorum of its own beside the one that there is."""
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        chain = mesh.peer(3).quorum.chain
        assert chain is not None
        first = next(number for number in range(3) if chain.genesis.config.voters == (replica(mesh, number),))
        other = (first + 1) % 3
        wait(mesh, 3, put(mesh, 3, "tasks/1", 1))
        mesh.crash(first)
        mesh.crash(other)
        mesh.restart(first, "lost")
        mesh.restart(other, "lost")
        mesh.run(3.0)
        assert mesh.peer(first).quorum.raft is None
        assert value(mesh, first, "tasks/1") == 1


def test_who_began_a_second_log_says_so_when_it_meets_the_first_and_does_not_vote() -> None:
    """Regression: the first voter lost its disk while it was cut off, and began the log again. After that it followed the leader,
    acknowledged nothing, voted, and showed what nobody had agreed on: for ever, without a word."""
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        chain = mesh.peer(3).quorum.chain
        assert chain is not None
        first = next(number for number in range(3) if chain.genesis.config.voters == (replica(mesh, number),))
        wait(mesh, 3, put(mesh, 3, "tasks/1", "agreed"))
        mesh.crash(first)
        mesh.cut([first])
        mesh.restart(first, "lost")
        wait(mesh, first, put(mesh, first, "tasks/1", "alone"))
        assert wait(mesh, 3, put(mesh, 3, "tasks/2", 2), limit=10.0).status is DONE
        mesh.heal()
        assert mesh.run_until(lambda: any("move quorum.db" in fault for fault in faults(mesh, first)), 5.0)
        assert wait(mesh, 3, put(mesh, 3, "tasks/3", 3)).status is DONE, "the others go on"
        mesh.restart(first)  # nor does a restart make it vote
        down = leader(mesh)
        assert down is not None
        mesh.crash(down)
        mesh.run(10.0)
        assert leader(mesh) is None, "it takes its vote to elect another one"
        mesh.restart(down)
        assert mesh.run_until(lambda: leader(mesh) is not None, 10.0)
        mesh.crash(first)  # what the message says is to be done
        journal(mesh, first).lose()
        mesh.restart(first)
        assert mesh.run_until(lambda: value(mesh, first, "tasks/1") == "agreed" and value(mesh, first, "tasks/3") == 3, 5.0)
        assert mesh.run_until(lambda: any("lost the log" in fault for fault in faults(mesh, first)), 5.0)
        assert mesh.peer(first).quorum.raft is None


def test_a_voter_that_lost_its_disk_stays_out_though_a_snapshot_is_sent_to_it() -> None:
    """Where the leader has cut off what this one lacks, a snapshot may come before the chain can tell who votes: the voter joined
    as if it had never voted."""
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        first = leader(mesh)
        assert first is not None
        lost = next(number for number in range(3) if number != first)
        wait(mesh, 3, put(mesh, 3, "tasks/1", 1))
        mesh.restart(lost, "lost")
        assert mesh.run_until(lambda: mesh.peer(lost).directory.credential(replica(mesh, first)) is not None, 5.0, every=0.0005)
        quorum = mesh.peer(lost).quorum
        assert quorum.chain is not None
        assert quorum.chain.applied == 0, "it does not know yet that it votes"
        piece = SnapshotPiece(1, 2, bytes(16), 0, 5000, bytes(900))
        now = mesh.hosts[lost].now()
        quorum.handle_untrusted(replica(mesh, first), Frame.RAFT, message_to_bytes(1, piece, quorum.keys), now)
        assert quorum.raft is None
        mesh.run(2.0)
        assert quorum.raft is None
        assert any("lost the log" in fault for fault in faults(mesh, lost))


def test_a_snapshot_that_is_no_state_is_not_taken() -> None:
    """It was stored first and read afterwards: the error came out of the turn in which the disk had finished, ended the agent,
    and came again at every start."""
    with open_mesh(3, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        host = next(number for number in range(3) if number != leader(mesh))
        quorum = mesh.peer(host).quorum
        assert quorum.raft is not None
        assert quorum.chain is not None
        index, config = quorum.raft.commit + 5, quorum.raft.log.config_before(quorum.raft.commit + 1)
        ahead, ledger = Machine(), quorum.raft.ledger.to_value()
        ahead.index = index
        wrong = [b"", b"\xff", quorum.chain.machine.snapshot(), encode([1, 2, 3])]
        for state, told in [*((each, ledger) for each in wrong), (ahead.snapshot(), ["late", *ledger[1:]])]:
            snapshot = Snapshot(Position(9, index), bytes(16), *config, told, state)
            assert not quorum.raft._core.install(snapshot.to_bytes(quorum.keys))
        assert quorum.raft._core.effects == []
        taken = Snapshot(Position(9, index), bytes(16), *config, ledger, ahead.snapshot())
        assert quorum.raft._core.install(taken.to_bytes(quorum.keys))


def test_the_first_voter_begins_no_second_history() -> None:
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        genesis = mesh.peer(0).quorum.chain.genesis.config.voters  # type: ignore[union-attr]
        first = next(number for number in range(3) if replica(mesh, number) in genesis)
        wait(mesh, 3, put(mesh, 3, "tasks/1", 1))
        mesh.restart(first, "lost")
        mesh.run(5.0)
        assert mesh.peer(first).quorum.raft is None
        assert value(mesh, first, "tasks/1") == 1


def test_a_leader_whose_disk_stalls_resigns() -> None:
    with open_mesh(4, voters=3, critical=CRITICAL) as mesh:
        settled(mesh, 3)
        first = leader(mesh)
        assert first is not None
        journal(mesh, first).fsync = Fixed(30_000_000)
        start = mesh.now
        outcome = wait(mesh, 3, put(mesh, 3, "tasks/1", 1), limit=10.0)
        assert outcome.status is DONE
        assert mesh.run_until(lambda: leader(mesh) not in (None, first), 5.0)
        assert mesh.now - start < 2.0
        raft = mesh.peer(first).quorum.raft
        assert raft is not None
        assert raft.role is not Role.LEADER


class RealFile:
    """The simulated disk's image, kept in the file that a node has."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._file = LedgerFile(directory)

    def apply(self, batch: QuorumBatch) -> None:
        self._file.write([batch])

    def restored(self) -> QuorumRestored:
        """As a process that was killed and starts again: another connection to what is there."""
        self._file.close()
        self._file = LedgerFile(self._directory)
        return self._file.load()

    def close(self) -> None:
        self._file.close()


def test_a_quorum_lives_on_in_its_real_files(tmp_path: Path) -> None:
    preset = replace(LAN, quorum=replace(LAN.quorum, snapshot_blocks=20))
    with open_mesh(4, voters=3, critical=CRITICAL, preset=preset, settle=0.0) as mesh:
        files = [RealFile(tmp_path / str(number)) for number in range(4)]
        for number, file in enumerate(files):
            mesh.crash(number)
            journal(mesh, number).image = file
        for number in range(4):
            mesh.restart(number)
        settled(mesh, 3)
        for turn in range(4):
            for n in range(12):
                assert wait(mesh, n % 4, put(mesh, n % 4, f"tasks/{n}", [turn, n])).status is DONE
            for number in range(4):
                mesh.crash(number)
            for number in range(4):
                mesh.restart(number)
            assert mesh.run_until(lambda turn=turn: shown_with_proof(mesh, "tasks/11", (turn, 11)), 10.0)  # type: ignore[misc]  # bound now
        assert not any(faults(mesh, number) for number in range(4))
        chain = mesh.peer(3).quorum.chain
        assert chain is not None
        assert chain.digest[0] >= 40
        for file in files:
            file.close()
