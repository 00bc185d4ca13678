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
