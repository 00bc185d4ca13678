"""Swarms of the Python peers, one process a member, as the mesh has."""

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
from tools.measure.swarm import FleetSwarm

MEET_SECONDS = 60.0


@asynccontextmanager
async def open_kinship(processes: int, preset: str) -> AsyncIterator[FleetSwarm]:
    ports = free_ports(processes)
    async with _open_launcher("kinship_agent") as (fleet, launcher):
        for port in ports:
            await launcher.launch(port, ["--seed", str(ports[0]), "--preset", preset])
            if port == ports[0]:
                await fleet.agents[str(port)].hear("ready")
        await _all_met(fleet, processes, heard=1)
        yield FleetSwarm(fleet)


@asynccontextmanager
async def open_zenoh(processes: int) -> AsyncIterator[FleetSwarm]:
    ports = free_ports(processes)
    async with _open_launcher("zenoh_agent") as (fleet, launcher):
        for number, port in enumerate(ports):
            await launcher.launch(port, [argument for peer in ports[:number] for argument in ("--peer", str(peer))])
            await fleet.agents[str(port)].hear("ready")
        await _all_met(fleet, processes, heard=processes)
        yield FleetSwarm(fleet)


class _Launcher:
    def __init__(self, fleet: Fleet, module: str, logs: Path) -> None:
        self._fleet = fleet
        self._module = module
        self._logs = logs

    async def launch(self, port: int, arguments: list[str]) -> None:
        command = [sys.executable, "-m", f"tools.bench.peers.{self._module}", "--port", str(port), *arguments]
        await self._fleet.launch(str(port), command, self._logs / f"{port}.log")


@asynccontextmanager
async def _open_launcher(module: str) -> AsyncIterator[tuple[Fleet, _Launcher]]:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as logs:
        async with open_fleet() as fleet:
            yield fleet, _Launcher(fleet, module, Path(logs))


async def _all_met(fleet: Fleet, processes: int, heard: int) -> None:
    """Until every process knows all others; `heard` have said that they are ready."""
    for agent in list(fleet.agents.values())[heard:]:
        await agent.hear("ready")
    deadline = time.monotonic() + MEET_SECONDS
    while True:
        known = await fleet.ask_all("alive", "alive")
        if all(count == processes for count in known.values()):
            return
        if time.monotonic() > deadline:
            raise AgentFailed(
                f"the processes did not all meet within {MEET_SECONDS:.0f} s: they know {sorted(set(known.values()))}"
            )
        await trio.sleep(0.1)
