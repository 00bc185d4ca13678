"""A certificate proves what it says, and nothing that was changed in it proves anything."""

from __future__ import annotations

import pytest

from consensus_escalation.certificate import Ack, Certificate, NotCertified, Trail, ack_bytes, verify_certificate_untrusted
from consensus_escalation.effects import Certified
from consensus_escalation.quorum import Config
from consensus_escalation.types import Purpose, Role
from tests.consensus.cluster import Cluster, Machine, seal, voter


def certified(cluster: Cluster, leader: Machine) -> list[Certificate]:
    return [notice.certificate for notice in leader.take(Certified) if isinstance(notice, Certified)]


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(3)
    leader = cluster.elect()
    for number in range(5):
        cluster.submit(leader, f"entry {number}")
    cluster.advance(0.1)
    return cluster


def newest(cluster: Cluster) -> Certificate:
    return certified(cluster, cluster.elect(0.0))[-1]


def refuse(cluster: Cluster, certificate: Certificate, config: Config | None = None, epoch: int = 1) -> str:
    with pytest.raises(NotCertified) as refused:
        verify_certificate_untrusted(certificate, config or cluster.genesis.config, epoch, cluster.keys)
    return str(refused.value)


def test_what_is_committed_is_certified_by_a_quorum(cluster: Cluster) -> None:
    leader = cluster.elect(0.0)
    proof = newest(cluster)
    header = verify_certificate_untrusted(proof, cluster.genesis.config, 1, cluster.keys)
    assert leader.raft is not None
    assert header.index == leader.raft.commit
    assert len(proof.acks) == 2


def test_what_is_changed_proves_nothing(cluster: Cluster) -> None:
    proof = newest(cluster)
    first, second = proof.acks
    third = next(name for name in cluster.names if name not in (first.voter, second.voter))
    assert refuse(cluster, proof._replace(acks=(first,))) == "no quorum"
    assert refuse(cluster, proof._replace(acks=(first, first))) == "acknowledgements are sorted, one of each voter"
    assert refuse(cluster, proof._replace(acks=(second, first))) == "acknowledgements are sorted, one of each voter"
    assert refuse(cluster, proof._replace(acks=tuple(sorted([first, second._replace(voter=third)])))) == "a signature is wrong"
    assert (
        refuse(cluster, proof._replace(acks=(first, second._replace(index=second.index + 1))))
        == "an acknowledgement that does not count"
    )
    assert refuse(cluster, proof, epoch=2) == "of another epoch"
    assert refuse(cluster, proof, Config((voter(1), voter(7), voter(8)))) == "an acknowledgement that does not count"
    assert refuse(cluster, Certificate((), proof.acks)) == "too many headers or acknowledgements"
    assert refuse(cluster, Certificate((b"\x80",), proof.acks)) == "header has another shape"


def test_a_joint_configuration_needs_both_majorities(cluster: Cluster) -> None:
    proof = newest(cluster)
    signers = tuple(ack.voter for ack in proof.acks)
    both = Config(voters=cluster.genesis.config.voters, outgoing=tuple(sorted([*signers, voter(9)])))
    assert verify_certificate_untrusted(proof, both, 1, cluster.keys)
    assert (
        refuse(cluster, proof, Config(cluster.genesis.config.voters, tuple(sorted([signers[0], voter(8), voter(9)]))))
        == "no quorum"
    )


def test_an_acknowledgement_of_a_descendant_counts_with_the_headers_between(cluster: Cluster) -> None:
    leader = cluster.elect(0.0)
    assert leader.raft is not None
    blocks = leader.raft.log.between(2, 4)
    acks = tuple(
        Ack(voter(number), index, seal(voter(number), Purpose.ACK, ack_bytes(1, blocks[index - 2].hash)))
        for number, index in [(1, 3), (2, 4)]
    )
    proof = Certificate(tuple(block.header_bytes for block in blocks), acks)
    assert verify_certificate_untrusted(proof, cluster.genesis.config, 1, cluster.keys).index == 2
    holed = proof._replace(headers=(blocks[0].header_bytes, blocks[2].header_bytes))
    assert refuse(cluster, holed) == "headers do not follow on each other"


def test_acknowledgements_of_different_terms_add_up_to_nothing() -> None:
    """Figure 8 of the paper with signatures: an old block on a majority is not committed. A later block that is commits it
    too."""
    cluster = Cluster(3)
    leader = cluster.elect()
    leader.crash()
    following = cluster.elect(1.0)
    assert following.raft is not None
    blocks = following.raft.log.between(1, 2)
    assert blocks[0].term < blocks[1].term

    def proof(*signed: tuple[int, int]) -> Certificate:
        acks = [Ack(voter(n), i, seal(voter(n), Purpose.ACK, ack_bytes(1, blocks[i - 1].hash))) for n, i in signed]
        return Certificate(tuple(block.header_bytes for block in blocks), tuple(acks))

    assert refuse(cluster, proof((1, 1), (2, 2))) == "acknowledgements of different terms"
    assert verify_certificate_untrusted(proof((1, 2), (2, 2)), cluster.genesis.config, 1, cluster.keys).index == 1


@pytest.mark.interpreted
def test_a_forged_acknowledgement_delays_the_proof_and_spoils_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = cluster.elect(0.0)
    certified(cluster, leader)
    liar = next(machine for machine in cluster.machines.values() if machine is not leader)
    assert liar.raft is not None
    monkeypatch.setattr(liar.raft._replication, "_sign_ack", lambda match, term: b"forged")
    cluster.submit(leader, "certified all the same")
    cluster.advance(0.1)
    assert leader.raft is not None
    assert leader.raft.role is Role.LEADER
    assert liar.me not in {ack.voter for ack in certified(cluster, leader)[-1].acks}


def test_a_stranger_to_the_voters_learns_nothing(cluster: Cluster) -> None:
    proof = newest(cluster)
    trail = Trail(Config((voter(7), voter(8), voter(9))), 1, cluster.keys)
    with pytest.raises(NotCertified):
        trail.verify_untrusted(proof)
    with pytest.raises(NotCertified):
        cluster.trail.extend_untrusted(next(iter(cluster.witness.committed.values())), proof)
