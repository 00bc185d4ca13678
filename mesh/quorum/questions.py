"""Linearizable reads from any agent: the leader is asked up to where one must have applied, until it answers."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from mesh.effects import Now

SOON_SECONDS: Final = 0.01
"""After a definite "not now"."""


class Questions:
    def __init__(self, first_number: int, again_seconds: float, ask: Callable[[int, int], None]) -> None:
        """`ask`: (number, which try) puts the question to the leader; again after `again_seconds` without an answer."""
        self._number, self._again_seconds, self._ask = first_number, again_seconds, ask
        self._open: dict[int, tuple[float, int]] = {}
        """Number -> when to ask again, and how often it was asked."""
        self._answered: list[tuple[int, int]] = []

    def put(self, now: Now) -> int:
        """Ask what is true now; `take` gives (this number, index) once that index is applied here."""
        self._number += 1
        self._again(self._number, now)
        return self._number

    def forget(self, number: int) -> None:
        """Nobody waits for it any more."""
        self._open.pop(number, None)

    def answered(self, number: int, index: int | None, now: Now) -> None:
        """None: whoever was asked cannot say."""
        if number not in self._open:
            return
        if index is None:
            at, tries = self._open[number]
            self._open[number] = (min(at, now.monotonic + SOON_SECONDS), tries)
        else:
            del self._open[number]
            self._answered.append((number, index))

    def take(self, applied: int) -> list[tuple[int, int]]:
        """(number, index) of those that may read now, all up to `applied` being applied."""
        ready = [each for each in self._answered if each[1] <= applied]
        self._answered = [each for each in self._answered if each[1] > applied]
        return ready

    @property
    def waits(self) -> bool:
        """Whether somebody waits to read."""
        return bool(self._open or self._answered)

    @property
    def deadline(self) -> float:
        return min((at for at, _ in self._open.values()), default=inf)

    def tick(self, now: Now) -> None:
        for number, (at, _) in list(self._open.items()):
            if now.monotonic >= at:
                self._again(number, now)

    def _again(self, number: int, now: Now) -> None:
        tries = self._open[number][1] if number in self._open else 0
        self._open[number] = (now.monotonic + self._again_seconds, tries + 1)
        self._ask(number, tries)
