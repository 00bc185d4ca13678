"""Named scenarios: TOML files beside this module, or anybody's own.

title = "Partition and heal"
about = "Why somebody would want to see it."

[options]                 # names as on the command line
nodes = 32
seconds = 30

[limits]                  # what must hold; exit status 1 if not
converge = "2s"           # after the end of the faults
false_deaths = 0

[script]                  # see tools.sim.stage for the verbs
text = '''
5s cut 0-9 | 10-31 name=half
20s mend half
'''
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from tools.sim import units
from tools.sim.options import Options
from tools.sim.script import parse


@dataclass(frozen=True, slots=True)
class Limits:
    """None: not asked for."""

    converge: float | None = None
    """Seconds of calm until all are one again."""
    p99_ms: float | None = None
    """Write to everybody."""
    detect: float | None = None
    """Seconds, p99, from a crash until each other node knows it."""
    false_deaths: int | None = None
    bytes_per_second: float | None = None
    """Per node."""


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    about: str
    options: Options
    limits: Limits = field(default_factory=Limits)


def names() -> list[str]:
    """Of the scenarios that ship, sorted."""
    folder = resources.files("tools.sim") / "scenarios"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(name: str) -> Scenario:
    """A shipped scenario by name, or any file by its path. Raises TextError."""
    if name.endswith(".toml"):
        try:
            return read(Path(name).stem, Path(name).read_text(encoding="utf-8"))
        except OSError as error:
            raise units.TextError(f"cannot read {name}: {error.strerror}") from error
    if name not in names():
        raise units.TextError(f"there is no scenario {name!r}; there are {', '.join(names())}")
    return read(name, (resources.files("tools.sim") / "scenarios" / f"{name}.toml").read_text(encoding="utf-8"))


def read(name: str, text: str) -> Scenario:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise units.TextError(f"{name}: {error}") from error
    options = dict(content.get("options", {}))
    options["script"] = content.get("script", {}).get("text", "")
    scenario = Scenario(
        name,
        content.get("title", name),
        content.get("about", ""),
        options_of(name, options),
        _limits(name, content.get("limits", {})),
    )
    parse(scenario.options.script)
    scenario.options.check()
    return scenario


def options_of(name: str, given: dict[str, Any], base: Options | None = None) -> Options:
    known = {each.name: each.type for each in fields(Options)}
    changes: dict[str, Any] = {}
    for option, value in given.items():
        option = option.replace("-", "_")
        if option not in known:
            raise units.TextError(f"{name}: there is no option {option!r}; there are {', '.join(known)}")
        if known[option] == "float":
            value = units.seconds(value) if isinstance(value, str) else float(value)
        changes[option] = tuple(value) if isinstance(value, list) else value
    return replace(base if base is not None else Options(), **changes)


def _limits(name: str, given: dict[str, Any]) -> Limits:
    known = [each.name for each in fields(Limits)]
    for limit in given:
        if limit not in known:
            raise units.TextError(f"{name}: there is no limit {limit!r}; there are {', '.join(known)}")
    limits: dict[str, Any] = {limit: units.seconds(value) if isinstance(value, str) else value for limit, value in given.items()}
    return Limits(**limits)
