"""A robot on the floor: where it goes next, and what it tells the mesh about it.

It drives from station to station as the shared mission plan says, maps obstacles that it meets, counts its visits and
edits the plan. All of it is written through the public handles; what other robots wrote is read back the same way.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, cast

from mesh import Node
from tools.demo.floor import Floor, Square, neighbours, next_step

MISSIONS_MIN = 12
"""Below this the robots think up new missions: the plan never runs dry, and several edit it at once."""


class Robot:
    def __init__(self, node: Node, name: str, floor: Floor, rng: random.Random) -> None:
        self._node = node
        self._name = name
        self._floor = floor
        self._rng = rng
        self._at: Square = rng.choice(floor.free())
        self._mission: str | None = None
        self._goal: Square | None = None
        self._moves = 0
        self._pose = node.register(f"robots/{name}/pose")
        self._obstacles = node.set("floor/obstacles")
        self._plan = node.list("mission/plan")
        self._status = node.map("mission/status")

    @property
    def moves(self) -> int:
        return self._moves

    def step(self, stamp: int) -> None:
        """One move, and one pose with the number of the move and the time that the caller measures by."""
        self._look_around()
        if self._goal is None:
            self._take_mission()
        self._move()
        self._moves += 1
        self._pose.set({"x": self._at[0], "y": self._at[1], "goal": self._mission or "", "move": self._moves, "at": stamp})
        self._node.counter(f"floor/visits/{self._floor.zone(self._at)}").add(1)

    def _look_around(self) -> None:
        for beside in neighbours(self._at):
            if beside in self._floor.hidden and beside not in self._obstacles:
                self._obstacles.add(beside)

    def _known_obstacles(self) -> set[Square]:
        return set(cast("Iterable[Square]", self._obstacles))

    def _move(self) -> None:
        if self._goal is None:
            return
        obstacles = self._known_obstacles()
        step = next_step(self._floor, self._at, self._goal, obstacles) if self._goal not in obstacles else None
        if step is not None and step not in self._floor.hidden:
            self._at = step
        if step is None or self._at == self._goal:
            self._finish("unreachable" if step is None else "done")

    def _take_mission(self) -> None:
        """The first mission of the plan that nobody seems to be on. Two robots may take one: that is what `critical`
        is for.
        """
        plan: list[dict[str, Any]] = list(self._plan)
        if len(plan) < MISSIONS_MIN:
            self._add_mission(len(plan))
        for mission in plan:
            if mission["id"] not in self._status:
                self._mission, station = mission["id"], mission["to"]
                self._goal = self._floor.stations[station]
                self._status[mission["id"]] = {"by": self._name, "state": "driving"}
                return

    def _add_mission(self, length: int) -> None:
        mission = {"id": f"{self._name}-{self._moves}", "to": self._rng.choice(sorted(self._floor.stations))}
        self._plan.insert(self._rng.randint(0, length), mission)

    def _finish(self, state: str) -> None:
        mission, self._mission, self._goal = self._mission, None, None
        if mission is None:
            return
        self._status[mission] = {"by": self._name, "state": state}
        plan = list(self._plan)
        for index, entry in enumerate(plan):
            if entry["id"] == mission:
                del self._plan[index]
                return
