"""Named scenarios: TOML files beside this module, or anybody's own.

title = "Partition and heal"
about = "Why somebody would want to see it."

[options]                 # names as on the command line
nodes = 32
seconds = 30

[must]                    # what must be true of the figures that --json prints; exit status 1 if not
converged_after_seconds = "<= 2"
false_deaths = "= 0"
datagrams.dropped.cut = ">= 1000"      # or it would prove nothing

[script]                  # see tools.sim.stage for the verbs
text = '''
5s cut 0-9 | 10-31 name=half
20s mend half
'''

[finale]                  # after the calm
text = '''
expect * map/door register open
'''
"""

from __future__ import annotations

import operator
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from tools.sim import units
from tools.sim.options import Options


class Must(NamedTuple):
    """One thing that must be true of a run."""

    figure: tuple[str, ...]
    """Names on the way through the summary (tools.sim.report)."""
    relation: str
    limit: float

    def found(self, summary: dict[str, Any]) -> float | None:
        """A counter that is not there counts nothing; None where nothing was measured. Raises TextError for no figure at all."""
        if self.figure[0] not in summary:
            raise units.TextError(f"there is no figure {self.figure[0]!r}; there are {', '.join(summary)}")
        value: Any = summary
        for name in self.figure:
            value = value.get(name, 0) if isinstance(value, dict) else 0
        return None if value is None else float(value)

    def missed(self, summary: dict[str, Any]) -> str | None:
        """Why it does not hold; None when it does."""
        found = self.found(summary)
        if found is not None and RELATIONS[self.relation](found, self.limit):
            return None
        return f"{'.'.join(self.figure)} is {'not measured' if found is None else f'{found:g}'}, must be {self}"

    def __str__(self) -> str:
        return f"{self.relation} {self.limit:g}"


PARTS: Final = ("title", "about", "options", "must", "script", "finale")
RELATIONS: Final[dict[str, Callable[[float, float], bool]]] = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    about: str
    options: Options
    must: tuple[Must, ...] = ()


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
    for part in content:
        if part not in PARTS:
            raise units.TextError(f"{name}: there is no {part!r} in a scenario; there are {', '.join(PARTS)}")
    options = dict(content.get("options", {}))
    options["script"] = content.get("script", {}).get("text", "")
    options["finale"] = content.get("finale", {}).get("text", "")
    scenario = Scenario(
        name,
        content.get("title", name),
        content.get("about", ""),
        options_of(name, options),
        tuple(_musts(name, content.get("must", {}))),
    )
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


def _musts(name: str, given: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[Must]:
    for figure, value in given.items():
        if isinstance(value, dict):
            yield from _musts(name, value, (*above, figure))
            continue
        relation, _, limit = str(value).partition(" ")
        try:
            if relation not in RELATIONS:
                raise ValueError
            yield Must((*above, figure), relation, float(limit))
        except ValueError:
            raise units.TextError(f'{name}: {figure} = {value!r}: write ">= 3", "<= 3" or "= 3"') from None
