"""A voter whose vote the authority took leaves at once, and its removal is countersigned: its words are in the block."""

from __future__ import annotations

import pytest

from consensus_escalation.block import Block, Entry, Kind, cut, header_from_bytes_untrusted
from consensus_escalation.membership import leaving
from consensus_escalation.quorum import Config
from consensus_escalation.types import Role
from mesh.critical.proof import NotProven, Report, ledger_file, verify_untrusted
from mesh.quorum.warrants import dismissed_by_untrusted, warrant
from mesh.testing import Mesh, open_mesh
from mesh.trust.membership import present
from tests.quorum.helpers import DONE, has_voters, leader, put, replica, wait

CRITICAL = ("tasks/**",)
WATCHER = 5


def settled(mesh: Mesh, voters: int = 3) -> Mesh:
    assert mesh.run_until(lambda: has_voters(mesh, voters) and leader(mesh) is not None, 10.0)
    return mesh


def votes(mesh: Mesh) -> set[int]:
    chain = mesh.peer(WATCHER).quorum.chain
    assert chain is not None
    return {number for number in range(6) if replica(mesh, number) in chain.config.electorate}


def tell(mesh: Mesh, statement: bytes) -> None:
    mesh.peer(WATCHER).directory.add_untrusted(statement, mesh.hosts[WATCHER].now())
    mesh.hosts[WATCHER].wake()


def report(mesh: Mesh, number: int) -> Report:
    """What a stranger learns from this host."""
    peer = mesh.peer(number)
    chain, genesis = peer.quorum.chain, peer.directory.genesis()
    assert chain is not None
    assert genesis is not None
    return verify_untrusted(ledger_file(chain, genesis[0], mesh.memberships[number].charter, peer.directory.statements(), ()))


def away(mesh: Mesh, number: int) -> bool:
    return number not in votes(mesh)


@pytest.mark.parametrize("way", ["revoked", "cut", "no vote"])
@pytest.mark.parametrize("which", ["leader", "follower"])
def test_a_dismissed_voter_is_replaced_at_once_and_the_authority_stands_for_it(way: str, which: str) -> None:
    """A revoked voter kept its seat for ten minutes, and for ever where nobody stood by."""
    with open_mesh(6, voters=4, critical=CRITICAL) as mesh:
        settled(mesh)
        mesh.authority.observe_untrusted(mesh.peer(WATCHER).directory.statements())
        first = leader(mesh)
        assert first is not None
        gone = first if which == "leader" else min(votes(mesh) - {first})
        (spare,) = set(range(4)) - votes(mesh)
        if way == "revoked":
            tell(mesh, mesh.authority.revoke(replica(mesh, gone), honoured=[]))
        elif way == "cut":
            tell(mesh, mesh.authority.cut(replica(mesh, gone), host=replica(mesh, WATCHER)))
        else:
            tell(mesh, mesh.authority.reissue(replica(mesh, gone), voter=False))
        living = [number for number in range(6) if number != gone]
        assert mesh.run_until(lambda: spare in votes(mesh) and away(mesh, gone), 3.0)
        assert wait(mesh, WATCHER, put(mesh, WATCHER, "tasks/1", 1)).status is DONE
        mesh.run(1.0)
        for number in living:
            newest = report(mesh, number).changes[-1]
            assert newest.came == (mesh.name_of(replica(mesh, spare)),)
            assert newest.went == newest.countersigned == (mesh.name_of(replica(mesh, gone)),)
        assert leader(mesh) != gone


def test_without_anybody_who_stands_by_two_are_left() -> None:
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh)
        gone = min(votes(mesh) - {leader(mesh)})
        mesh.authority.observe_untrusted(mesh.peer(WATCHER).directory.statements())
        tell(mesh, mesh.authority.reissue(replica(mesh, gone), voter=False))
        assert mesh.run_until(lambda: has_voters(mesh, 2), 3.0)
        assert mesh.run_until(lambda: mesh.peer(gone).quorum.raft is None, 3.0)
        assert wait(mesh, gone, put(mesh, gone, "tasks/1", 1)).status is DONE
        tell(mesh, mesh.authority.reissue(replica(mesh, gone), voter=True))
        assert mesh.run_until(lambda: has_voters(mesh, 3), 3.0), "and it comes back"


def test_a_voter_that_lost_its_disk_votes_again_once_it_was_dismissed_and_appointed() -> None:
    """What it promised counted for voters that decide no more, and all that was committed is in the others' log."""
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh)
        lost = min(votes(mesh) - {leader(mesh)})
        wait(mesh, WATCHER, put(mesh, WATCHER, "tasks/1", 1))
        mesh.restart(lost, "lost")
        mesh.run(2.0)
        assert mesh.peer(lost).quorum.raft is None
        mesh.authority.observe_untrusted(mesh.peer(WATCHER).directory.statements())
        tell(mesh, mesh.authority.reissue(replica(mesh, lost), voter=False))
        assert mesh.run_until(lambda: has_voters(mesh, 2), 3.0)
        tell(mesh, mesh.authority.reissue(replica(mesh, lost), voter=True))
        assert mesh.run_until(lambda: has_voters(mesh, 3), 3.0)
        mesh.crash(min(votes(mesh) - {lost}))
        assert wait(mesh, WATCHER, put(mesh, WATCHER, "tasks/1", 2), limit=10.0).status is DONE


def block_of(mesh: Mesh, number: int, config: Config, evidence: bytes) -> Block:
    """What a leader would cut next."""
    raft = mesh.peer(number).quorum.raft
    assert raft is not None
    newest = raft.log.get(raft.log.last_index)
    assert newest is not None
    keys = mesh.peer(number).quorum.keys
    entry = Entry(Kind.CONFIG, body=keys.encode([list(part) for part in config]), evidence=evidence)
    header = newest.header._replace(index=newest.index + 1, prev=newest.hash, config_index=raft.log.config_index)
    return cut(header_from_bytes_untrusted(keys.encode(list(header)), keys), newest.time, (entry,), keys)


def test_a_forged_countersignature_is_refused_by_every_voter_and_by_strangers() -> None:
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh)
        mesh.authority.observe_untrusted(mesh.peer(WATCHER).directory.statements())
        first = leader(mesh)
        assert first is not None
        victim, other = sorted(votes(mesh) - {first})
        raft, directory = mesh.peer(other).quorum.raft, mesh.peer(other).directory
        assert raft is not None
        before = raft.log.config
        joint = Config(tuple(sorted(set(before.voters) - {replica(mesh, victim)})), before.voters)
        assert leaving(joint) == (replica(mesh, victim),)
        tell(mesh, mesh.authority.revoke(replica(mesh, 4), honoured=[]))  # somebody who does not vote
        assert mesh.run_until(lambda: directory.revoked(replica(mesh, 4)), 3.0)
        about_another = present(directory.revocations_of(replica(mesh, 4)))
        said = mesh.authority.reissue(replica(mesh, victim), voter=False)
        forged = present([said[:-1] + bytes([said[-1] ^ 1])])
        grant = directory.credential(replica(mesh, victim))
        assert grant is not None
        with_a_vote = present([directory.raw(grant.statement) or b""])
        for evidence in (b"x", b"\x80", bytes(80), about_another, forged, with_a_vote):
            assert dismissed_by_untrusted(directory, evidence, leaving(joint)) == set()
            assert not raft._evidence.holds(block_of(mesh, first, joint, evidence), before), evidence
        assert raft._evidence.holds(block_of(mesh, first, joint, b""), before), "it may be missing where it cannot be had"
        directory.restore([mesh.authority.directory.statements()[-1], *mesh.authority.directory.statements()])
        good = warrant(directory, [replica(mesh, victim)], 600)
        assert raft._evidence.holds(block_of(mesh, first, joint, good), before)
        assert not raft._evidence.holds(block_of(mesh, first, before._replace(outgoing=()), good), before), "that removes nobody"
        assert warrant(directory, [replica(mesh, victim)], 20) == b"", "it has to fit"
        assert raft.role is Role.FOLLOWER


def test_a_countersignature_that_only_the_log_has_kept_is_believed() -> None:
    """`mesh sim` seed 80622: a power cut took the statement from all disks, but not the quorum's file.
    The block that names it was on two of five, and the other three would never have stored it: nobody could lead any more."""
    with open_mesh(6, voters=3, critical=CRITICAL) as mesh:
        settled(mesh)
        first = leader(mesh)
        assert first is not None
        victim, other = sorted(votes(mesh) - {first})
        raft, directory = mesh.peer(other).quorum.raft, mesh.peer(other).directory
        assert raft is not None
        mesh.authority.observe_untrusted(directory.statements())
        before, statement = raft.log.config, mesh.authority.reissue(replica(mesh, victim), voter=False)
        joint = Config(tuple(sorted(set(before.voters) - {replica(mesh, victim)})), before.voters)
        assert statement not in directory.statements()
        assert raft._evidence.holds(block_of(mesh, first, joint, present([statement])), before)
        forged = statement[:-1] + bytes([statement[-1] ^ 1])
        assert not raft._evidence.holds(block_of(mesh, first, joint, present([forged])), before)


def test_a_stranger_does_not_believe_a_countersignature_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_mesh(6, voters=4, critical=CRITICAL) as mesh:
        settled(mesh)
        gone = min(votes(mesh) - {leader(mesh)})
        mesh.authority.observe_untrusted(mesh.peer(WATCHER).directory.statements())
        tell(mesh, mesh.authority.reissue(replica(mesh, gone), voter=False))
        assert mesh.run_until(lambda: away(mesh, gone), 3.0)
        wait(mesh, WATCHER, put(mesh, WATCHER, "tasks/1", 1))
        mesh.run(1.0)
        report(mesh, WATCHER)
        monkeypatch.setattr("mesh.critical.proof.dismissed_by_untrusted", lambda *_: set())
        with pytest.raises(NotProven, match="not the authority's"):
            report(mesh, WATCHER)
