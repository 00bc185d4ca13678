"""Measurements of a whole mesh. Each prints what it measured beside its goal and returns the figures."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import Any

import trio

from tools.figures import Span, quantile, seen_by_all_ms, told_after_ms
from tools.fleet import AgentProcess, Fleet, open_fleet
from tools.measure.cluster import Cluster, open_cluster
from tools.relay import free_ports

Figures = dict[str, Any]

WARM_UP_SECONDS = 2.0
SETTLE_SECONDS = 2.0


def now_us() -> int:
    return time.monotonic_ns() // 1000


async def convergence(agents: int, writes: int, loss: float, pause: float = 0.1) -> Figures:
    """One register write at a time, by agents in turn; until the last of the others showed it."""
    async with open_cluster(agents, loss=loss) as cluster:
        await trio.sleep(WARM_UP_SECONDS)
        start = now_us()
        names = cluster.names
        for number in range(writes):
            await cluster.fleet.agents[names[number * 7 % len(names)]].say(f"write {number + 1}")
            await trio.sleep(pause)
        await trio.sleep(SETTLE_SECONDS)
        reports = await cluster.reports()
        delays = seen_by_all_ms(reports, Span(start, now_us()))
        duplicates = sum(report["statistics"]["sync"]["deltas_duplicate"] for report in reports)
        received = sum(report["statistics"]["sync"]["deltas_new"] for report in reports)
    return {
        "agents": agents,
        "loss": loss,
        "writes": writes,
        "seen_by_all": len(delays),
        "p50_ms": quantile(delays, 0.5),
        "p99_ms": quantile(delays, 0.99),
        "max_ms": max(delays),
        "received_per_delta": round((received + duplicates) / max(received, 1), 3),
    }


async def bare_push(processes: int, writes: int, pause: float = 0.1) -> Figures:
    """The same with `tools.measure.bare`: what sockets, crypto and scheduling cost with no mesh at all."""
    ports = free_ports(processes)
    async with open_fleet() as fleet:
        for port in ports:
            await _start_bare(fleet, port, ports)
        await fleet.ready_all()
        await trio.sleep(WARM_UP_SECONDS)
        start = now_us()
        names = list(fleet.agents)
        for number in range(writes):
            await fleet.agents[names[number * 7 % len(names)]].say(f"write {number + 1}")
            await trio.sleep(pause)
        await trio.sleep(SETTLE_SECONDS)
        reports = list((await fleet.ask_all("report", "report")).values())
    arrivals: dict[int, list[int]] = {}
    for report in reports:
        for number, at in report["seen"]:
            arrivals.setdefault(number, []).append(at)
    written = {number: at for report in reports for number, at in report["written"] if at >= start}
    complete = [number for number in written if len(arrivals.get(number, [])) == processes - 1]
    delays = [(max(arrivals[number]) - written[number]) / 1000 for number in complete]
    return {"processes": processes, "seen_by_all": len(delays), "p50_ms": quantile(delays, 0.5), "p99_ms": quantile(delays, 0.99)}


async def _start_bare(fleet: Fleet, port: int, ports: list[int]) -> None:
    arguments = [sys.executable, "-m", "tools.measure.bare", "--port", str(port)]
    for peer in ports:
        if peer != port:
            arguments += ["--peer", str(peer)]
    await fleet.launch(str(port), arguments)


async def crash(agents: int, rounds: int, loss: float, preset: str) -> Figures:
    """kill -9 one agent after the other; until every survivor's event says that it is down."""
    known_ms: list[float] = []
    missed = 0
    async with open_cluster(agents, loss=loss, preset=preset) as cluster:
        await trio.sleep(WARM_UP_SECONDS)
        rng = random.Random(1)
        for _ in range(rounds):
            victim = rng.choice(cluster.names)
            killed_at = now_us()
            await cluster.fleet.agents.pop(victim).kill()
            await trio.sleep(6.0)
            delays = told_after_ms(await cluster.reports(), "MemberDown", victim, killed_at)
            known = [delay for delay in delays if delay is not None]
            missed += len(delays) - len(known)
            if len(known) == len(delays):
                known_ms.append(max(known))
        false_deaths = await _false_deaths(cluster, agents)
    return {
        "agents": agents,
        "rounds": rounds,
        "preset": preset,
        "known_to_all_p50_ms": quantile(known_ms, 0.5) if known_ms else None,
        "known_to_all_max_ms": max(known_ms, default=None),
        "not_known_in_6_s": missed,
        "false_deaths": false_deaths,
    }


async def _false_deaths(cluster: Cluster, agents: int) -> int:
    """MemberDown events about agents that are running."""
    running = set(cluster.names)
    reports = await cluster.reports()
    return sum(kind == "MemberDown" and name in running for report in reports for kind, name, _ in report["events"])


async def false_deaths(agents: int, seconds: float, loss: float, preset: str) -> Figures:
    """Nobody dies; how many are called dead all the same."""
    async with open_cluster(agents, loss=loss, preset=preset) as cluster:
        await trio.sleep(seconds)
        reports = await cluster.reports()
        count = await _false_deaths(cluster, agents)
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
        await trio.sleep(15.0)
        before = await cluster.reports()
        await trio.sleep(seconds)
        after = await cluster.reports()

    def per_agent(read: Callable[[Figures], float]) -> float:
        return sum(read(b) - read(a) for a, b in zip(before, after, strict=True)) / agents / seconds

    sent = per_agent(lambda report: report["statistics"]["traffic"]["bytes_sent"])
    datagrams = per_agent(lambda report: report["statistics"]["traffic"]["datagrams_sent"])
    return {
        "agents": agents,
        "bytes_sent_per_second": round(sent),
        "with_ip_and_udp_headers": round(sent + 28 * datagrams),
        "datagrams_per_second": round(datagrams, 1),
        "cpu_percent": round(100 * per_agent(lambda report: report["cpu_seconds"]), 2),
        "rss_mib_median": round(quantile([report["rss_kib"] / 1024 for report in after], 0.5), 1),
        "rss_mib_max": round(max(report["rss_kib"] for report in after) / 1024, 1),
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
