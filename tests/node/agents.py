"""Real nodes for tests: one mesh, loopback sockets, free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

import mesh

PATIENCE_S = 60.0
"""How long a test waits for what takes milliseconds when the machine is idle."""


class Mesh:
    """An authority, and a configuration for each agent that it enrols."""

    def __init__(self, critical: Sequence[str] = ()) -> None:
        self.authority = mesh.Authority.generate(critical=list(critical))
        self.seeds: list[str] = []

    def config(
        self,
        name: str,
        *,
        data_dir: Path | None = None,
        may_write: tuple[str, ...] = ("**",),
        voter: bool = False,
        score: int = 0,
        **options: Any,
    ) -> mesh.NodeConfig:
        identity = mesh.Identity.generate()
        membership = self.authority.enrol(identity, name=name, may_write=may_write, voter=voter, score=score)
        settings = {"bind": "127.0.0.1:0", "seeds": tuple(self.seeds), "data_dir": data_dir, **options}
        return mesh.NodeConfig(membership=membership, **settings)


@asynccontextmanager
async def open_nodes(*names: str) -> AsyncIterator[list[mesh.Node]]:
    """Agents that know each other."""
    one_mesh = Mesh()
    async with AsyncExitStack() as stack:
        nodes: list[mesh.Node] = []
        for name in names:
            node = await stack.enter_async_context(mesh.open_node(one_mesh.config(name)))
            one_mesh.seeds.append(seed_of(node))
            nodes.append(node)
        await until(lambda: all(alive(node) == sorted(names) for node in nodes))
        yield nodes


def seed_of(node: mesh.Node) -> str:
    host, port = node.address
    return f"{host}:{port}"


def alive(node: mesh.Node) -> list[str]:
    return sorted(member.name for member in node.members() if member.state == "alive")


async def until(true: Callable[[], bool]) -> None:
    """Fails when it does not come true."""
    with trio.fail_after(PATIENCE_S):
        while True:
            if true():
                return
            await trio.sleep(0.005)
