"""This project's own quorum under measurement: three voters with disks, clients in the leader's process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

import mesh
from mesh.trust.files import save_membership
from tools.bench.fleet_quorum import FleetQuorum
from tools.fleet import AgentFailed, AgentPlan, Fleet, open_fleet
from tools.relay import free_ports

VOTERS: Final = 3
START_SECONDS: Final = 30.0


class OwnQuorum(FleetQuorum):
    def __init__(self, fleet: Fleet, voters: int) -> None:
        super().__init__(fleet)
        self._voters = voters

    async def stream_beside(self, leader: str) -> None:
        """The same at one other member only: five of them keep a small machine busy by themselves."""
        await next(agent for name, agent in sorted(self._fleet.agents.items()) if name != leader).say("stream")

    async def batches(self, clients: int, size: int, seconds: float) -> float:
        """Entries per second, of clients that write so many at once."""
        return float(await self._fleet.agents[await self.leader()].ask(f"batches {clients} {size} {seconds}", "batches"))

    async def cpu(self) -> dict[str, float]:
        """Seconds of CPU so far, by the name of the voter."""
        return {name: float(used) for name, used in (await self._fleet.ask_all("cpu", "cpu")).items()}

    async def leader(self) -> str:
        """Its name, once all agree on it and all vote."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            answers = {(leader, voters) for leader, voters in (await self._fleet.ask_all("quorum", "quorum")).values()}
            if len(answers) == 1 and (answer := answers.pop())[1] == self._voters and answer[0] in self._fleet.agents:
                return str(answer[0])
            await trio.sleep(0.05)
        raise AgentFailed(f"the quorum had no leader and {self._voters} voters within {START_SECONDS:.0f} s")


@asynccontextmanager
async def open_ours(voters: int = VOTERS) -> AsyncIterator[OwnQuorum]:
    authority = mesh.Authority.generate(critical=["bench/**"])
    ports = free_ports(voters)
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        async with open_fleet() as fleet:
            for number, port in enumerate(ports):
                name = f"voter-{number}"
                home = Path(directory) / name
                membership = authority.enrol(
                    mesh.Identity.generate(), name=name, may_write=["**"], voter=True, score=max(9 - number, 0)
                )
                save_membership(home, membership)
                address = f"127.0.0.1:{port}"
                seeds = [f"127.0.0.1:{other}" for other in ports if other != port]
                await fleet.start(AgentPlan("tools.bench.quorum_agent", name, home, address, address, seeds))
            await fleet.ready_all()
            quorum = OwnQuorum(fleet, voters)
            await quorum.leader()
            yield quorum
