"""What this machine and process really say about themselves, from /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

Sample = dict[str, float | int]


def sample() -> Sample:
    """Load, memory, resident set and temperature; what the machine does not tell is left out."""
    values: Sample = {"load1": os.getloadavg()[0], "pid": os.getpid()}
    meminfo = _fields(Path("/proc/meminfo"))
    if "MemTotal" in meminfo and "MemAvailable" in meminfo:
        values["memory_used_percent"] = round(100 - 100 * meminfo["MemAvailable"] / meminfo["MemTotal"], 1)
    status = _fields(Path("/proc/self/status"))
    if "VmRSS" in status:
        values["rss_kib"] = status["VmRSS"]
    hottest = _temperature_c()
    if hottest is not None:
        values["temperature_c"] = hottest
    return values


def _fields(path: Path) -> dict[str, int]:
    """`Name:  123 kB` lines as numbers; empty where there is no such file."""
    fields = {}
    for line in _read(path).splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number and number[0].isdigit():
            fields[name] = int(number[0])
    return fields


def _temperature_c() -> float | None:
    zones = (_read(path).strip() for path in sorted(Path("/sys/class/thermal").glob("thermal_zone*/temp")))
    return max((int(text) / 1000 for text in zones if text.lstrip("-").isdigit()), default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
