"""A mesh of measured agents in processes of their own, with or without the lossy relay between them."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

import mesh
from mesh.nursery import open_plain_nursery
from mesh.trust.files import save_membership
from tools.fleet import AgentFailed, AgentPlan, Fleet, open_fleet
from tools.relay import HOST, Relay, free_ports

START_SECONDS = 60.0


@dataclass
class Cluster:
    """Running agents. `relay` is None when they reach each other directly."""

    fleet: Fleet
    plans: list[AgentPlan]
    relay: Relay | None

    @property
    def names(self) -> list[str]:
        return list(self.fleet.agents)

    async def reports(self) -> list[dict[str, Any]]:
        return list((await self.fleet.ask_all("report", "report")).values())

    async def wait_equal(self, limit: float, alive: int | None = None) -> float:
        """Seconds until all replicas show one digest, and `alive` members each where that is asked for. Raises
        AgentFailed.
        """
        start = time.monotonic()
        answers: dict[str, Any] = {}
        while time.monotonic() - start < limit:
            answers = await self.fleet.ask_all("digest", "digest")
            equal = len({answer["digest"] for answer in answers.values()}) == 1
            if equal and (alive is None or all(answer["alive"] == alive for answer in answers.values())):
                return time.monotonic() - start
            await trio.sleep(0.05)
        seen = sorted({answer["alive"] for answer in answers.values()})
        raise AgentFailed(f"replicas are not equal after {limit:.0f} s; members alive at each: {seen}")


@asynccontextmanager
async def open_cluster(
    agents: int,
    *,
    loss: float = 0.0,
    relayed: bool = False,
    disk: bool = False,
    preset: str = "lan",
    watch: bool = False,
    seed: int = 1,
    voters: int = 0,
) -> AsyncIterator[Cluster]:
    """All agents run and know each other. Everything is gone afterwards. `voters`: so many of the first; then all that is written
    is critical."""
    with tempfile.TemporaryDirectory(prefix="mesh-measure-") as directory:
        ports = free_ports(agents)
        relay = Relay(loss, random.Random(seed), ports) if loss or relayed else None
        plans = _plans(Path(directory), ports, relay, ["--preset", preset] + ["--disk"] * disk + ["--watch"] * watch, voters)
        try:
            async with open_plain_nursery() as nursery, open_fleet() as fleet:
                if relay is not None:
                    nursery.start_soon(relay.run)
                for plan in plans:
                    await fleet.start(plan)
                await fleet.ready_all()
                cluster = Cluster(fleet, plans, relay)
                await cluster.wait_equal(START_SECONDS, alive=agents)
                yield cluster
                nursery.cancel_scope.cancel()
        finally:
            if relay is not None:
                relay.close()


def _plans(directory: Path, ports: list[int], relay: Relay | None, extra: list[str], voters: int) -> list[AgentPlan]:
    authority = mesh.Authority.generate(critical=["bench/**"] if voters else [])
    extra = extra + ["--critical"] * (voters > 0)
    plans = []
    faces = [f"{HOST}:{port}" if relay is None else relay.face_address(i) for i, port in enumerate(ports)]
    for number, port in enumerate(ports):
        name = f"agent-{number:03}"
        home = directory / name
        save_membership(home, authority.enrol(mesh.Identity.generate(), name=name, may_write=["**"], voter=number < voters))
        seeds = [face for face in faces[:3] if face != faces[number]]
        plans.append(AgentPlan("tools.measure.agent", name, home, f"{HOST}:{port}", faces[number], seeds, extra))
    return plans
