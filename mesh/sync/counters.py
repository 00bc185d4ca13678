"""What dissemination counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What happened, for statistics."""

    births_late: int = 0
    deltas_duplicate: int = 0
    deltas_new: int = 0
    deltas_pushed: int = 0
    deltas_relayed: int = 0
    digests: int = 0
    repairs: int = 0
    repairs_unasked: int = 0
    waiting_dropped: int = 0
