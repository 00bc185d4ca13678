"""Critical writes: agreed on by a majority, on disk. The quorum is three processes on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, Protocol

import trio

from tools.bench import quorum
from tools.bench.peers import etcd, missing_module
from tools.bench.peers.pysyncobj import open_pysyncobj
from tools.bench.plan import OURS, Benchmark, Contestant, Figure, Goal, Sample, Scale
from tools.figures import quantile
from tools.fleet import AgentFailed

CLIENTS: Final = 64
STREAM_SECONDS: Final = 1.0
"""Before a leader is killed."""
FSYNC: Final = "fsync: acknowledged when a majority has it on disk"


class Quorum(Protocol):
    """Three running members, and clients. Times are microseconds of the machine's monotonic clock."""

    async def one(self, seconds: float) -> list[float]:
        """Milliseconds of each write of one client, one after the other."""

    async def many(self, clients: int, seconds: float) -> float:
        """Commits per second of so many clients."""

    async def stream(self) -> None:
        """Begin a write every 10 ms from now on, whatever becomes of them."""

    async def commits(self) -> list[tuple[int, int]]:
        """(begun, committed) of the stream so far."""

    async def kill_leader(self) -> int:
        """When it was killed."""


Open = Callable[[], AbstractAsyncContextManager[Quorum]]


async def _critical(open_quorum: Open, scale: Scale) -> Sample:
    async with open_quorum() as members:
        delays = await members.one(scale.critical_seconds)
        throughput = await members.many(CLIENTS, scale.critical_seconds)
    return Sample({"p50": quantile(delays, 0.5), "p99": quantile(delays, 0.99), "throughput": throughput}, delays)


async def _failover(open_quorum: Open, wait: float, scale: Scale) -> Sample:
    """Each time with a new quorum: the second failure of three members would leave no majority."""
    gaps = []
    for _ in range(scale.failovers):
        async with open_quorum() as members:
            await members.stream()
            await trio.sleep(STREAM_SECONDS)
            killed_at = await members.kill_leader()
            await trio.sleep(wait)
            after = [committed for begun, committed in await members.commits() if begun >= killed_at]
        if not after:
            raise AgentFailed(f"nothing was committed within {wait:.0f} s of the leader's death")
        gaps.append((min(after) - killed_at) / 1000)
    return Sample({"p50": quantile(gaps, 0.5), "worst": max(gaps)}, gaps)


def _contestants(measured: Callable[[Open, float], Callable[[Scale], Awaitable[Sample]]]) -> tuple[Contestant, ...]:
    """`measured`: what to do with a kind of quorum; its second argument: seconds after which it must have a new leader."""
    return (
        Contestant(
            name=OURS,
            measure=measured(quorum.open_ours, 4.0),
            configuration="preset `lan`, clients in the leader's process; every entry signed, every commit certified.",
            durability=FSYNC,
        ),
        Contestant(
            name="etcd",
            measure=measured(lambda: etcd.open_etcd("default"), 6.0),
            configuration="as shipped, plaintext; clients in a process of their own, gRPC to the leader.",
            durability=FSYNC,
            missing=etcd.missing,
        ),
        Contestant(
            name="etcd tuned",
            measure=measured(lambda: etcd.open_etcd("tuned"), 4.0),
            configuration="heartbeat 10 ms, election time-out 100 ms.",
            durability=FSYNC,
            missing=etcd.missing,
        ),
        Contestant(
            name="PySyncObj",
            measure=measured(lambda: open_pysyncobj(), 4.0),
            configuration="three processes, no batching, ticks of 10 ms, election time-out 0.1 to 0.3 s; the clients live in the "
            "leader's process; unsigned, pure Python.",
            durability="page cache: a journal that is not synced",
            missing=lambda: missing_module("pysyncobj", "pysyncobj"),
        ),
    )


CRITICAL: Final = Benchmark(
    name="critical",
    title=lambda _: "A critical write, three voters",
    method="One client that writes again as soon as the last write was committed; then 64 such clients at once.",
    figures=(
        Figure(key="p50", title="one client, p50", unit="ms", goals=(Goal("<= etcd's", 1.0, "etcd"),)),
        Figure(key="p99", title="one client, p99", unit="ms"),
        Figure(
            key="throughput",
            title="64 clients",
            unit="commits per second",
            goals=(Goal(">= 1.5 x etcd's", 1.5, "etcd", at_least=True),),
            higher_is_better=True,
        ),
    ),
    contestants=_contestants(lambda open_quorum, _: partial(_critical, open_quorum)),
    runs_max=3,
)

FAILOVER: Final = Benchmark(
    name="failover",
    title=lambda _: "A leader is killed",
    method="A write begins every 10 ms at the surviving members; milliseconds from kill -9 of the leader until the first "
    "commit of a write that was begun after it. A new quorum for every kill.",
    figures=(
        Figure(key="p50", title="p50", unit="ms", goals=(Goal("p50 <= 250 ms", 250.0),)),
        Figure(key="worst", title="worst", unit="ms", goals=(Goal("p99 <= 500 ms", 500.0),)),
    ),
    contestants=_contestants(lambda open_quorum, wait: partial(_failover, open_quorum, wait)),
    runs_max=3,
    plot="From the death of a leader to the next commit",
)
