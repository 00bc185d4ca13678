"""Runs benchmarks: the contestants in turn, run after run, so that what the machine does meanwhile hits all alike."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from crdt.native import build
from mesh.errors import MeshError
from tools.bench.plan import Benchmark, Scale
from tools.bench.results import Outcome, outcome_json


class Progress(Protocol):
    def begins(self, benchmark: str, contestant: str, run: int) -> None: ...

    def ends(self) -> None: ...


def plan(benchmarks: Sequence[Benchmark], runs: int) -> int:
    """How many samples will be taken, if nobody is missing."""
    return sum(min(runs, benchmark.runs_max) * len(benchmark.contestants) for benchmark in benchmarks)


async def run(
    benchmarks: Sequence[Benchmark],
    scale: Scale,
    runs: int,
    progress: Progress,
    keep: Callable[[dict[str, Any]], object] = lambda result: None,
) -> dict[str, Any]:
    """Everything that was measured, as JSON; `keep` gets it after every benchmark. Cancelling it ends every process that it
    started.
    """
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "runs": runs,
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "mesh": build(),
            "system": f"{platform.system()} {platform.machine()}",
            "load": ", ".join(f"{value:.1f}" for value in os.getloadavg()),
        },
        "benchmarks": [],
    }
    for benchmark in benchmarks:
        outcomes = await _compare(benchmark, scale, runs, progress)
        result["benchmarks"].append(outcome_json(benchmark, scale, outcomes))
        keep(result)
    return result


async def _compare(benchmark: Benchmark, scale: Scale, runs: int, progress: Progress) -> list[Outcome]:
    outcomes = [Outcome(contestant, missing=contestant.missing() or "") for contestant in benchmark.contestants]
    for number in range(min(runs, benchmark.runs_max)):
        # Each run begins with another contestant: whoever comes first finds the caches cold.
        for outcome in outcomes[number % len(outcomes) :] + outcomes[: number % len(outcomes)]:
            progress.begins(benchmark.name, outcome.contestant.name, number)
            if not outcome.missing:
                await _sample(outcome, scale)
            progress.ends()
    return outcomes


async def _sample(outcome: Outcome, scale: Scale) -> None:
    """What fails is counted and told beside the figures; the others go on."""
    try:
        outcome.samples.append(await outcome.contestant.measure(scale))
    except (MeshError, OSError) as error:
        outcome.failures.append(" ".join(str(error).split()))


def choose(benchmarks: Sequence[Benchmark], only: Sequence[str]) -> list[Benchmark]:
    """Those of these names, or all. Raises KeyError with the name that is none."""
    named = {benchmark.name: benchmark for benchmark in benchmarks}
    return [named[name] for name in only] if only else list(benchmarks)
