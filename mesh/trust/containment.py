"""Whether every path that some patterns match is matched by others, too: what "narrower rights" means.

Decided exactly, for paths of any length, over the patterns as a whole (together they may contain what none does alone): both
sides are automata over segments, and the inner one is walked together with the set of states that the outer ones can be in.
Segments that no pattern names behave alike, so one stands for all of them; a first segment that begins with `$` is matched by its
own name only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mesh.trust.matching import ANY, ONE

PAIRS_MAX: Final = 4_096
"""Steps of one walk. Patterns of real credentials take a few dozen; what takes more is not contained. A bound, since the patterns
are somebody else's."""
_OTHER: Final = "\x00other"
_OTHER_RESERVED: Final = "$\x00other"
"""Stand for every segment that no pattern names. No path has such a segment: NUL is refused in patterns."""

Place = tuple[int, int]
"""(pattern, segments of it that are used)."""


def contains(outer: Sequence[str], inner: Sequence[str]) -> bool:
    """Whether `outer` matches all that `inner` does. Both are lists of patterns that `compile_patterns` takes."""
    outers = [tuple(each.split("/")) for each in outer]
    named = sorted({segment for pattern in (*outer, *inner) for segment in pattern.split("/")} - {ONE, ANY})
    return all(_is_within(tuple(each.split("/")), outers, [*named, _OTHER, _OTHER_RESERVED]) for each in inner)


def _is_within(inner: tuple[str, ...], outers: list[tuple[str, ...]], alphabet: list[str]) -> bool:
    start = (_closed({(0, 0)}, [inner]), _closed({(number, 0) for number in range(len(outers))}, outers), True)
    seen, waiting = {start}, [start]
    while waiting:
        inside, outside, first = waiting.pop()
        if _accepts(inside, [inner]) and not first and not _accepts(outside, outers):
            return False
        for segment in alphabet:
            ahead = _step(inside, [inner], segment, first=first)
            if not ahead:
                continue
            after = (ahead, _step(outside, outers, segment, first=first), False)
            if after not in seen:
                if len(seen) >= PAIRS_MAX:
                    return False
                seen.add(after)
                waiting.append(after)
    return True


def _step(places: frozenset[Place], patterns: list[tuple[str, ...]], segment: str, *, first: bool) -> frozenset[Place]:
    reserved = first and segment.startswith("$")
    found: set[Place] = set()
    for number, at in places:
        if at == len(patterns[number]):
            continue
        wanted = patterns[number][at]
        if wanted == ANY and not reserved:
            found.add((number, at))
        elif wanted == segment or (wanted == ONE and not reserved):
            found.add((number, at + 1))
    if reserved:  # a wildcard that stands first does not reach it, not even by standing for nothing
        found = {(number, at) for number, at in found if patterns[number][0] == segment}
    return _closed(found, patterns)


def _closed(places: set[Place], patterns: list[tuple[str, ...]]) -> frozenset[Place]:
    """With all places that are reached by letting `**` stand for nothing."""
    found = set(places)
    waiting = list(places)
    while waiting:
        number, at = waiting.pop()
        if at < len(patterns[number]) and patterns[number][at] == ANY and (number, at + 1) not in found:
            found.add((number, at + 1))
            waiting.append((number, at + 1))
    return frozenset(found)


def _accepts(places: frozenset[Place], patterns: list[tuple[str, ...]]) -> bool:
    return any(at == len(patterns[number]) for number, at in places)
