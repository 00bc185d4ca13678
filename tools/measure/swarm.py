"""What is done alike to every swarm of processes, this project's and its peers': write, kill, idle. One clock for all.

A swarm is anything with names, process ids and notebooks of one shape (see `tools.figures`), so a peer is measured by the same
code as the mesh.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from tools.figures import Report, Span, seen_by_all_ms, told_after_ms
from tools.fleet import Fleet
from tools.measure.notebook import now_us

_FRAME_HEADER_BYTES: Final = 14
"""The loopback interface counts an Ethernet header with every packet; no network would carry it as part of the datagram."""
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Swarm(Protocol):
    """Running processes that all know each other."""

    @property
    def names(self) -> list[str]: ...

    @property
    def pids(self) -> list[int]: ...

    async def write(self, name: str, number: int) -> None:
        """Let this member write a number that its others will show; it notes the time itself, just before."""

    async def reports(self) -> list[Report]:
        """The notebooks of all running members."""

    async def kill(self, name: str) -> None:
        """kill -9."""

    def silenced(self, name: str) -> AbstractAsyncContextManager[None]:
        """Inside, this member is stopped: its port stays open, and nobody answers, as when its machine lost power. It is no
        member of the swarm any more, and killed in the end.
        """


class FleetSwarm:
    """Processes that speak the line protocol of `tools.fleet`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @property
    def names(self) -> list[str]:
        return list(self._fleet.agents)

    @property
    def pids(self) -> list[int]:
        return [agent.pid for agent in self._fleet.agents.values()]

    async def write(self, name: str, number: int) -> None:
        await self._fleet.agents[name].say(f"write {number}")

    async def reports(self) -> list[Report]:
        return list((await self._fleet.ask_all("report", "report")).values())

    async def kill(self, name: str) -> None:
        await self._fleet.agents.pop(name).kill()

    @asynccontextmanager
    async def silenced(self, name: str) -> AsyncIterator[None]:
        agent = self._fleet.agents.pop(name)
        async with stopped(agent.pid, agent.kill):
            yield


@asynccontextmanager
async def stopped(pid: int, kill: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """A process that was stopped inside and is gone afterwards, whatever happened."""
    try:
        os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        with trio.CancelScope(shield=True):
            await kill()


@dataclass(frozen=True)
class Spread:
    """`delays_ms`: per write that all have shown, until the last of the others showed it."""

    delays_ms: list[float]
    writes: int
    reports: list[Report]


async def spread(swarm: Swarm, writes: int, *, first: int = 1, pause: float = 0.1, settle: float = 2.0) -> Spread:
    """One write at a time, by the members in turn. `first`: above every number that was written before, since whoever shows a
    newer number has seen the older ones. `pause`, `settle`: seconds between two writes, and after the last one.
    """
    start = now_us()
    names = swarm.names
    for number in range(writes):
        await swarm.write(names[number * 7 % len(names)], first + number)
        await trio.sleep(pause)
    await trio.sleep(settle)
    reports = await swarm.reports()
    return Spread(seen_by_all_ms(reports, Span(start, now_us())), writes, reports)


@dataclass(frozen=True)
class Deaths:
    """`known_ms`: per killed member, until the last survivor was told; `missed`: survivors that were not told in time;
    `false_deaths`: events about members that were running.
    """

    known_ms: list[float]
    missed: int
    false_deaths: int


async def deaths(swarm: Swarm, rounds: int, *, wait: float, silent: bool = False, seed: int = 1) -> Deaths:
    """One member after the other dies, each time with `wait` seconds for the news to spread: by kill -9, whose closed port a
    peer may notice, or `silent`, as when the power of a machine fails.
    """
    rng = random.Random(seed)
    known_ms: list[float] = []
    missed = 0
    for _ in range(rounds):
        victim = rng.choice(swarm.names)
        died_at = now_us()
        async with swarm.silenced(victim) if silent else _killed(swarm, victim):
            await trio.sleep(wait)
        delays = told_after_ms(await swarm.reports(), "MemberDown", victim, died_at)
        known = [delay for delay in delays if delay is not None]
        missed += len(delays) - len(known)
        if known and len(known) == len(delays):
            known_ms.append(max(known))
    return Deaths(known_ms, missed, false_deaths(swarm.names, await swarm.reports()))


@asynccontextmanager
async def _killed(swarm: Swarm, name: str) -> AsyncIterator[None]:
    await swarm.kill(name)
    yield


def false_deaths(running: Sequence[str], reports: Sequence[Report]) -> int:
    """MemberDown events about members that are running."""
    return sum(kind == "MemberDown" and name in running for report in reports for kind, name, _ in report["events"])


@dataclass(frozen=True)
class Idle:
    """Means per member and second; bytes with IP headers. Traffic is what the whole loopback interface of this network
    namespace carried: on a machine that does something else beside, only CPU and memory are right.
    """

    bytes: float
    datagrams: float
    cpu_percent: float
    rss_mib_median: float
    rss_mib_max: float


async def idle(swarm: Swarm, seconds: float) -> Idle:
    pids = swarm.pids
    carried, cpu, start = _loopback(), [cpu_seconds(pid) for pid in pids], time.monotonic()
    await trio.sleep(seconds)
    elapsed = time.monotonic() - start
    carried_bytes, packets = (after - before for after, before in zip(_loopback(), carried, strict=True))
    spent = sum(cpu_seconds(pid) - before for pid, before in zip(pids, cpu, strict=True))
    resident = sorted(resident_kib(pid) / 1024 for pid in pids)
    members = len(pids) * elapsed
    return Idle(
        bytes=(carried_bytes - _FRAME_HEADER_BYTES * packets) / members,
        datagrams=packets / members,
        cpu_percent=100 * spent / members,
        rss_mib_median=resident[len(resident) // 2],
        rss_mib_max=resident[-1],
    )


def _loopback() -> tuple[int, int]:
    """(bytes, packets) that the loopback interface has carried so far."""
    for line in Path("/proc/self/net/dev").read_text(encoding="ascii").splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            received = counters.split()
            return int(received[0]), int(received[1])
    raise OSError("this machine has no loopback interface")


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def resident_kib(pid: int | str = "self") -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
