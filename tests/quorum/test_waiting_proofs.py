"""Certificates whose blocks, or whose voters, a replica does not know yet."""

from __future__ import annotations

import pytest

from consensus_escalation.block import Block
from consensus_escalation.certificate import Ack, ack_bytes
from consensus_escalation.chain import WAITING_MAX, Chain
from consensus_escalation.types import Purpose
from mesh.quorum.scores import read_score
from mesh.testing import open_mesh
from tests.quorum.helpers import chain_of, has_voters, leader, put, replica, wait


def block_of(chain: Chain, index: int) -> Block:
    block = chain.log.get(index)
    assert block is not None
    return block


def test_the_proof_that_all_others_wait_for_is_not_pushed_out() -> None:
    """`mesh sim` seed 83008: the proof of a change of voters, acknowledged by what follows on it, was thrown away each time: the
    waiting room was full of later proofs that could not be used without it. It was asked for 20 times a second, for ever."""
    with open_mesh(5, voters=3, critical=("tasks/**",)) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        for number in range(WAITING_MAX + 6):
            wait(mesh, 0, put(mesh, 0, "tasks/1", number))
        true, first = chain_of(mesh, 0), mesh.peer(0).quorum.keys
        chain = Chain(true.genesis, mesh.peer(4).quorum.keys, read_score, 4096)
        for index in range(1, true.applied + 1):
            chain.committed(block_of(true, index))
        step = chain.step_wanted()
        assert step is not None
        later = [(index, acks) for index, acks in true.proofs.items() if index > step]
        taken = [index for index, acks in later if chain.offer_acks_untrusted(index, block_of(true, index).hash, acks)]
        assert len(taken) > WAITING_MAX
        follows = block_of(true, step + 1)
        ack = Ack(replica(mesh, 0), step + 1, first.sign(Purpose.ACK, ack_bytes(1, follows.hash)))
        assert chain.offer_acks_untrusted(step, block_of(true, step).hash, (ack,))
        chain.settle()
        assert chain.step_wanted() != step


@pytest.mark.parametrize("lies", [False, True])
def test_the_next_proof_is_not_pushed_out_by_those_that_need_it(lies: bool) -> None:
    """`mesh sim` seed 83017: who was behind a change of voters had its waiting room full of proofs from after it, and threw away
    the one that it needed, each time that it came. Later any member could do the same, by one below it that proves nothing."""
    with open_mesh(5, voters=3, critical=("tasks/**",)) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        for number in range(WAITING_MAX + 6):
            wait(mesh, 0, put(mesh, 0, "tasks/1", number))
        true = chain_of(mesh, 0)
        chain = Chain(true.genesis, mesh.peer(4).quorum.keys, read_score, 4096)
        step = true.steps[0].block.index
        for index in range(1, true.applied + 1):
            assert chain.offer_block(block_of(true, index))
        if lies:
            assert chain.offer_acks_untrusted(step - 1, bytes(32), (Ack(replica(mesh, 4), step - 1, bytes(64)),))
        for index, acks in true.proofs.items():
            if index > true.steps[-1].block.index:
                chain.offer_acks_untrusted(index, block_of(true, index).hash, acks)
        assert chain.offer_acks_untrusted(step, block_of(true, step).hash, true.proofs[step])
        chain.settle()
        assert chain.applied == step
