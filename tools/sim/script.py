"""Scripts: what happens to a mesh, as lines of verbs.

The same language serves scenarios, fault histories drawn by seed, scenario tests and shrunk failures, so that whatever fails can
be read and replayed.

    write 0 robots/7/pose 42          at once
    3.5s cut 0-3 | 4-7 name=a         3.5 s after the script's start
    run 2s

A line is an optional time, a verb, words, and name=value options. `#` begins a comment; `;` ends a line as a line break does.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from tools.sim.units import TextError, duration_text, seconds

_TIME = re.compile(r"\d+(?:\.\d+)?(?:us|ms|s|m|min|h|d)")

_BREAK = re.compile(r"[\n;]")


@dataclass(frozen=True, slots=True)
class Line:
    verb: str
    words: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    at: float | None = None
    """Seconds after the script's start; None: now."""

    def __str__(self) -> str:
        when = [] if self.at is None else [duration_text(self.at)]
        parts = [
            *when,
            self.verb,
            *map(_quoted, self.words),
            *(f"{name}={_quoted(value)}" for name, value in self.options.items()),
        ]
        return " ".join(parts)


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[^\s'\"#\\]+", text) else shlex.quote(text)


def parse_line(text: str) -> Line | None:
    """None for a blank line or a comment. `TextError` says what is wrong."""
    try:
        parts = shlex.split(text, comments=True)
    except ValueError as error:
        raise TextError(f"{text!r}: {error}") from error
    if not parts:
        return None
    at = seconds(parts.pop(0)) if _TIME.fullmatch(parts[0]) else None
    if not parts:
        raise TextError(f"{text!r} has a time and no verb")
    words, options = [], {}
    for part in parts[1:]:
        name, equals, value = part.partition("=")
        if equals and name.isidentifier():
            options[name] = value
        else:
            words.append(part)
    return Line(parts[0], tuple(words), options, at)


def parse(text: str) -> list[Line]:
    lines = []
    for number, raw in enumerate(_BREAK.split(text), 1):
        try:
            line = parse_line(raw)
        except TextError as error:
            raise TextError(f"line {number}: {error}") from error
        if line is not None:
            lines.append(line)
    return lines


def one_line(text: str) -> str:
    """The same script without line breaks."""
    return "; ".join(map(str, parse(text)))


def render(lines: list[Line]) -> str:
    return "".join(f"{line}\n" for line in lines)
