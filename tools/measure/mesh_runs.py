"""Measurements of a whole mesh. Each prints what it measured beside its goal and returns the figures."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from tools.figures import Report, quantile
from tools.fleet import AgentFailed, AgentProcess, Fleet, open_fleet
from tools.measure import swarm
from tools.measure.cluster import Cluster, open_cluster
from tools.measure.notebook import now_us
from tools.measure.swarm import FleetSwarm, deaths, spread
from tools.relay import free_ports

Figures = dict[str, Any]

WARM_UP_SECONDS = 2.0
SETTLE_SECONDS = 15.0
"""Until the digests of a new mesh have become rare. Measured."""


async def convergence(agents: int, writes: int, loss: float, pause: float = 0.1) -> Figures:
    """One register write at a time, by agents in turn; until the last of the others showed it."""
    async with open_cluster(agents, loss=loss) as cluster:
        await trio.sleep(WARM_UP_SECONDS)
        seen = await spread(FleetSwarm(cluster.fleet), writes, pause=pause)
    return {
        "agents": agents,
        "loss": loss,
        "writes": writes,
        "seen_by_all": len(seen.delays_ms),
        "p50_ms": quantile(seen.delays_ms, 0.5),
        "p99_ms": quantile(seen.delays_ms, 0.99),
        "max_ms": max(seen.delays_ms),
        "received_per_delta": received_per_delta(seen.reports),
    }


class NotVoting(FleetSwarm):
    """Those who write are no voters; all of them look."""

    def __init__(self, fleet: Fleet, voters: int) -> None:
        super().__init__(fleet)
        self._voters = voters

    @property
    def names(self) -> list[str]:
        return super().names[self._voters :]


async def agreed_everywhere(agents: int, voters: int, writes: int, pause: float = 0.2) -> Figures:
    """One critical write at a time, by agents that do not vote; until the last of all could prove to a stranger what it shows."""
    async with open_cluster(agents, disk=True, voters=voters) as cluster:
        await _have_voters(cluster, voters)
        await trio.sleep(WARM_UP_SECONDS)
        seen = await spread(NotVoting(cluster.fleet, voters), writes, pause=pause)
    return {
        "agents": agents,
        "voters": voters,
        "writes": writes,
        "seen_by_all": len(seen.delays_ms),
        "p50_ms": quantile(seen.delays_ms, 0.5),
        "p99_ms": quantile(seen.delays_ms, 0.99),
        "max_ms": max(seen.delays_ms),
    }


async def _have_voters(cluster: Cluster, voters: int) -> None:
    start = time.monotonic()
    while time.monotonic() - start < SETTLE_SECONDS:
        if all(answer == voters for answer in (await cluster.fleet.ask_all("voters", "voters")).values()):
            return
        await trio.sleep(0.1)
    raise AgentFailed(f"no quorum of {voters} within {SETTLE_SECONDS:.0f} s")


def received_per_delta(reports: Sequence[Report]) -> float:
    """How often each delta arrived at an agent, on average."""
    duplicates: int = sum(report["statistics"]["sync"]["deltas_duplicate"] for report in reports)
    received: int = sum(report["statistics"]["sync"]["deltas_new"] for report in reports)
    return round((received + duplicates) / max(received, 1), 3)


async def bare_push(processes: int, writes: int, pause: float = 0.1) -> Figures:
    """The same with `tools.measure.bare`: what sockets, crypto and scheduling cost with no mesh at all."""
    async with open_bare(processes) as pushers:
        await trio.sleep(WARM_UP_SECONDS)
        seen = await spread(pushers, writes, pause=pause)
    return {
        "processes": processes,
        "seen_by_all": len(seen.delays_ms),
        "p50_ms": quantile(seen.delays_ms, 0.5),
        "p99_ms": quantile(seen.delays_ms, 0.99),
    }


@asynccontextmanager
async def open_bare(processes: int) -> AsyncIterator[FleetSwarm]:
    """Processes of `tools.measure.bare`, each of which knows all others."""
    ports = free_ports(processes)
    async with open_fleet() as fleet:
        for port in ports:
            arguments = [sys.executable, "-m", "tools.measure.bare", "--port", str(port)]
            for peer in ports:
                if peer != port:
                    arguments += ["--peer", str(peer)]
            await fleet.launch(str(port), arguments)
        await fleet.ready_all()
        yield FleetSwarm(fleet)


async def crash(agents: int, rounds: int, loss: float, preset: str) -> Figures:
    """kill -9 one agent after the other; until every survivor's event says that it is down."""
    async with open_cluster(agents, loss=loss, preset=preset) as cluster:
        await trio.sleep(WARM_UP_SECONDS)
        told = await deaths(FleetSwarm(cluster.fleet), rounds, wait=6.0)
    return {
        "agents": agents,
        "rounds": rounds,
        "preset": preset,
        "known_to_all_p50_ms": quantile(told.known_ms, 0.5) if told.known_ms else None,
        "known_to_all_max_ms": max(told.known_ms, default=None),
        "not_known_in_6_s": told.missed,
        "false_deaths": told.false_deaths,
    }


async def false_deaths(agents: int, seconds: float, loss: float, preset: str) -> Figures:
    """Nobody dies; how many are called dead all the same."""
    async with open_cluster(agents, loss=loss, preset=preset) as cluster:
        await trio.sleep(seconds)
        reports = await cluster.reports()
        count = swarm.false_deaths(cluster.names, reports)
    suspected = sum(kind == "MemberSuspected" for report in reports for kind, _, _ in report["events"])
    return {"agents": agents, "seconds": seconds, "loss": loss, "false_deaths": count, "suspicions_told": suspected}


async def heal(agents: int, cuts: list[float]) -> Figures:
    """A 30/70 cut while both sides write, then the time from the link's return until all replicas are equal."""
    healed: list[float] = []
    async with open_cluster(agents, relayed=True) as cluster:
        assert cluster.relay is not None
        await trio.sleep(WARM_UP_SECONDS)
        small = max(1, round(agents * 0.3))
        for seconds in cuts:
            cluster.relay.cut([int(number < small) for number in range(agents)])
            end = time.monotonic() + seconds
            number = 0
            while time.monotonic() < end:
                number += 1
                await cluster.fleet.agents[cluster.names[number % agents]].say(f"write {now_us()}")
                await trio.sleep(0.1)
            cluster.relay.heal()
            healed.append(await cluster.wait_equal(30.0))
    return {"agents": agents, "cuts_s": cuts, "equal_after_s": [round(value, 2) for value in healed]}


async def idle(agents: int, seconds: float) -> Figures:
    """What an agent costs that has nothing to say."""
    async with open_cluster(agents) as cluster:
        await trio.sleep(SETTLE_SECONDS)
        before = await cluster.reports()
        cost = await swarm.idle(FleetSwarm(cluster.fleet), seconds)
        after = await cluster.reports()

    def per_agent(counter: str) -> float:
        traffic: list[int] = [report["statistics"]["traffic"][counter] for report in (*after, *before)]
        return (sum(traffic[:agents]) - sum(traffic[agents:])) / agents / seconds

    sent, datagrams = per_agent("bytes_sent"), per_agent("datagrams_sent")
    return {
        "agents": agents,
        "bytes_sent_per_second": round(sent),
        "with_ip_and_udp_headers": round(sent + 28 * datagrams),
        "datagrams_per_second": round(datagrams, 1),
        "cpu_percent": round(cost.cpu_percent, 2),
        "rss_mib_median": round(cost.rss_mib_median, 1),
        "rss_mib_max": round(cost.rss_mib_max, 1),
    }


async def bootstrap(keys: int, authors: int) -> Figures:
    """`authors` agents hold `keys` registers together; a newcomer starts, and is timed from ready to equal."""
    async with open_cluster(authors + 1) as cluster:
        newcomer = cluster.names[-1]
        plan = cluster.plans[-1]
        await cluster.fleet.agents.pop(newcomer).end()
        for name in cluster.names:
            await cluster.fleet.agents[name].ask(f"fill {keys // authors} {name}", "filled")
        await cluster.wait_equal(60.0)
        agent = await cluster.fleet.start(plan)
        await agent.hear("ready")
        seconds = await _wait_keys(cluster, agent)
        equal = await cluster.wait_equal(30.0)
    return {
        "keys": keys,
        "authors": authors,
        "all_keys_after_s": round(seconds, 2),
        "equal_after_s": round(seconds + equal, 2),
    }


async def _wait_keys(cluster: Cluster, newcomer: AgentProcess) -> float:
    """Seconds until the newcomer holds as many keys as the first agent."""
    goal = (await cluster.fleet.agents[cluster.names[0]].ask("digest", "digest"))["keys"]
    start = time.monotonic()
    while (await newcomer.ask("digest", "digest"))["keys"] < goal:
        await trio.sleep(0.02)
        if time.monotonic() - start > 60:
            break
    return time.monotonic() - start
