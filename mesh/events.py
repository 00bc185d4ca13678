"""What a node tells its user, `async with node.events()`: frozen facts, one class each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""
