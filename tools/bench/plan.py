"""What a benchmark is made of. Plain data; `tools.bench.runner` runs it, `tools.bench.results` says what came out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

OURS: Final = "gossipmesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done. Two of them exist: a quick look, and the figures of BENCHMARKS.md."""

    small: int = 32
    """Processes of the convergence runs without loss."""
    large: int = 64
    writes: int = 100
    """Per run and contestant."""
    crashes: int = 4
    quiet_seconds: float = 30.0
    """Of the idle and the false-death runs."""
    settle_seconds: float = 15.0
    """Until a new mesh is at rest. Measured: its digests have become rare by then."""
    keys: int = 100_000
    authors: int = 1_000
    critical_seconds: float = 5.0
    failovers: int = 4


FULL: Final = Scale()
QUICK: Final = Scale(
    small=8,
    large=12,
    writes=30,
    crashes=1,
    quiet_seconds=5.0,
    settle_seconds=3.0,
    keys=10_000,
    authors=100,
    critical_seconds=2.0,
    failovers=1,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of one contestant gave. `curve`: all single values (milliseconds) behind a plot."""

    figures: dict[str, float]
    curve: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Who is measured. `configuration` and `durability` say how, for the reader."""

    name: str
    measure: Callable[[Scale], Awaitable[Sample]]
    configuration: str
    durability: str = "memory"
    missing: Callable[[], str | None] = lambda: None
    """Why it cannot run here and how to change that; None when it can."""


@dataclass(frozen=True, slots=True)
class Goal:
    """`limit` for our median, or for our median divided by `relative_to`'s."""

    text: str
    limit: float
    relative_to: str = ""
    at_least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    key: str
    title: str
    unit: str
    goals: tuple[Goal, ...] = ()
    higher_is_better: bool = False
    compared: bool = True
    """Whether a ratio to the others says anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    name: str
    title: Callable[[Scale], str]
    method: str
    figures: tuple[Figure, ...]
    contestants: tuple[Contestant, ...]
    runs_max: int = 100
    """Of those asked for; for what takes minutes and varies little."""
    plot: str = ""
    """Title of the ECDF of all single values; no plot when empty."""
