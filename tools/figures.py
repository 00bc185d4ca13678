"""What the notebooks of all agents say together: convergence, detection, traffic. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Report = dict[str, Any]
"""What one agent answers to `report`; times are microseconds of one monotonic clock."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the run, in microseconds."""

    start: int
    end: int

    def __contains__(self, at: int) -> bool:
        return self.start <= at < self.end


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least a share q of all does not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * q // 1))
    return ordered[min(int(rank), len(ordered)) - 1]


def seen_by_all_ms(reports: Sequence[Report], span: Span) -> list[float]:
    """Per pose written in the span: milliseconds until the last other agent showed it, or a newer one of the same
    robot.
    """
    delays = []
    for author in reports:
        others = [report["seen"].get(author["name"], []) for report in reports if report is not author]
        timelines = [_first_times(seen) for seen in others]
        for move, at in author["written"]:
            if at in span:
                arrivals = [_first_at(timeline, move) for timeline in timelines]
                if all(arrival is not None for arrival in arrivals):
                    delays.append(max(arrival - at for arrival in arrivals if arrival is not None) / 1000)
    return delays


def _first_times(seen: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """(moves ascending, when each or a newer one was first shown)."""
    moves: list[int] = []
    times: list[int] = []
    for move, at in seen:
        if not moves or move > moves[-1]:
            moves.append(move)
            times.append(at)
    return moves, times


def _first_at(timeline: tuple[list[int], list[int]], move: int) -> int | None:
    moves, times = timeline
    index = bisect_left(moves, move)
    return times[index] if index < len(times) else None


def never_seen(reports: Sequence[Report], span: Span) -> int:
    """Poses of the span that some agent that was there all the time has not shown, nor a newer one. Must be 0."""
    count = 0
    for author in reports:
        for report in reports:
            if report is author:
                continue
            timeline = _first_times(report["seen"].get(author["name"], []))
            count += sum(at in span and _first_at(timeline, move) is None for move, at in author["written"])
    return count


def told_after_ms(reports: Sequence[Report], event: str, name: str, since: int) -> list[float | None]:
    """Per agent: milliseconds from `since` to its event about `name`; None where there was none."""
    delays: list[float | None] = []
    for report in reports:
        times = [at for kind, about, at in report["events"] if kind == event and about == name and at >= since]
        delays.append((min(times) - since) / 1000 if times else None)
    return delays
