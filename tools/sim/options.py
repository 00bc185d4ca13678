"""What one simulated run is made of. Printed first, before anything happens, so that whatever follows can be repeated."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from mesh.presets import LAN, preset
from mesh.testing import Link, Setup
from tools.sim import units
from tools.sim.critical import OUTSIDE, PREFIX
from tools.sim.faults import KINDS
from tools.sim.script import one_line, parse
from tools.sim.workload import ACTS

CALM_FLOOR_SECONDS: Final = 5.0
SCORES: Final = (4, 9, 5, 7, 5)
"""Of the first voters: the best is not the first, so that leadership moves."""
SETTLE_PROBES: Final = 12
"""Probe intervals for a mesh to form before anything goes wrong: 3 s with the `lan` preset."""
SETTLE_PROBES_INTRODUCED: Final = 4
"""The same where all know each other from the start: everybody has been probed, and has compared with somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Texts are as on the command line; `mesh sim --help` describes them."""

    nodes: int = 8
    seed: int = 0
    preset: str = "lan"
    seconds: float = 20.0
    """Length of the fault phase."""
    rate: float = 10.0
    """Writes per second in the whole mesh."""
    paths: int = 2
    types: tuple[str, ...] = tuple(ACTS)
    faults: tuple[str, ...] = ()
    """Kinds that happen, drawn by the seed."""
    script: str = ""
    """A history to play instead of drawing one."""
    finale: str = ""
    """What is played after the calm, to look at the end."""
    delay: str = "1-3ms"
    loss: str = "0%"
    bandwidth: str = "none"
    disks: bool = True
    warm: bool = True
    introduced: bool = False
    """Whether everybody has heard everybody's newest word before the start, as in a mesh that has been running."""
    drift: float = 100.0
    skew: str = "2s"
    rest: float = 0.0
    """Seconds after the calm within which housekeeping must come to rest; 0: not looked at. No disk may be lost before."""
    cost: str = "0us"
    """Time of a machine that one received datagram takes."""
    critical: float = 0.0
    """Critical operations per second in the whole mesh (tools.sim.critical); 0: no quorum."""
    voters: int = 5
    """Enrolled, when there is a quorum."""
    stalls: str = "0%"
    """Share of the nodes that stall now and then: about every ten seconds, for up to one second."""

    def link(self) -> Link:
        bandwidth = None if self.bandwidth == "none" else units.rate(self.bandwidth)
        return Link(delay=units.delay(self.delay, self.seed), loss=units.share(self.loss), bandwidth=bandwidth)

    def setup(self) -> Setup:
        return Setup(
            preset=self.preset,
            link=self.link(),
            durable=self.disks,
            drift=self.drift,
            skew=units.seconds(self.skew),
            warm=self.warm,
            introduced=self.introduced,
            critical=(PREFIX,) if self.critical else (),
            voters=min(self.nodes, self.voters) if self.critical else 0,
            scores=SCORES if self.critical else (),
        )

    def check(self) -> None:
        """Raises TextError or ConfigError for what cannot be."""
        self.setup()
        units.seconds(self.cost)
        units.share(self.stalls)
        preset(self.preset)
        parse(self.script)
        parse(self.finale)
        for name in ("seconds", "rate", "rest", "drift", "critical"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise units.TextError(f"{name}={value}: at least 0, and finite")
        if self.paths < 1:
            raise units.TextError(f"paths={self.paths}: at least one")
        if self.nodes < 1:
            raise units.TextError(f"nodes={self.nodes}: at least one")
        if self.critical and (outside := OUTSIDE & set(self.faults)):
            raise units.TextError(f"{', '.join(sorted(outside))}: no quorum survives a disk that loses what it had stored")
        for kind in self.faults:
            if kind not in KINDS:
                raise units.TextError(f"there is no fault {kind!r}; there are {', '.join(KINDS)}")
        for name in self.types:
            if name not in ACTS:
                raise units.TextError(f"there is no type {name!r}; there are {', '.join(ACTS)}")

    def settle_seconds(self) -> float:
        probes = SETTLE_PROBES_INTRODUCED if self.introduced else SETTLE_PROBES
        return probes * preset(self.preset).swim.probe_interval_seconds

    def pace(self) -> float:
        """How much longer everything takes than with the `lan` preset, by the clock of its probes."""
        return preset(self.preset).swim.probe_interval_seconds / LAN.swim.probe_interval_seconds

    def calm_bound(self) -> float:
        """Seconds within which a mesh whose faults have ended must be one again, computed from the options.

        The worst way back: an agent that everybody has given up is called in turn with all others that are down, hears of it,
        refutes, and then compares with random peers, at worst from the quietest rhythm, until the last bucket agrees. Loss
        repeats each step.
        """
        timing = preset(self.preset)
        swim, sync = timing.swim, timing.sync
        repeats = 1.0 / max(0.2, 1.0 - units.share(self.loss)) ** 2
        found = swim.reconnect_interval_seconds * self.nodes + 2 * swim.suspicion_max_seconds
        compared = 3 * sync.digest_max_seconds + 20 * sync.digest_min_seconds
        return max(CALM_FLOOR_SECONDS, (found + compared) * repeats)

    def describe(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def command(self) -> str:
        """What replays this run."""
        words = ["mesh", "sim"]
        standard = Options()
        for field in fields(self):
            value, usual = getattr(self, field.name), getattr(standard, field.name)
            if value == usual and field.name != "seed":
                continue
            name = field.name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no-{name}")
            else:
                words += [f"--{name}", _text(value)]
        return shlex.join(words)

    def line(self) -> str:
        """What differs from the standard, as name=value: a line of a file of seeds, which `from_line` reads."""
        standard = Options()
        changed = [field.name for field in fields(self) if getattr(self, field.name) != getattr(standard, field.name)]
        if "\n" in self.script + self.finale:
            return replace(self, script=one_line(self.script), finale=one_line(self.finale)).line()
        return shlex.join(f"{name}={_text(getattr(self, name))}" for name in dict.fromkeys(["seed", *changed]))

    @classmethod
    def from_line(cls, line: str) -> Options:
        """Raises TextError for a name or a value that is none."""
        given = dict(word.partition("=")[::2] for word in shlex.split(line))
        kinds = {field.name: field.type for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in given.items():
            try:
                values[name] = _READERS[str(kinds[name])](text)
            except (KeyError, ValueError) as error:
                raise units.TextError(f"{name}={text}: no option, or no value of it") from error
        options = cls(**values)
        options.check()
        return options


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": lambda text: {"True": True, "False": False}[text],
    "tuple[str, ...]": lambda text: tuple(filter(None, text.split(","))),
}
