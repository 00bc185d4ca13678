"""The course of the demo: start, loss all along, a cut and its healing, a kill -9 and a return, quiet, and the
verdict.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

import mesh
from mesh.nursery import open_plain_nursery
from mesh.trust.files import save_membership
from tools.figures import Report, Span
from tools.fleet import AgentPlan, Fleet, open_fleet
from tools.relay import HOST, Relay, free_ports

SCORES = (9, 7, 5, 4, 3)
"""Of the five voters. The first leads, is killed and comes back as the best of them."""

Progress = Callable[[str, float], None]
"""Told what is going on and how long it lasts at most, in seconds."""


@dataclass(frozen=True, slots=True)
class Course:
    """Options of a run. Times are seconds."""

    agents: int = 16
    loss: float = 0.2
    calm: float = 8.0
    cut: float = 7.0
    absence: float = 6.0
    after_return: float = 4.0
    settle_limit: float = 12.0
    start_limit: float = 25.0
    seed: int = 1


@dataclass
class Outcome:
    """What happened, for the table."""

    course: Course
    digests: dict[str, str] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    spans: dict[str, Span] = field(default_factory=dict)
    victim: str = ""
    killed_at: int = 0
    healed_ms: float | None = None
    settled_ms: float | None = None
    relayed_bytes: list[int] = field(default_factory=list)
    relayed_datagrams: list[int] = field(default_factory=list)
    lost: int = 0
    cut_off: int = 0
    seconds: float = 0.0

    owners: list[dict[str, str]] = field(default_factory=list)
    """Of the task board, as each replica shows them at the end."""
    claims: dict[str, list[int]] = field(default_factory=dict)
    """Every task that a robot was told is its own, also by the process that was killed as far as it had said so."""

    @property
    def equal(self) -> bool:
        return len(self.digests) == self.course.agents and len(set(self.digests.values())) == 1

    @property
    def claimed_twice(self) -> list[int]:
        """Tasks that two robots hold to be their own, or that the board gives to another one."""
        whose: dict[int, set[str]] = {}
        for name, tasks in self.claims.items():
            for task in tasks:
                whose.setdefault(task, set()).add(name)
        for owners in self.owners:
            for number, name in owners.items():
                if int(number) in whose:
                    whose[int(number)].add(name)
        return sorted(task for task, names in whose.items() if len(names) > 1)

    @property
    def board_is_one(self) -> bool:
        return len(self.owners) == self.course.agents and all(owners == self.owners[0] for owners in self.owners)


def now_us() -> int:
    return time.monotonic_ns() // 1000


async def run_course(course: Course, directory: Path, progress: Progress) -> Outcome:
    """Raises AgentFailed when a process does not do its part."""
    rng = random.Random(course.seed)
    outcome = Outcome(course)
    started = time.monotonic()
    relay = Relay(course.loss, rng, free_ports(course.agents))
    try:
        plans = _enrol(course, directory, relay)
        async with open_plain_nursery() as nursery, open_fleet() as fleet:
            nursery.start_soon(relay.run)
            await _direct(course, relay, fleet, plans, outcome, progress)
            nursery.cancel_scope.cancel()
    finally:
        relay.close()
    outcome.relayed_bytes = relay.traffic.bytes
    outcome.relayed_datagrams = relay.traffic.datagrams
    outcome.lost, outcome.cut_off = relay.traffic.lost, relay.traffic.cut
    outcome.seconds = time.monotonic() - started
    return outcome


def _enrol(course: Course, directory: Path, relay: Relay) -> list[AgentPlan]:
    """One authority, one key and one directory per agent."""
    authority = mesh.Authority.generate(critical=["tasks/**"])
    plans = []
    for number in range(course.agents):
        name = f"robot-{number + 1:02}"
        home = directory / name
        membership = authority.enrol(
            mesh.Identity.generate(),
            name=name,
            may_write=["robots/" + name + "/**", "floor/**", "mission/**", "tasks/**"],
            voter=number < len(SCORES),
            score=SCORES[number] if number < len(SCORES) else 0,
        )
        save_membership(home, membership)
        seeds = [relay.face_address(peer) for peer in (0, 1, 2) if peer != number]
        bind, face = f"{HOST}:{relay.own[number]}", relay.face_address(number)
        plans.append(AgentPlan("tools.demo.agent", name, home, bind, face, seeds, ["--random", str(course.seed + number)]))
    return plans


async def _direct(
    course: Course, relay: Relay, fleet: Fleet, plans: list[AgentPlan], outcome: Outcome, progress: Progress
) -> None:
    with _span(outcome, "start"):
        progress(f"starting {course.agents} agents, {course.loss:.0%} of datagrams lost", course.start_limit)
        for plan in plans:
            await fleet.start(plan)
        await fleet.ready_all()
        await _wait_equal(fleet, course.start_limit)
    await fleet.tell_all("drive")
    with _span(outcome, "calm"):
        progress("driving: every robot shares its pose, obstacles, visits and missions", course.calm)
        await trio.sleep(course.calm)
    with _span(outcome, "cut"):
        progress("cut in two: both halves keep writing", course.cut)
        relay.cut([number % 2 for number in range(course.agents)])
        await trio.sleep(course.cut)
    with _span(outcome, "heal"):
        progress("the cut heals", course.settle_limit)
        await fleet.tell_all("stop")
        relay.heal()
        outcome.healed_ms = await _wait_equal(fleet, course.settle_limit)
        await fleet.tell_all("drive")
    await _kill_and_return(course, fleet, plans, outcome, progress)
    with _span(outcome, "settle"):
        progress("quiet: replicas must become equal", course.settle_limit)
        await fleet.tell_all("stop")
        outcome.settled_ms = await _wait_equal(fleet, course.settle_limit)
        outcome.digests = {name: answer["digest"] for name, answer in (await _digests(fleet)).items()}
        outcome.owners = await _one_board(fleet, course.settle_limit)
    progress("collecting the notebooks", 5.0)
    outcome.reports = list((await fleet.ask_all("report", "report")).values())
    for report in outcome.reports:
        outcome.claims.setdefault(report["name"], []).extend(report["claimed"])
    progress("agents leave", 5.0)


async def _kill_and_return(course: Course, fleet: Fleet, plans: list[AgentPlan], outcome: Outcome, progress: Progress) -> None:
    leaders = [answer["leader"] for answer in (await _digests(fleet)).values() if answer["leader"]]
    leader = max(set(leaders), key=leaders.count, default=plans[0].name)
    victim = next(plan for plan in plans if plan.name == leader)
    outcome.victim = victim.name
    with _span(outcome, "absence"):
        progress(f"kill -9 {victim.name}, which leads the quorum", course.absence)
        last_words = await fleet.agents[victim.name].ask("report", "report")
        outcome.claims[victim.name] = list(last_words["claimed"])
        outcome.killed_at = now_us()
        await fleet.agents.pop(victim.name).kill()
        await trio.sleep(course.absence)
    with _span(outcome, "return"):
        progress(f"{victim.name} comes back with its disk", course.after_return)
        agent = await fleet.start(victim)
        await agent.hear("ready")
        await agent.say("drive")
        await trio.sleep(course.after_return)


async def _digests(fleet: Fleet) -> dict[str, Any]:
    return await fleet.ask_all("digest", "digest")


async def _one_board(fleet: Fleet, limit: float) -> list[dict[str, str]]:
    """The task board of every replica, once they show the same one, or as it is when the limit has passed."""
    start = time.monotonic()
    while True:
        boards = [answer["owners"] for answer in (await _digests(fleet)).values()]
        if all(board == boards[0] for board in boards) or time.monotonic() - start > limit:
            return boards
        await trio.sleep(0.1)


async def _wait_equal(fleet: Fleet, limit: float) -> float | None:
    """Milliseconds until all replicas gave one digest; None when the limit passed first."""
    start = time.monotonic()
    while time.monotonic() - start < limit:
        answers = await _digests(fleet)
        if len({answer["digest"] for answer in answers.values()}) == 1:
            return (time.monotonic() - start) * 1000
        await trio.sleep(0.1)
    return None


@contextmanager
def _span(outcome: Outcome, name: str) -> Iterator[None]:
    start = now_us()
    try:
        yield
    finally:
        outcome.spans[name] = Span(start, now_us())
