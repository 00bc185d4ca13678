"""What one simulated run is made of. Printed first, before anything happens, so that whatever follows can be repeated."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from typing import Any, Final

from mesh.presets import preset
from mesh.testing import Link, Setup
from tools.sim import units
from tools.sim.faults import KINDS
from tools.sim.workload import ACTS

CALM_FLOOR_SECONDS: Final = 5.0


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
    """Kinds to draw from."""
    script: str = ""
    """A history to play instead of drawing one."""
    delay: str = "1-3ms"
    loss: str = "0%"
    bandwidth: str = "none"
    disks: bool = True
    warm: bool = True
    drift: float = 100.0
    skew: str = "2s"
    rest: float = 0.0
    """Seconds after the calm within which housekeeping must come to rest; 0: not looked at. No disk may be lost before."""
    cost: str = "0us"
    """Time of a machine that one received datagram takes."""

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
        )

    def check(self) -> None:
        """Raises TextError or ConfigError for what cannot be."""
        self.setup()
        units.seconds(self.cost)
        preset(self.preset)
        if self.nodes < 1:
            raise units.TextError(f"nodes={self.nodes}: at least one")
        for kind in self.faults:
            if kind not in KINDS:
                raise units.TextError(f"there is no fault {kind!r}; there are {', '.join(KINDS)}")
        for name in self.types:
            if name not in ACTS:
                raise units.TextError(f"there is no type {name!r}; there are {', '.join(ACTS)}")

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
                words += [
                    f"--{name}",
                    ",".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value),
                ]
        return shlex.join(words)
