"""A quorum whose voters are processes of a fleet, with the clients in the leader's process."""

from __future__ import annotations

from abc import ABC, abstractmethod

from tools.fleet import Fleet
from tools.measure.notebook import now_us


class FleetQuorum(ABC):
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @abstractmethod
    async def leader(self) -> str:
        """Its name, as all agree. Raises AgentFailed when there is none for long."""

    async def one(self, seconds: float) -> list[float]:
        """Milliseconds of each write of one client."""
        delays: list[float] = await self._fleet.agents[await self.leader()].ask(f"one {seconds}", "one")
        return delays

    async def many(self, clients: int, seconds: float) -> float:
        """Commits per second."""
        return float(await self._fleet.agents[await self.leader()].ask(f"many {clients} {seconds}", "many"))

    async def stream(self) -> None:
        """Every member begins a write every so often, until it ends."""
        await self._fleet.tell_all("stream")

    async def commits(self) -> list[tuple[int, int]]:
        """(begun, committed) of each write of the stream."""
        everybody = await self._fleet.ask_all("commits", "commits")
        return [(begun, committed) for commits in everybody.values() for begun, committed in commits]

    async def kill_leader(self) -> int:
        """When it was killed."""
        return await self.kill(await self.leader())

    async def kill(self, name: str) -> int:
        """When it was killed."""
        process = self._fleet.agents.pop(name)
        killed_at = now_us()
        await process.kill()
        return killed_at
