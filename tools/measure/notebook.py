"""What a measured process notes down, and how it talks with the director: lines in, lines of JSON out.

Imports nothing that costs memory: the processes of peers use it, too.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def now_us() -> int:
    """Microseconds of the machine's monotonic clock, which all processes share."""
    return time.monotonic_ns() // 1000


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message, default=str) + "\n")
    sys.stdout.flush()


class Notebook:
    """Of one member: what it wrote, what it was shown and told, and when."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._written: list[tuple[int, int]] = []
        self._seen: dict[str, list[tuple[int, int]]] = {}
        self._events: list[tuple[str, str, int]] = []

    def writes(self, number: int) -> None:
        """Call just before the write."""
        self._written.append((number, now_us()))

    def sees(self, author: str, number: int) -> None:
        self._seen.setdefault(author, []).append((number, now_us()))

    def hears(self, kind: str, about: str) -> None:
        self._events.append((kind, about, now_us()))

    def report(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "written": self._written,
            "seen": self._seen,
            "events": self._events,
            "cpu_seconds": time.process_time(),
        }
