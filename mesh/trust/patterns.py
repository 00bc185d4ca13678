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
from typing import Final

from mesh.errors import ConfigError, InvalidPath
from mesh.paths import parse_path
from mesh.trust.matching import ANY, ONE, PathPatterns

_GLOB: Final = frozenset("[]{}?")
"""What shells make patterns of: in a user's list they look like they meant something."""
PATTERNS_MAX: Final = 64
"""Of one credential or charter. The size of a statement limits them before; this bounds the work of one match."""


@lru_cache(maxsize=1024)  # members share few different lists
def compile_patterns(texts: tuple[str, ...]) -> PathPatterns:
    """Raises ConfigError, which names the pattern."""
    if len(texts) > PATTERNS_MAX:
        raise ConfigError(f"{len(texts)} patterns are too many: at most {PATTERNS_MAX}")
    return patterns_of(texts)


def patterns_of(texts: tuple[str, ...]) -> PathPatterns:
    """However many they are. Raises ConfigError."""
    return PathPatterns(texts, [_parse(text) for text in texts])


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
