"""A member with very many keys: started from its disk, copied to a newcomer, killed and started again. Real processes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

import trio

from tools.bench.child import in_child
from tools.fleet import AgentFailed, AgentPlan, AgentProcess, Fleet, open_fleet
from tools.measure.swarm import cpu_seconds, resident_kib
from tools.relay import free_ports

HOLDER: Final = "holder"
NEWCOMER: Final = "newcomer"
CATCH_UP_SECONDS: Final = 120.0
LATE_KEYS: Final = 2_000
"""Written just before the power cut, so that there is something in the log that was not checkpointed."""


async def many_keys(keys: int, authors: int, packed: bool) -> dict[str, float]:
    """Seconds, CPU seconds and MiB; see the suite for what each means."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as directory:
        made = await in_child(
            "tools.bench.prefill:homes",
            directory=directory,
            members=[HOLDER, NEWCOMER],
            keys=keys,
            authors=authors,
            packed=packed,
        )
        async with open_fleet() as fleet:
            run = _Run(fleet, Path(directory), keys)
            figures = await run.all()
    return figures | {"deltas": float(made["deltas"])}


class _Run:
    def __init__(self, fleet: Fleet, directory: Path, keys: int) -> None:
        self._fleet = fleet
        self._directory = directory
        self._keys = keys
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]

    async def all(self) -> dict[str, float]:
        first, _ = await self._start_holder(self._keys)
        figures = await self._bootstrap()
        figures["rss_holder"] = resident_kib(self._fleet.agents[HOLDER].pid) / 1024
        await self._fleet.agents[NEWCOMER].end()
        await self._fleet.agents.pop(HOLDER).end()
        clean, clean_cpu = await self._start_holder(self._keys)
        holder = self._fleet.agents[HOLDER]
        await holder.ask(f"fill {LATE_KEYS} late", "filled")
        await trio.sleep(0.5)
        await self._fleet.agents.pop(HOLDER).kill()
        cut, cut_cpu = await self._start_holder(self._keys)  # of the last ones, those that had reached the disk
        return figures | {
            "first": first,
            "clean": clean,
            "clean_cpu": clean_cpu,
            "cut": cut,
            "cut_cpu": cut_cpu,
        }

    async def _start_holder(self, keys: int) -> tuple[float, float]:
        """(seconds, CPU seconds) from the start of the process until it shows at least `keys` keys and answers."""
        begun = time.monotonic()
        holder = await self._start(0, HOLDER, ["--disk"])
        shown = await holder.ask("keys", "keys")
        if shown < keys:
            raise AgentFailed(f"{keys} keys were on the disk, {shown} are shown")
        return time.monotonic() - begun, cpu_seconds(holder.pid)

    async def _bootstrap(self) -> dict[str, float]:
        newcomer = await self._start(1, NEWCOMER, [])
        begun, cpu = time.monotonic(), cpu_seconds(newcomer.pid)
        while await newcomer.ask("keys", "keys") < self._keys:
            await trio.sleep(0.05)
            if time.monotonic() - begun > CATCH_UP_SECONDS:
                raise AgentFailed(f"a newcomer had not all keys after {CATCH_UP_SECONDS:.0f} s")
        return {
            "bootstrap": time.monotonic() - begun,
            "bootstrap_cpu": cpu_seconds(newcomer.pid) - cpu,
            "rss_newcomer": resident_kib(newcomer.pid) / 1024,
        }

    async def _start(self, number: int, name: str, extra: list[str]) -> AgentProcess:
        address = self._addresses[number]
        home = self._directory / name
        seeds = [other for other in self._addresses if other != address]
        agent = await self._fleet.start(AgentPlan("tools.measure.agent", name, home, address, address, seeds, extra))
        await agent.hear("ready", CATCH_UP_SECONDS)
        return agent
