"""Three PySyncObj processes; clients live in the leader's, as ours do when they are local to it."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tools.bench.ports import free_ports
from tools.fleet import AgentFailed, Fleet, open_fleet
from tools.measure.notebook import now_us

START_SECONDS = 30.0


class PySyncObjQuorum:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def one(self, seconds: float) -> list[float]:
        delays: list[float] = await self._fleet.agents[await self.leader()].ask(f"one {seconds}", "one")
        return delays

    async def many(self, clients: int, seconds: float) -> float:
        return float(await self._fleet.agents[await self.leader()].ask(f"many {clients} {seconds}", "many"))

    async def stream(self) -> None:
        await self._fleet.tell_all("stream")

    async def commits(self) -> list[tuple[int, int]]:
        everybody = await self._fleet.ask_all("commits", "commits")
        return [(begun, committed) for commits in everybody.values() for begun, committed in commits]

    async def kill_leader(self) -> int:
        leader = self._fleet.agents.pop(await self.leader())
        killed_at = now_us()
        await leader.kill()
        return killed_at

    async def leader(self) -> str:
        """Its name, as all agree."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            named = set((await self._fleet.ask_all("leader", "leader")).values())
            if len(named) == 1 and (leader := named.pop()) in self._fleet.agents:
                return str(leader)
            await trio.sleep(0.05)
        raise AgentFailed(f"PySyncObj had no leader within {START_SECONDS:.0f} s")


@asynccontextmanager
async def open_pysyncobj() -> AsyncIterator[PySyncObjQuorum]:
    ports = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="mesh-bench-pysyncobj-") as directory:
        async with open_fleet() as fleet:
            for port in ports:
                command = [sys.executable, "-m", "tools.bench.peers.pysyncobj_agent", "--port", str(port)]
                command += [argument for peer in ports if peer != port for argument in ("--peer", str(peer))]
                name = f"127.0.0.1:{port}"
                await fleet.launch(name, [*command, "--journal", f"{directory}/{port}"], Path(directory) / f"{port}.log")
            await fleet.ready_all()
            quorum = PySyncObjQuorum(fleet)
            await quorum.leader()
            yield quorum
