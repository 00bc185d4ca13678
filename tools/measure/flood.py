"""A flood of one agent on real UDP loopback: how fast it drains, and whether it goes on living meanwhile."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any, Final

import trio

from tools.figures import Report, Span, quantile, seen_by_all_ms
from tools.fleet import AgentFailed, AgentProcess
from tools.measure import swarm
from tools.measure.cluster import Cluster, open_cluster
from tools.measure.notebook import now_us

Figures = dict[str, Any]
HONEST: Final = 4
DRAIN_SECONDS: Final = 4.0
REST_SECONDS: Final = 3.0
WRITE_EVERY_SECONDS: Final = 0.25
ABOVE: Final = 2.0
"""Of the drain rate: what is beyond it."""
ABOVE_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 30.0


@dataclass
class Stage:
    cluster: Cluster
    victim: AgentProcess
    flooder: AgentProcess

    async def victim_report(self) -> Report:
        report: Report = await self.victim.ask("report", "report")
        return report


async def flood(kind: str, seconds: float, share: float) -> Figures:
    """`kind`: of tools.measure.flooder. First at full speed, for the drain rate; then at `share` of it; then above."""
    async with open_cluster(HONEST + 1) as cluster:
        names = cluster.names
        victim = cluster.fleet.agents[names[0]]
        plan = cluster.plans[-1]
        await cluster.fleet.agents.pop(names[-1]).end()
        command = [sys.executable, "-m", "tools.measure.flooder", *plan.command()[3:], "--target", cluster.plans[0].bind]
        at = command.index("--preset")
        del command[at : at + 2]
        flooder = await cluster.fleet.launch("flooder", command, plan.directory / "log")
        await flooder.hear("ready")
        del cluster.fleet.agents["flooder"]  # it writes no reports
        stage = Stage(cluster, victim, flooder)
        try:
            await trio.sleep(REST_SECONDS)
            before = swarm.resident_kib(victim.pid)
            drain = await _drain(stage, kind)
            await trio.sleep(REST_SECONDS)
            below = await _endure(stage, kind, share * drain["datagrams_per_s"], seconds)
            grown = (swarm.resident_kib(victim.pid) - before) / 1024
            await trio.sleep(REST_SECONDS)
            above = await _endure(stage, kind, ABOVE * drain["datagrams_per_s"], ABOVE_SECONDS)
            grown_above = (swarm.resident_kib(victim.pid) - before) / 1024
        finally:
            await flooder.end()
        recovered = await _equal_again(cluster)
    return {
        "kind": kind,
        **{f"drain, {name}": value for name, value in drain.items()},
        **{f"at {share:.0%}, {name}": value for name, value in below.items()},
        f"at {share:.0%}, rss_grown_mb": round(grown, 2),
        **{f"at {ABOVE:.0%}, {name}": value for name, value in above.items()},
        f"at {ABOVE:.0%}, rss_grown_mb": round(grown_above, 2),
        "equal_again_after_s": recovered,
    }


async def _equal_again(cluster: Cluster) -> float | None:
    """None: not within PATIENCE_SECONDS."""
    try:
        return round(await cluster.wait_equal(PATIENCE_SECONDS), 2)
    except AgentFailed:
        return None


async def _flood(stage: Stage, kind: str, rate: float, seconds: float) -> Figures:
    await stage.flooder.say(f"flood {kind} {rate:.0f} {seconds}")
    await trio.sleep(seconds)
    answer: Figures = await stage.flooder.hear("flooded")
    return answer


async def _drain(stage: Stage, kind: str) -> Figures:
    """Datagrams a second that the victim takes off its socket when there are always more."""
    before, cpu, start = await stage.victim_report(), swarm.cpu_seconds(stage.victim.pid), time.monotonic()
    sent = await _flood(stage, kind, 0, DRAIN_SECONDS)
    after, spent, elapsed = await stage.victim_report(), swarm.cpu_seconds(stage.victim.pid) - cpu, time.monotonic() - start
    taken = after["statistics"]["traffic"]["datagrams_received"] - before["statistics"]["traffic"]["datagrams_received"]
    return {
        "datagrams_per_s": round(taken / elapsed),
        "offered_per_s": round(sent["sent"] / sent["seconds"]),
        "victims_share_of_a_core": round(spent / elapsed, 2),
        "kernel_dropped": after["statistics"]["kernel_drops"] - before["statistics"]["kernel_drops"],
        "cpu_us_per_datagram": round(spent / max(1, taken) * 1e6, 1),
        "bytes_back_per_byte": round(sent["bytes_back"] / max(1, sent["bytes_out"]), 3),
    }


async def _endure(stage: Stage, kind: str, rate: float, seconds: float) -> Figures:
    """Write on, at the victim and elsewhere, while it is flooded."""
    start, cpu, began = now_us(), swarm.cpu_seconds(stage.victim.pid), time.monotonic()
    names = stage.cluster.names
    sent: Figures = {}

    async def run() -> None:
        sent.update(await _flood(stage, kind, rate, seconds))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        number, end = start, time.monotonic() + seconds - 1.0
        while time.monotonic() < end:
            number += 1
            await stage.victim.say(f"write {number}")
            await stage.cluster.fleet.agents[names[1]].say(f"write {number}")
            await trio.sleep(WRITE_EVERY_SECONDS)
    elapsed, spent = time.monotonic() - began, swarm.cpu_seconds(stage.victim.pid) - cpu
    await trio.sleep(2.0)
    reports = await stage.cluster.reports()
    span = Span(start, now_us())
    mine = [report for report in reports if report["name"] == names[0]]
    written = sum(at in span for _, at in mine[0]["written"])
    own = seen_by_all_ms([*mine, *({**each, "written": []} for each in reports if each["name"] != names[0])], span)
    others = seen_by_all_ms([{**each, "written": []} if each["name"] == names[0] else each for each in reports], span)
    events = [event for each in reports for event in each["events"] if event[2] in span]
    return {
        "offered_per_s": round(sent["sent"] / sent["seconds"]),
        "victims_share_of_a_core": round(spent / elapsed, 2),
        "own_writes": written,
        "own_writes_seen_by_all": len(own),
        "own_write_p50_ms": quantile(own, 0.5) if own else None,
        "own_write_max_ms": round(max(own), 1) if own else None,
        "others_write_max_ms": round(max(others), 1) if others else None,
        "false_deaths": sum(what == "MemberDown" and about in names for what, about, _ in events),
        "suspicions_told": sum(what == "MemberSuspected" and about in names for what, about, _ in events),
        "bytes_back_per_byte": round(sent["bytes_back"] / max(1, sent["bytes_out"]), 3),
    }
