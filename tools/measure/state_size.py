"""What a long life leaves behind: the state after many random adds and removes, beside that of a replica that just wrote what is
shown.

Replicas and housekeepers are those of a node, on virtual time; deltas reach everybody at once, since how they travel has no part
in what a shelf holds in the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from crdt.delta import Delta
from crdt.ids import ReplicaId, shelf_id
from crdt.types.local import Local
from mesh.effects import Now
from mesh.housekeeping import Housekeeper, Tidying
from tools.weigh import fresh_bytes, state_bytes

Figures = dict[str, Any]
Tell = Callable[[int], None]

START_WALL: Final = 1_767_225_600_000_000
PATH: Final = "robots/inventory"
ELEMENTS: Final = 5_000
"""Texts of 11 bytes, or integers of 1 to 3. An op that is issued again costs 2 to 8 bytes more, mostly for its own time, so the
shorter the elements, the more the state weighs beside a fresh one."""
OPERATIONS_PER_SECOND: Final = 100
TURN_OPERATIONS: Final = 20
"""Of one author in a row: what a node that writes in bursts seals into one delta."""
REST_SECONDS: Final = 2 * int(Tidying().retire_anyway_seconds)
"""Without a write, for housekeeping to end: longer than its longest patience."""


class Meeting:
    """Authors who hear everything at once and never die."""

    def __init__(self, authors: int, seed: int, *, integers: bool = False) -> None:
        self.rng, self.integers = random.Random(seed), integers
        self.now = Now(0.0, START_WALL)
        shelves = [shelf_id(ReplicaId(bytes((number + 1,)) * 8), 1) for number in range(authors)]
        self.authors = [Local(shelf, now_wall=lambda: self.now.wall) for shelf in shelves]
        self.keepers = [Housekeeper(author, lambda seq: True, lambda: True, Tidying(), self.now) for author in self.authors]

    def turn(self, writes: int) -> None:
        """One author adds what is absent and removes what is there; then time passes, and housekeeping runs where it is due."""
        author = self.rng.choice(self.authors)
        inventory = author.set(PATH)
        for _ in range(writes):
            number = self.rng.randrange(ELEMENTS)
            element = number if self.integers else f"crate-{number:05}"
            if element in inventory:
                inventory.discard(element)
            else:
                inventory.add(element)
        self._give(author, author.seal())
        self.wait(max(writes, 1) / OPERATIONS_PER_SECOND)

    def wait(self, seconds: float) -> None:
        self.now = Now(self.now.monotonic + seconds, self.now.wall + round(seconds * 1e6))
        for author, keeper in zip(self.authors, self.keepers, strict=True):
            if self.now.monotonic >= keeper.deadline and keeper.tick(self.now):
                self._give(author, author.seal())
            author.take_journal()
            author.take_changes()

    def _give(self, source: Local, deltas: list[Delta]) -> None:
        for author in self.authors:
            if author is not source:
                for delta in deltas:
                    author.receive(delta)


def state_size(operations: int, authors: int, seed: int, tell: Tell, *, integers: bool = False) -> Figures:
    """`tell`: called with the operations that were done, for progress. `integers`: as elements, instead of texts."""
    meeting = Meeting(authors, seed, integers=integers)
    first = meeting.authors[0]
    for done in range(0, operations, TURN_OPERATIONS):
        meeting.turn(min(TURN_OPERATIONS, operations - done))
        tell(min(TURN_OPERATIONS, operations - done))
    busy = state_bytes(first) / fresh_bytes(first)
    for _ in range(REST_SECONDS // 10):
        meeting.wait(10.0)
    if len({author.state_digest() for author in meeting.authors}) != 1:
        raise AssertionError("the authors differ at the end")
    fresh = fresh_bytes(first)
    largest = max(state_bytes(author) for author in meeting.authors)
    return {
        "operations": operations,
        "authors": authors,
        "seed": seed,
        "virtual_hours": round(meeting.now.monotonic / 3600, 1),
        "elements_left": len(first.set(PATH)),
        "fresh_bytes": fresh,
        "at_rest_bytes": largest,
        "at_rest_times_fresh": round(largest / fresh, 3),
        "while_writing_times_fresh": round(busy, 3),
    }
