"""One agent of the demo, a process of its own: a robot, real telemetry, and a notebook of what it saw and when.

It is told what to do by lines on standard input (`drive`, `stop`, `digest`, `report`, `leave`) and answers with lines
of JSON on standard output. All times are CLOCK_MONOTONIC, which the processes of one machine share.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from typing import Any

import trio

import mesh
from mesh.events import MemberEvent
from tools.demo import telemetry
from tools.demo.board import Board
from tools.demo.floor import Floor
from tools.demo.robot import Robot
from tools.fleet import add_arguments, node_config

STEP_SECONDS = 0.5
TELEMETRY_SECONDS = 2.0


def now_us() -> int:
    return time.monotonic_ns() // 1000


class Notebook:
    """What this agent saw: poses of others by (author, move) and membership events, with the time."""

    def __init__(self) -> None:
        self.written: list[tuple[int, int]] = []
        self.seen: dict[str, list[tuple[int, int]]] = {}
        self.events: list[tuple[str, str, int]] = []

    def note_change(self, change: mesh.Changed) -> None:
        _, author, what = change.path.split("/")
        if what == "pose" and isinstance(change.value, dict):
            self.seen.setdefault(author, []).append((change.value["move"], now_us()))

    def note_event(self, event: mesh.Event) -> None:
        if isinstance(event, MemberEvent):
            self.events.append((type(event).__name__, event.name, now_us()))


class Agent:
    def __init__(self, node: mesh.Node, name: str, seed: int) -> None:
        self._node = node
        self._name = name
        self._notes = Notebook()
        self._driving = False
        self._rng = random.Random(seed)
        self._robot = Robot(node, name, Floor.shipped(), self._rng)
        self._board = Board(node, name, random.Random(f"{seed} board"))

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_poses)
            await nursery.start(self._watch_events)
            nursery.start_soon(self._drive)
            nursery.start_soon(self._publish_telemetry)
            nursery.start_soon(self._work)
            self._say({"ready": self._name})
            await self._obey()
            nursery.cancel_scope.cancel()

    async def _watch_poses(self, task_status: trio.TaskStatus[None]) -> None:
        async with self._node.watch("robots/") as changes:
            task_status.started()
            async for change in changes:
                if isinstance(change, mesh.Changed):
                    self._notes.note_change(change)

    async def _watch_events(self, task_status: trio.TaskStatus[None]) -> None:
        async with self._node.events() as events:
            task_status.started()
            async for event in events:
                self._notes.note_event(event)

    async def _drive(self) -> None:
        await trio.sleep(self._rng.uniform(0, STEP_SECONDS))
        while True:
            if self._driving:
                stamp = now_us()
                self._robot.step(stamp)
                self._notes.written.append((self._robot.moves, stamp))
            await trio.sleep(STEP_SECONDS)

    async def _work(self) -> None:
        while True:
            await trio.sleep(0.05)
            if self._driving and self._node.quorum().leader is not None:
                await self._board.work()

    async def _publish_telemetry(self) -> None:
        while True:
            if self._driving:
                self._node.register(f"robots/{self._name}/telemetry").set(telemetry.sample())
            await trio.sleep(TELEMETRY_SECONDS)

    async def _obey(self) -> None:
        """Until `leave`, or until the director is gone."""
        lines = trio.wrap_file(sys.stdin)
        async for line in lines:
            match line.strip():
                case "drive":
                    self._driving = True
                case "stop":
                    self._driving = False
                case "digest":
                    digest, leader = self._node.state_digest().hex(), self._node.quorum().leader
                    named = None if leader is None else self._node.name_of(leader)
                    self._say({"digest": digest, "moves": self._robot.moves, "leader": named, "owners": self._board.owners()})
                case "report":
                    self._say({"report": self._report()})
                case "leave":
                    return

    def _report(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "written": self._notes.written,
            "seen": self._notes.seen,
            "events": self._notes.events,
            "obstacles": len(self._node.set("floor/obstacles")),
            "missions": len(self._node.map("mission/status")),
            "claimed": self._board.claimed,
            "claims_lost": self._board.lost,
            "claims_asked_again": self._board.waited,
            "docked": self._board.docked,
            "statistics": self._node.statistics(),
        }

    def _say(self, message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(message, default=str) + "\n")
        sys.stdout.flush()


async def run_agent(arguments: argparse.Namespace) -> None:
    async with mesh.open_node(node_config(arguments)) as node:
        await Agent(node, arguments.name, arguments.random).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--random", type=int, required=True)
    trio.run(run_agent, parser.parse_args())


if __name__ == "__main__":
    main()
