"""How long a datagram takes: distributions in microseconds, drawn with one uniform random number each.

Nothing here calls libm at draw time and every result is a whole microsecond, so a run is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from functools import lru_cache
from statistics import NormalDist
from typing import Final, Protocol

QUANTILES: Final = 1_024


class Delay(Protocol):
    def draw(self, uniform: Callable[[], float], source: int, target: int) -> int:
        """Microseconds for one datagram between two hosts."""


@dataclass(frozen=True, slots=True)
class Fixed:
    delay: int

    def draw(self, uniform: Callable[[], float], source: int, target: int) -> int:
        return self.delay


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every datagram anew: neighbours in time overtake each other, as on Wi-Fi."""

    low: int
    high: int

    def draw(self, uniform: Callable[[], float], source: int, target: int) -> int:
        return self.low + int(uniform() * (self.high - self.low + 1))


@dataclass(frozen=True, slots=True)
class LogNormal:
    """A long right tail: what measured Internet and Wi-Fi delays look like.

    `spread`: sigma of the logarithm; 0.5 is a busy Wi-Fi (guess).
    """

    median: int
    spread: float = 0.5

    def draw(self, uniform: Callable[[], float], source: int, target: int) -> int:
        return int(self.median * _lognormal_quantiles(self.spread)[int(uniform() * QUANTILES)])


@dataclass(frozen=True, slots=True)
class PerLink:
    """Each pair of hosts has its own base delay in [low, high], the same both ways and for the whole run, plus a jitter."""

    low: int
    high: int
    jitter: int = 0
    seed: int = 0
    _bases: dict[tuple[int, int], int] = field(default_factory=dict, compare=False, repr=False)

    def draw(self, uniform: Callable[[], float], source: int, target: int) -> int:
        pair = (source, target) if source < target else (target, source)
        base = self._bases.get(pair)
        if base is None:
            digest = hashlib.blake2b(f"{self.seed}/{pair[0]}/{pair[1]}".encode(), digest_size=8).digest()
            base = self.low + int.from_bytes(digest, "big") % (self.high - self.low + 1)
            if len(self._bases) < 1_000_000:  # 10,000 hosts have 50 million pairs: the rest is computed again each time
                self._bases[pair] = base
        return base + int(uniform() * (self.jitter + 1)) if self.jitter else base


@lru_cache(maxsize=16)
def _lognormal_quantiles(spread: float) -> tuple[float, ...]:
    """Multiples of the median at the middle of 1,024 equal slices.

    Decimal arithmetic is exact; libm's last bit differs between machines.
    """
    normal = NormalDist()
    with localcontext() as context:
        context.prec = 20
        return tuple(
            float(round((Decimal(str(round(normal.inv_cdf((i + 0.5) / QUANTILES), 9))) * Decimal(str(spread))).exp(), 9))
            for i in range(QUANTILES)
        )
