"""Durations, shares, rates and sets of hosts as people write them: 30ms, 2h, 10%, 8Mbit/s, 10-50ms, 0-3,7.

Each parser raises `TextError` with the text and an example of what would have done.
"""

from __future__ import annotations

import re
from typing import Final

from mesh.testing import Delay, Fixed, LogNormal, PerLink, Uniform, microseconds

_SECONDS: Final = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
    "y": 31_557_600.0,
    "": 1.0,
}
_RATES: Final = {"B/s": 1.0, "kB/s": 1e3, "MB/s": 1e6, "bit/s": 1 / 8, "kbit/s": 1e3 / 8, "Mbit/s": 1e6 / 8, "Gbit/s": 1e9 / 8}
_NUMBER: Final = r"[+-]?\d+(?:\.\d+)?"


class TextError(ValueError):
    """A text that does not say what it should. The message is for the person who wrote it."""


def seconds(text: str) -> float:
    match = re.fullmatch(rf"({_NUMBER})([a-z]*)", text.strip())
    if not match or match[2] not in _SECONDS:
        raise TextError(f"{text!r} is not a duration: write 30ms, 2s, 5m, 1.5h or 30d")
    return round(float(match[1]) * _SECONDS[match[2]], 6)  # world time counts microseconds


def share(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else 2.0
    if value > 1:
        raise TextError(f"{text!r} is not a share: write 10% or 0.1")
    return value


def rate(text: str) -> int:
    """Bytes per second."""
    match = re.fullmatch(rf"({_NUMBER})\s*(\S+)", text.strip())
    if not match or match[2] not in _RATES or float(match[1]) <= 0:
        raise TextError(f"{text!r} is not a bandwidth: write 250kbit/s, 8Mbit/s or 100kB/s")
    return round(float(match[1]) * _RATES[match[2]])


def delay(text: str, seed: int = 0) -> Delay:
    """30ms | 10-50ms (each datagram anew) | links:10-50ms (each link its own) | lognormal:30ms[,0.5]."""
    kind, colon, rest = text.strip().partition(":")
    try:
        if not colon:
            low, high = _range(kind)
            return Fixed(low) if low == high else Uniform(low, high)
        if kind == "links":
            low, high = _range(rest)
            return PerLink(low, high, jitter=(high - low) // 20, seed=seed)
        if kind == "lognormal":
            median, _, spread = rest.partition(",")
            return LogNormal(microseconds(seconds(median)), float(spread or 0.5))
    except ValueError as error:
        raise TextError(f"{text!r} is not a delay: {error}") from error
    raise TextError(f"{text!r} is not a delay: write 30ms, 10-50ms, links:10-50ms or lognormal:30ms,0.5")


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]*)-(\d+(?:\.\d+)?)([a-z]+)", text.strip())
    if not match:
        value = microseconds(seconds(text))
        return value, value
    low, high = seconds(match[1] + (match[2] or match[4])), seconds(match[3] + match[4])
    if low > high:
        raise TextError(f"{text!r} ends before it begins")
    return microseconds(low), microseconds(high)


def hosts(text: str, count: int) -> list[int]:
    """`0-3,7` or `*` (all), ascending. Numbers beyond `count` are refused before anything is expanded."""
    if text == "*":
        return list(range(count))
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if not match:
            raise TextError(f"{text!r} names no hosts: write 0-3,7 or *")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < count:
            raise TextError(f"{text!r}: there are hosts 0 to {count - 1}")
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def hosts_text(chosen: frozenset[int] | set[int] | list[int]) -> str:
    """The shortest text that `hosts` reads back."""
    parts: list[str] = []
    run: list[int] = []
    for number in [*sorted(chosen), -1]:
        if run and number != run[-1] + 1:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        run.append(number)
    return ",".join(parts)


def duration_text(value: float) -> str:
    """The shortest of 350ms, 2.5s, 90s, 30m, 30d that `seconds` reads back."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0)):
        if value >= size and value % size == 0:
            return f"{value / size:g}{unit}"
    number, unit = (value * 1e3, "ms") if 0 < abs(value) < 1 else (value, "s")
    return f"{number:.6f}".rstrip("0").rstrip(".") + unit
