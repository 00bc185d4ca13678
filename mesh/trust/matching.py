"""Whether a path is within compiled patterns: asked for each op that comes. How patterns are written is `mesh.trust.patterns`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, final

from crdt.ops import Path
from mesh.paths import is_reserved

ONE: Final = "*"
ANY: Final = "**"


@final
class PathPatterns:
    """Several patterns, compiled: matches what any of them matches. Made by `mesh.trust.patterns`; immutable."""

    __slots__ = ("_general", "_prefixes", "_segments", "everything", "texts")

    def __init__(self, texts: tuple[str, ...], segments: Sequence[tuple[str, ...]]) -> None:
        """`segments`: of each text."""
        self.texts = texts
        self._segments = segments
        # Nearly all patterns in use are a fixed prefix and `**`: one comparison of tuples.
        self._prefixes = tuple((len(each) - 1, each[:-1]) for each in segments if _is_prefix(each) and len(each) > 1)
        self._general = tuple(each for each in segments if not _is_prefix(each))
        self.everything = (ANY,) in segments
        """One of them matches every path that is not reserved."""

    def matches(self, path: Path) -> bool:
        if self.everything and not is_reserved(path):
            return True
        for length, prefix in self._prefixes:
            if path[:length] == prefix:
                return True
        return any(_matches(pattern, path) for pattern in self._general if pattern[0] not in (ONE, ANY) or not is_reserved(path))

    def reach_below(self, prefix: Path) -> bool:
        """Whether any of them matches a path at or below the prefix."""
        return any(_reaches_below(segments, prefix) for segments in self._segments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathPatterns) and other.texts == self.texts

    def __hash__(self) -> int:
        return hash(self.texts)

    def __repr__(self) -> str:
        return f"PathPatterns{self.texts!r}"


def _is_prefix(segments: tuple[str, ...]) -> bool:
    return segments[-1] == ANY and ONE not in segments and ANY not in segments[:-1]


def _reaches_below(pattern: tuple[str, ...], prefix: Path) -> bool:
    if pattern[0] in (ONE, ANY) and is_reserved(prefix):
        return False
    for wanted, segment in zip_longest(pattern, prefix):
        if wanted == ANY:
            return True
        if segment is None or wanted not in (ONE, segment):
            return segment is None
    return True


def _matches(pattern: tuple[str, ...], path: Path) -> bool:
    """Greedy: when something fails, the last `**` takes one more segment. At most len(pattern) * len(path) steps."""
    at = here = 0
    star, resume = -1, 0
    while here < len(path):
        if at < len(pattern) and pattern[at] == ANY:
            star, resume = at, here
            at += 1
        elif at < len(pattern) and (pattern[at] == ONE or pattern[at] == path[here]):
            at += 1
            here += 1
        elif star >= 0:
            resume += 1
            at, here = star + 1, resume
        else:
            return False
    return all(segment == ANY for segment in pattern[at:])
