"""Agreement for programs without trio."""

from __future__ import annotations

import time

import pytest

import mesh
from mesh.blocking import BlockingNode
from tests.node.agents import PATIENCE_S, Mesh


def wait_for_quorum(node: BlockingNode) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while node.quorum().leader is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_critical_writes_and_leases_block() -> None:
    with mesh.blocking.open_node(Mesh(["tasks/**", "locks/**"]).config("a", voter=True)) as node:
        wait_for_quorum(node)
        task = node.critical("tasks/1")
        receipt = task.compare_and_set(None, "a", timeout=PATIENCE_S)
        assert (task.value, task.get(timeout=PATIENCE_S)) == ("a", "a")
        with pytest.raises(mesh.NotCommitted) as caught:
            task.compare_and_set(None, "b")
        assert caught.value.current == "a"
        again = task.compare_and_set(None, "a", idempotency_key=receipt.idempotency_key)
        assert again.index == receipt.index, "the same write"
        task.delete()
        assert task.value is None
        node.propose(mesh.Thought(intent="note", rationale="because"), timeout=PATIENCE_S)
        with node.lease("locks/1", ttl=0.5) as lease:
            lease.check()
            assert lease.fencing_token > 1 << 32
            with pytest.raises(TimeoutError), node.lease("locks/1", ttl=0.5, timeout=0.1):
                pass
            time.sleep(0.7)
            assert lease.remaining > 0
        with node.lease("locks/1", ttl=0.5, timeout=1.0):
            pass


def test_what_has_no_answer_in_time_is_unknown_and_a_lost_lease_is_told() -> None:
    with mesh.blocking.open_node(Mesh(["tasks/**", "locks/**"]).config("a", voter=True)) as node:
        wait_for_quorum(node)
        desk = node._node._peer.quorum._desk
        submit = desk._submit

        def work() -> None:
            with node.lease("locks/1", ttl=0.3) as lease:
                desk._submit = lambda _given: None
                time.sleep(0.5)
                assert lease.lost
                with pytest.raises(mesh.LeaseLost):
                    lease.check()

        with pytest.raises(mesh.LeaseLost):
            work()
        with pytest.raises(mesh.OutcomeUnknown) as caught:
            node.critical("tasks/1").set(1, timeout=0.05)
        several = [node.critical("tasks/2").to_set(2), node.critical("tasks/3").to_compare_and_set(None, 3)]
        found = node.agree(several, timeout=0.05)
        named = node.agree(several, idempotency_key="k", timeout=0.05)
        desk._submit = submit
        for each in (*found, *named):
            assert isinstance(each, mesh.OutcomeUnknown)
            assert "no answer of a majority within 0.05 s" in str(each)
        assert isinstance(found[1], mesh.OutcomeUnknown)
        again = node.critical("tasks/3").compare_and_set(None, 3, idempotency_key=found[1].idempotency_key, timeout=PATIENCE_S)
        for each in node.agree(several, idempotency_key="k", timeout=PATIENCE_S):
            assert isinstance(each, mesh.Receipt | mesh.NotCommitted)
        assert (again.index > 0, node.critical("tasks/2").value) == (True, 2)
        with pytest.raises(mesh.ValueTooLarge):
            node.agree([node.critical("tasks/4").to_delete(), node.critical("tasks/4").to_set("x" * 1000)])
        node.critical("tasks/1").set(1, idempotency_key=caught.value.idempotency_key, timeout=PATIENCE_S)
