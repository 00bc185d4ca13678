"""Path patterns: where a credential may write, and what is critical.

A pattern is written like a path. `*` stands for exactly one segment, `**` for any number of them, none included: `tasks/**` means
`tasks` and all below (as in Zenoh). Everything else stands for itself, compared as text, code point by code point; a segment of
bytes matches wildcards only. A star inside a segment (`robot-*`) is refused: it would look like it meant something.

No wildcard matches a first segment that begins with `$`: such paths are the mesh's own (`$keys`: who reads what is encrypted),
and the right to write there is given by name, as MQTT does it with `$SYS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import Final

from crdt.ops import Path
from mesh.errors import ConfigError, InvalidPath
from mesh.paths import is_reserved, parse_path

ONE: Final = "*"
ANY: Final = "**"
_GLOB: Final = frozenset("[]{}?")
"""What shells make patterns of: in a user's list they look like they meant something."""
PATTERNS_MAX: Final = 64
"""Of one credential or charter. The size of a statement limits them before; this bounds the work of one match."""


class PathPatterns:
    """Several patterns, compiled: matches what any of them matches. Made by `compile_patterns`; immutable."""

    __slots__ = ("_general", "_prefixes", "everything", "texts")

    texts: tuple[str, ...]
    everything: bool
    """One of them matches every path that is not reserved."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts = texts
        segments = [_parse(text) for text in texts]
        # Nearly all patterns in use are a fixed prefix and `**`: one comparison of tuples.
        self._prefixes = tuple((len(each) - 1, each[:-1]) for each in segments if _is_prefix(each) and len(each) > 1)
        self._general = tuple(each for each in segments if not _is_prefix(each))
        self.everything = ("**",) in segments

    def matches(self, path: Path) -> bool:
        if self.everything and not is_reserved(path):
            return True
        for length, prefix in self._prefixes:
            if path[:length] == prefix:
                return True
        return any(_matches(pattern, path) for pattern in self._general if pattern[0] not in (ONE, ANY) or not is_reserved(path))

    def reach_below(self, prefix: Path) -> bool:
        """Whether any of them matches a path at or below the prefix."""
        return any(_reaches_below(_parse(text), prefix) for text in self.texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathPatterns) and other.texts == self.texts

    def __hash__(self) -> int:
        return hash(self.texts)

    def __repr__(self) -> str:
        return f"PathPatterns{self.texts!r}"


@lru_cache(maxsize=1024)  # members share few different lists
def compile_patterns(texts: tuple[str, ...]) -> PathPatterns:
    """Raises ConfigError, which names the pattern."""
    if len(texts) > PATTERNS_MAX:
        raise ConfigError(f"{len(texts)} patterns are too many: at most {PATTERNS_MAX}")
    return PathPatterns(texts)


def checked_patterns(texts: Sequence[str]) -> tuple[str, ...]:
    """A user's list of patterns as a tuple. Raises ConfigError, which names the pattern."""
    if isinstance(texts, str):  # a str is a sequence of str: ["t", "a", "s", "k", "s", ...] would be taken as patterns
        raise ConfigError(f"patterns come as a list: write [{texts!r}]")
    if not isinstance(texts, Iterable):
        raise ConfigError(f"patterns come as a list, such as ['robots/7/**'], not {texts!r:.80}")
    texts = tuple(texts)
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(f"pattern {text!r:.80} is not text")
        if odd := sorted(set(text) & _GLOB):
            raise ConfigError(
                f"pattern {text!r}: {odd[0]} means nothing here; * stands for one segment, ** for any number of them"
            )
    return compile_patterns(texts).texts


def _parse(text: str) -> tuple[str, ...]:
    if not isinstance(text, str):
        raise ConfigError(f"pattern {text!r} is not text")
    try:
        parse_path(text)
    except InvalidPath as error:
        raise ConfigError(f"not a pattern: {error}") from None
    segments = text.split("/")
    for segment in segments:
        if "*" in segment and segment not in (ONE, ANY):
            raise ConfigError(f"pattern {text!r}: a star stands for whole segments, {segment!r} mixes it with text")
    return tuple(segments)


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
