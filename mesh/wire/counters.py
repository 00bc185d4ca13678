"""What went over the wire and what was dropped, counted."""

from __future__ import annotations

from collections import Counter
from typing import Final

from mesh.wire.frames import Frame, Lane

_KINDS: Final = 256


class Counters:
    """Plain integers and lists of them: they are touched for every frame."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "bytes_sent_by_lane",
        "datagrams_received",
        "datagrams_sent",
        "drops",
        "frame_bytes_received",
        "frame_bytes_sent",
        "frames_received",
        "frames_sent",
        "sealed_late",
        "sealed_received",
        "sealed_skipped",
    )

    def __init__(self) -> None:
        self.datagrams_received = 0
        """All that came, garbage included."""
        self.bytes_received = 0
        self.sealed_received = 0
        """Datagrams that opened: from members."""
        self.sealed_skipped = 0
        """Datagrams that had not come when a later one of the same session did, ..."""
        self.sealed_late = 0
        """... and those of them that came after all."""
        self.datagrams_sent = 0
        self.bytes_sent = 0
        self.frames_received = [0] * _KINDS
        """By kind, as the bytes and those that were queued to be sent."""
        self.frame_bytes_received = [0] * _KINDS
        self.frames_sent = [0] * _KINDS
        self.frame_bytes_sent = [0] * _KINDS
        self.bytes_sent_by_lane = [0] * len(Lane)
        self.drops: Counter[str] = Counter()
        """Datagrams and frames that were not taken or not sent, by reason."""

    def as_dict(self) -> dict[str, object]:
        """For people and JSON: kinds and lanes by name, without zeros."""
        return {
            "datagrams_received": self.datagrams_received,
            "bytes_received": self.bytes_received,
            "sealed_received": self.sealed_received,
            "sealed_skipped": self.sealed_skipped,
            "sealed_late": self.sealed_late,
            "datagrams_sent": self.datagrams_sent,
            "bytes_sent": self.bytes_sent,
            "frames_received": _by_kind(self.frames_received),
            "frame_bytes_received": _by_kind(self.frame_bytes_received),
            "frames_sent": _by_kind(self.frames_sent),
            "frame_bytes_sent": _by_kind(self.frame_bytes_sent),
            "bytes_sent_by_lane": {lane.name: self.bytes_sent_by_lane[lane] for lane in Lane},
            "drops": dict(sorted(self.drops.items())),
        }


def _by_kind(counts: list[int]) -> dict[str, int]:
    return {kind.name: counts[kind] for kind in Frame if counts[kind]}
