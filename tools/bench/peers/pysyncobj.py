"""Three PySyncObj processes; clients live in the leader's, as ours do when they are local to it."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tools.bench.fleet_quorum import FleetQuorum
from tools.bench.ports import free_ports
from tools.fleet import AgentFailed, open_fleet

START_SECONDS = 30.0


class PySyncObjQuorum(FleetQuorum):
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
