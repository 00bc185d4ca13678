"""A process that writes as fast as it can and says what is flushed: to be killed at any moment (test_kill_nine)."""

from __future__ import annotations

import sys

import trio

import mesh
from mesh.trust.files import load_membership


async def run(home: str, seed: str, life: str) -> None:
    """Before anything else it says what the disk gave back, then how many writes of this life are flushed."""
    config = mesh.NodeConfig(membership=load_membership(home), bind="127.0.0.1:0", seeds=[seed], data_dir=f"{home}/data")
    async with mesh.open_node(config) as node:
        print(f"start {node.counter('count').value}", flush=True)
        written = 0
        while True:
            for _ in range(20):
                written += 1
                node.counter("count").add(1)
                node.register(f"key/{life}/{written}").set(written)
                await trio.sleep(0.001)
            confirmed = written
            await node.flush()
            print(f"flushed {confirmed}", flush=True)


if __name__ == "__main__":
    trio.run(run, sys.argv[1], sys.argv[2], sys.argv[3])
