"""How fast a write spreads, what dies unnoticed, what rest costs: swarms of processes, each kind by the same code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Final

import trio

from tools.bench.peers import missing_module, serf
from tools.bench.peers.fleets import open_kinship, open_zenoh
from tools.bench.plan import OURS, Benchmark, Contestant, Figure, Goal, Sample, Scale
from tools.figures import quantile
from tools.fleet import AgentFailed
from tools.measure import mesh_runs, swarm
from tools.measure.cluster import open_cluster
from tools.measure.swarm import FleetSwarm, Swarm, deaths, idle, spread

Open = Callable[[int], AbstractAsyncContextManager[Swarm]]

WARM_UP_SECONDS: Final = 2.0
WARM_UP_WRITES: Final = 10
BARE: Final = "bare push"
LOSS: Final = 0.1

OURS_CONFIGURATION: Final = "preset `lan`, every delta signed and every datagram sealed, UDP."
LOCAL_CONFIGURATION: Final = "preset `local`: as `lan`, but for machines of which none stalls for longer than 0.4 s."
ZENOH_CONFIGURATION: Final = "peers in a TCP full mesh, express publishers, no TLS, nothing signed, native code."
KINSHIP_CONFIGURATION: Final = "preset `local`: plaintext, metadata of members as the replicated state, native code."
SERF_CONFIGURATION: Final = "profile `local`: plaintext, user events without coalescing over its RPC, native code."


@asynccontextmanager
async def open_mesh(processes: int, loss: float = 0.0, *, watch: bool = False, preset: str = "lan") -> AsyncIterator[Swarm]:
    async with open_cluster(processes, loss=loss, watch=watch, preset=preset) as cluster:
        yield FleetSwarm(cluster.fleet)


@asynccontextmanager
async def open_bare(processes: int) -> AsyncIterator[Swarm]:
    async with mesh_runs.open_bare(processes) as pushers:
        yield pushers


def missing_kinship() -> str | None:
    return missing_module("kinship", "kinship")


def missing_zenoh() -> str | None:
    return missing_module("zenoh", "eclipse-zenoh")


# ---- a write is seen by all


async def _convergence(open_swarm: Open, processes: Callable[[Scale], int], scale: Scale, *, count: bool = False) -> Sample:
    async with open_swarm(processes(scale)) as members:
        await trio.sleep(WARM_UP_SECONDS)
        await spread(members, WARM_UP_WRITES, settle=1.0)
        seen = await spread(members, scale.writes, first=1 + WARM_UP_WRITES, settle=3.0)
    if not seen.delays_ms:
        raise AgentFailed("no write was seen by all")
    figures = {
        "p50": quantile(seen.delays_ms, 0.5),
        "p99": quantile(seen.delays_ms, 0.99),
        "unseen": float(seen.writes - len(seen.delays_ms)),
    }
    if count:
        figures["received"] = mesh_runs.received_per_delta(seen.reports)
    return Sample(figures, seen.delays_ms)


def _small(scale: Scale) -> int:
    return scale.small


def _large(scale: Scale) -> int:
    return scale.large


def _converges(name: str, open_swarm: Open, configuration: str, missing: Callable[[], str | None] = lambda: None) -> Contestant:
    measure = partial(_convergence, open_swarm, _small)
    return Contestant(name=name, measure=measure, configuration=configuration, missing=missing)


_UNSEEN: Final = Figure(key="unseen", title="writes that not all had seen 3 s after the last", unit="", compared=False)

CONVERGENCE: Final = Benchmark(
    name="convergence",
    title=lambda scale: f"A write is seen by all, {scale.small} processes",
    method="One write every 100 ms, by the members in turn; milliseconds from just before the write until the last of the other "
    "processes' callbacks has it, on the machine's monotonic clock.",
    figures=(
        Figure(
            key="p50",
            title="p50",
            unit="ms",
            goals=(
                Goal("p50 <= 1.5 x bare push", 1.5, BARE),
                Goal(">= 30 x faster than serf", 1 / 30, "serf"),
                Goal(">= 30 x faster than kinship", 1 / 30, "kinship"),
                Goal("<= 2 x zenoh", 2.0, "zenoh"),
            ),
        ),
        Figure(key="p99", title="p99", unit="ms", goals=(Goal("p99 <= 2 x bare push", 2.0, BARE),)),
        _UNSEEN,
    ),
    contestants=(
        _converges(OURS, open_mesh, f"{OURS_CONFIGURATION[:-1]}; told by a call (`node.listen`)."),
        _converges(f"{OURS} watch", partial(open_mesh, watch=True), "the same, told by a task that iterates over `node.watch`."),
        _converges(
            BARE,
            open_bare,
            "a trio program of 60 lines with the same sockets and crypto: signs 100 bytes, seals and sends them; no membership, "
            "no repair, no state.",
        ),
        _converges("zenoh", lambda count: open_zenoh(count), ZENOH_CONFIGURATION, missing_zenoh),
        _converges("kinship", lambda count: open_kinship(count, "local"), KINSHIP_CONFIGURATION, missing_kinship),
        _converges("serf", lambda count: serf.open_serf(count), SERF_CONFIGURATION, serf.missing),
    ),
    plot="A write is seen by all",
)

REDUNDANCY: Final = Benchmark(
    name="redundancy",
    title=lambda scale: f"How often each delta arrives, {scale.large} processes, no loss",
    method="The same writes; receipts of a delta, the first and the repeated ones, over first receipts.",
    figures=(
        Figure(key="received", title="receipts per delta", unit="", goals=(Goal("<= 1.2", 1.2),)),
        Figure(key="p50", title="p50", unit="ms"),
        Figure(key="p99", title="p99", unit="ms"),
    ),
    contestants=(
        Contestant(
            name=OURS,
            measure=partial(_convergence, open_mesh, _large, count=True),
            configuration=OURS_CONFIGURATION,
        ),
    ),
    runs_max=2,
)

LOSSY: Final = Benchmark(
    name="loss",
    title=lambda scale: f"A write is seen by all, {scale.large} processes, 10% loss",
    method="The same, with every datagram passing a relay that loses one of ten at random. The peers are not run here: serf, "
    "kinship and zenoh use TCP beside or instead of UDP, which the relay does not carry.",
    figures=(
        Figure(key="p50", title="p50", unit="ms", goals=(Goal("p50 <= 80 ms", 80.0),)),
        Figure(key="p99", title="p99", unit="ms", goals=(Goal("p99 <= 250 ms", 250.0),)),
        Figure(key="received", title="receipts per delta", unit="", goals=(Goal("<= 1.6", 1.6),)),
        _UNSEEN,
    ),
    contestants=(
        Contestant(
            name=OURS,
            measure=partial(_convergence, partial(open_mesh, loss=LOSS), _large, count=True),
            configuration=OURS_CONFIGURATION,
        ),
    ),
    plot="A write is seen by all, 10% loss",
)


# ---- a crash is known to all


async def _crash(open_swarm: Open, wait: float, silent: bool, scale: Scale) -> Sample:
    async with open_swarm(scale.large) as members:
        await trio.sleep(WARM_UP_SECONDS)
        told = await deaths(members, scale.crashes, wait=wait, silent=silent)
    if not told.known_ms:
        raise AgentFailed(f"no crash was known to all within {wait:.0f} s")
    return Sample(
        {
            "p50": quantile(told.known_ms, 0.5) / 1000,
            "worst": max(told.known_ms) / 1000,
            "missed": float(told.missed),
            "false": float(told.false_deaths),
        },
        told.known_ms,
    )


def _deaths(name: str, title: str, method: str, silent: bool) -> Benchmark:
    """For the silent `local`, as the peers; what closes its port needs no preset for that."""

    def dies(who: str, open_swarm: Open, wait: float, configuration: str, missing: Callable[[], str | None]) -> Contestant:
        measure = partial(_crash, open_swarm, wait, silent)
        return Contestant(name=who, measure=measure, configuration=configuration, missing=missing)

    lan = dies(f"{OURS} lan" if silent else OURS, open_mesh, 5.0, OURS_CONFIGURATION, lambda: None)
    local = dies(OURS, partial(open_mesh, preset="local"), 5.0, LOCAL_CONFIGURATION, lambda: None)
    return Benchmark(
        name=name,
        title=lambda scale: f"{title}, {scale.large} processes",
        method=method,
        figures=(
            Figure(
                key="p50",
                title="p50",
                unit="s",
                goals=(
                    Goal("p50 <= 0.8 s", 0.8),
                    Goal(">= 2 x faster than kinship", 0.5, "kinship"),
                    Goal(">= 2 x faster than serf", 0.5, "serf"),
                ),
            ),
            Figure(key="worst", title="worst", unit="s", goals=(Goal("p99 <= 1.5 s", 1.5),)),
            Figure(key="missed", title="survivors not told in time", unit="", compared=False),
            Figure(key="false", title="false deaths", unit="", goals=(Goal("none", 0.0),)),
        ),
        contestants=(
            *((local, lan) if silent else (lan,)),
            dies("kinship", lambda count: open_kinship(count, "local"), 8.0, "preset `local`, its fastest.", missing_kinship),
            dies("serf", lambda count: serf.open_serf(count), 20.0, "profile `local`, its fastest.", serf.missing),
        ),
        plot=title,
        runs_max=3,
    )


CRASH: Final = _deaths(
    "crash",
    "A crash is known to all",
    "kill -9 one process after the other; seconds until the last survivor's event says that it is dead.",
    silent=False,
)
SILENCE: Final = _deaths(
    "silence",
    "A silent death is known to all",
    "The same, but the process is stopped (SIGSTOP): its port stays open and nobody answers, as when a machine loses power or "
    "leaves the radio's range. No closed port gives it away.",
    silent=True,
)


async def _false_deaths(preset: str, scale: Scale) -> Sample:
    async with open_cluster(scale.large, loss=LOSS, preset=preset) as cluster:
        await trio.sleep(scale.quiet_seconds * 2)
        reports = await cluster.reports()
    suspected = sum(kind == "MemberSuspected" for report in reports for kind, _, _ in report["events"])
    return Sample({"false": float(swarm.false_deaths(cluster.names, reports)), "suspected": float(suspected)})


FALSE_DEATHS: Final = Benchmark(
    name="false-deaths",
    title=lambda scale: f"False deaths in {2 * scale.quiet_seconds:.0f} s, {scale.large} processes, 10% loss",
    method="Nobody dies; how many are called dead or suspected all the same, summed over all members.",
    figures=(
        Figure(key="false", title="false deaths", unit="", goals=(Goal("none", 0.0),)),
        Figure(key="suspected", title="suspicions, all of them refuted", unit=""),
    ),
    contestants=(
        Contestant(name=OURS, measure=partial(_false_deaths, "lan"), configuration=OURS_CONFIGURATION),
        Contestant(name=f"{OURS} local", measure=partial(_false_deaths, "local"), configuration=LOCAL_CONFIGURATION),
    ),
    runs_max=2,
)


# ---- rest


async def _idle(open_swarm: Open, scale: Scale) -> Sample:
    async with open_swarm(scale.large) as members:
        await trio.sleep(scale.settle_seconds)
        cost = await idle(members, scale.quiet_seconds)
    return Sample(asdict(cost))


def _rests(name: str, open_swarm: Open, configuration: str, missing: Callable[[], str | None] = lambda: None) -> Contestant:
    return Contestant(name=name, measure=partial(_idle, open_swarm), configuration=configuration, missing=missing)


IDLE: Final = Benchmark(
    name="idle",
    title=lambda scale: f"Rest, {scale.large} processes",
    method="Nobody writes. What a member costs per second, on average: bytes and packets on the loopback interface (with IP "
    "headers, TCP included), CPU time of its process in per cent of one core.",
    figures=(
        Figure(key="bytes", title="bytes per second", unit="", goals=(Goal("<= 1 kB/s", 1000.0),)),
        Figure(key="datagrams", title="packets per second", unit=""),
        Figure(key="cpu_percent", title="CPU", unit="% of a core", goals=(Goal("<= 0.5% of a core", 0.5),)),
        Figure(key="rss_mib_median", title="resident memory", unit="MiB"),
    ),
    contestants=(
        _rests(OURS, open_mesh, OURS_CONFIGURATION),
        _rests("kinship", lambda count: open_kinship(count, "local"), "preset `local`.", missing_kinship),
        _rests("kinship lan", lambda count: open_kinship(count, "lan"), "preset `lan`, plaintext.", missing_kinship),
        _rests("serf", lambda count: serf.open_serf(count), "profile `local`.", serf.missing),
        _rests("zenoh", lambda count: open_zenoh(count), ZENOH_CONFIGURATION, missing_zenoh),
    ),
    runs_max=2,
)


# ---- a cut heals


async def _heal(scale: Scale) -> Sample:
    figures = await mesh_runs.heal(scale.small, [2.0, 10.0])
    return Sample({"equal": max(figures["equal_after_s"])}, [1000 * seconds for seconds in figures["equal_after_s"]])


HEAL: Final = Benchmark(
    name="heal",
    title=lambda scale: f"A cut heals, {scale.small} processes",
    method="A relay cuts the mesh 30/70 for 2 s, then for 10 s, while both sides write; from the link's return until all "
    "replicas show one digest, the slower of the two.",
    figures=(Figure(key="equal", title="all equal after", unit="s", goals=(Goal("<= 2 s", 2.0),)),),
    contestants=(Contestant(name=OURS, measure=_heal, configuration=OURS_CONFIGURATION),),
    runs_max=3,
)
