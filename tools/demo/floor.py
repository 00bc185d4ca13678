"""The shipped floor plan, and how a robot finds its way on what it knows of it. Pure.

`#` is a wall that everybody knows, `o` an obstacle that nobody knows until a robot stands next to it, a letter a
station.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.resources import files

Square = tuple[int, int]
"""(column, row), from the top left corner."""

ZONE_COLUMNS, ZONE_ROWS = 20, 12


@dataclass(frozen=True, slots=True)
class Floor:
    width: int
    height: int
    walls: frozenset[Square]
    hidden: frozenset[Square]
    stations: dict[str, Square]

    @classmethod
    def shipped(cls) -> Floor:
        return cls.from_text((files("tools.demo") / "floor.txt").read_text(encoding="ascii"))

    @classmethod
    def from_text(cls, text: str) -> Floor:
        rows = text.splitlines()
        squares = {(x, y): mark for y, row in enumerate(rows) for x, mark in enumerate(row)}
        return cls(
            width=max(map(len, rows)),
            height=len(rows),
            walls=frozenset(at for at, mark in squares.items() if mark == "#"),
            hidden=frozenset(at for at, mark in squares.items() if mark == "o"),
            stations={mark: at for at, mark in squares.items() if mark.isalpha() and mark != "o"},
        )

    def free(self) -> list[Square]:
        """Squares that a robot can stand on, row by row."""
        every = ((x, y) for y in range(self.height) for x in range(self.width))
        return [at for at in every if at not in self.walls and at not in self.hidden]

    def zone(self, at: Square) -> str:
        """The name of the part of the floor that a square lies in."""
        return f"{'ABC'[min(at[0] // ZONE_COLUMNS, 2)]}{at[1] // ZONE_ROWS + 1}"


def neighbours(at: Square) -> list[Square]:
    x, y = at
    return [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]


def next_step(floor: Floor, start: Square, goal: Square, obstacles: AbstractSet[Square]) -> Square | None:
    """The first step of a shortest way around walls and known obstacles (breadth first); None when there is none."""
    came_from: dict[Square, Square] = {goal: goal}
    queue = deque([goal])
    while queue:
        at = queue.popleft()
        if at == start:
            return came_from[at]
        for beside in neighbours(at):
            if beside not in came_from and beside not in floor.walls and beside not in obstacles:
                came_from[beside] = at
                queue.append(beside)
    return None
