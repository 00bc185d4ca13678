"""What dissemination counts."""

from __future__ import annotations


class Counters:
    """What happened, for statistics."""

    __slots__ = (
        "births_late",
        "deltas_duplicate",
        "deltas_new",
        "deltas_pushed",
        "deltas_relayed",
        "digests",
        "repairs",
        "repairs_unasked",
        "waiting_dropped",
    )

    def __init__(self) -> None:
        self.births_late = 0
        self.deltas_new = self.deltas_duplicate = 0
        self.deltas_pushed = self.deltas_relayed = self.repairs = self.digests = 0
        self.repairs_unasked = self.waiting_dropped = 0
