"""The task board: robots claim tasks that must never be done twice, by compare-and-set, and finish them under a lease.

A claim that had no answer in time may have been agreed on all the same; it is asked again under its own key, which tells.
"""

from __future__ import annotations

import random
import secrets
from typing import Final

import trio

import mesh

PATIENCE_SECONDS: Final = 2.0
"""For one answer of the quorum; then the same claim is made again."""
PAUSE_SECONDS: Final = 0.4
AHEAD: Final = 6
"""Robots look at so many open tasks: few, so that they want the same ones."""
DOCKS: Final = 2
TTL_SECONDS: Final = 2.0


class Board:
    def __init__(self, node: mesh.Node, name: str, rng: random.Random) -> None:
        self._node, self._name, self._rng = node, name, rng
        self.claimed: list[int] = []
        """Tasks that this robot was told are its own."""
        self.lost = 0
        """Claims that somebody else won."""
        self.waited = 0
        """Claims without an answer in time, asked again."""
        self.docked: list[tuple[int, int]] = []
        """(dock, fencing token) of leases held."""

    async def work(self) -> None:
        """One task: claim it, and report it under the lease of a dock."""
        await trio.sleep(self._rng.uniform(0, PAUSE_SECONDS))
        task = self._open_task()
        if not await self._claim(task):
            self.lost += 1
            return
        self.claimed.append(task)
        dock = self._rng.randrange(DOCKS)
        with trio.move_on_after(PATIENCE_SECONDS):
            try:
                async with self._node.lease(f"tasks/docks/{dock}", ttl=TTL_SECONDS) as lease:
                    self.docked.append((dock, lease.fencing_token))
                    await trio.sleep(0.05)
            except mesh.LeaseLost:
                return

    def _open_task(self) -> int:
        """One of the next tasks that nobody owns, as far as is known here."""
        first = self.taken
        return first + self._rng.randrange(AHEAD)

    @property
    def taken(self) -> int:
        """Tasks below this one have an owner."""
        number = max(self.claimed, default=0)
        while self._node.critical(f"tasks/{number}/owner").value is not None:
            number += 1
        return number

    async def _claim(self, task: int) -> bool:
        """Until the quorum has an answer, however long that takes: the same key is the same claim."""
        key = secrets.token_hex(16)  # not of the seed: a robot that is started again would repeat the keys of its former life
        while True:
            with trio.move_on_after(PATIENCE_SECONDS):
                try:
                    await self._node.critical(f"tasks/{task}/owner").compare_and_set(None, self._name, idempotency_key=key)
                except mesh.NotCommitted:
                    return False
                else:
                    return True
            self.waited += 1

    def owners(self) -> dict[str, str]:
        """As they are certified here: task -> robot."""
        found = {}
        for path in self._node.critical_paths("tasks"):
            number, _, what = path.removeprefix("tasks/").partition("/")
            if what == "owner":
                found[number] = self._node.critical(path).value
        return found
