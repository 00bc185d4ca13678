"""All benchmarks, in the order of the table."""

from __future__ import annotations

from typing import Final

from tools.bench import suite_critical, suite_spread, suite_state
from tools.bench.plan import Benchmark

BENCHMARKS: Final[tuple[Benchmark, ...]] = (
    suite_spread.CONVERGENCE,
    suite_spread.REDUNDANCY,
    suite_spread.LOSSY,
    suite_spread.CRASH,
    suite_spread.SILENCE,
    suite_spread.FALSE_DEATHS,
    suite_spread.IDLE,
    suite_spread.HEAL,
    suite_state.APPLY,
    suite_state.SIZE,
    suite_state.KEYS,
    suite_critical.CRITICAL,
    suite_critical.FAILOVER,
    suite_state.OPERATIONS,
)
