"""What a start finds on the disk, and tells."""

from __future__ import annotations

from pathlib import Path

import trio

import mesh
from mesh.events import QuorumFault
from mesh.quorum.rows import Forgot, QuorumBatch
from mesh.store.ledger_file import LedgerFile
from tests.node.agents import PATIENCE_S, Mesh, until


async def test_what_the_start_found_is_told_to_the_first_who_listens(tmp_path: Path) -> None:
    """Regression: the first turn told it to nobody, since nobody can listen before there is a node. A voter whose log was damaged
    said nothing of it in the log of `mesh up`."""
    config = Mesh(critical=["tasks/**"]).config("a", voter=True, data_dir=tmp_path)
    async with mesh.open_node(config) as node:
        await until(lambda: node.quorum().leader is not None)
    file = LedgerFile(tmp_path)
    file.load()
    file.write([QuorumBatch(1, (Forgot(is_over=False),), 0, True)])
    file.close()
    async with mesh.open_node(config) as node:
        await node.flush()  # turns went by
        async with node.events() as events, node.events() as others:
            with trio.fail_after(PATIENCE_S):
                first = await anext(events)
            assert isinstance(first, QuorumFault)
            assert "damaged" in first.detail
            assert first not in others._events, "once"


def lose_quorum(directory: Path) -> None:
    for path in directory.glob("quorum.*"):
        path.unlink()


async def test_a_first_voter_whose_log_is_gone_begins_no_second_one(tmp_path: Path) -> None:
    """Regression: told to move a damaged quorum.db away, an operator did so while nobody else was up. The agent began the log
    again, and all that was agreed on was as if it had never been."""
    one_mesh = Mesh(critical=["tasks/**"])
    config = one_mesh.config("a", voter=True, data_dir=tmp_path)
    async with mesh.open_node(config) as node:
        await until(lambda: node.quorum().leader is not None)
        await node.critical("tasks/1").set("agreed")
        await node.flush()
    lose_quorum(tmp_path)
    for _ in range(2):  # the second time there is a quorum.db again
        async with mesh.open_node(config) as node, node.events() as events:
            with trio.fail_after(PATIENCE_S):
                while not isinstance(fault := await anext(events), QuorumFault):
                    pass
            assert "mesh quorum reset" in fault.detail
            with trio.move_on_after(0.2) as waiting:
                await node.critical("tasks/1").set("another")
            assert waiting.cancelled_caught
            assert (node.quorum().commit_index, node.quorum().leader) == (0, None)
    async with mesh.open_node(config) as node:
        node.tell(one_mesh.authority.begin_quorum(config.membership.identity.public_key))
        await until(lambda: node.quorum().leader is not None)
        await node.critical("tasks/1").set("anew")
        assert node.quorum().epoch == 2
    async with mesh.open_node(config) as node:
        await until(lambda: node.quorum().leader is not None)
        assert await node.critical("tasks/1").get() == "anew"
