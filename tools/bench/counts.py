"""Hot paths counted, not timed: bytecodes executed, functions called, bytes kept; alike on a busy machine and on an idle one.

A count does not see what C code costs: a call of libsodium or of cbor2 is one call. What it catches is work that was not there
before. `baseline.json` keeps the counts by Python version. `python -m tools.bench.counts` compares, `--write` renews it.
"""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from types import FrameType
from typing import Any, Final

import click

from tools.bench import hot_paths

BASELINE: Final = Path(__file__).parent / "baseline.json"
TOLERANCE: Final = 0.1
"""Above the baseline by more is a regression. The same code counts the same in every run; a tenth leaves room for what is worth
its price.
"""
OTHER_PYTHON_TOLERANCE: Final = 0.4
"""Where this version of Python was not counted yet. Guess: versions differ in what one bytecode does."""
REPEATS: Final = 12
"""Of each kind of count, after as many that are not counted."""

Work = Callable[[], object]
HotPath = Callable[[], Iterator[Work]]
"""Yields one piece of work after the other, each as costly as the one before."""
Baseline = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Counts:
    """Means per call."""

    bytecodes: float
    calls: float
    """Of Python and of C functions."""
    kept_bytes: float = 0.0
    """Allocated and not freed again."""
    microseconds: float = 0.0
    """CPU time: for the reader, compared with nothing."""


def measure(path: HotPath) -> Counts:
    """Everything about one hot path."""
    work = path()
    bytecodes, calls = _counted(work)
    kept = [_kept(one) for one in islice(work, REPEATS)]
    microseconds = [_timed(one) for one in islice(work, REPEATS)]
    return Counts(bytecodes, calls, round(fmean(kept)), round(median(microseconds), 1))


def count(path: HotPath) -> Counts:
    """What the baseline knows, and nothing else: takes half the time."""
    bytecodes, calls = _counted(path())
    return Counts(bytecodes, calls)


def _counted(work: Iterator[Work]) -> tuple[float, float]:
    for one in islice(work, REPEATS):
        one()
    bytecodes = [_traced(one) for one in islice(work, REPEATS)]
    calls = [_profiled(one) for one in islice(work, REPEATS)]
    return round(fmean(bytecodes), 1), round(fmean(calls), 1)


def _timed(work: Work) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e6


def _traced(work: Work) -> int:
    count = 0

    def local(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "opcode":
            count += 1
        return local

    def entered(frame: FrameType, _event: str, _argument: Any) -> Any:
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return local

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def _profiled(work: Work) -> int:
    count = 0

    def called(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def _kept(work: Work) -> int:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def load() -> Baseline:
    baseline: Baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    return baseline


def regressions(name: str, counts: Counts, baseline: Baseline) -> list[str]:
    """What costs more than it did, in words; nothing for a path that the baseline does not know."""
    minor = sys.version_info.minor
    nearest = min(baseline, key=lambda kept: (abs(int(kept.partition(".")[2]) - minor), kept))
    tolerance = TOLERANCE if nearest == version() else OTHER_PYTHON_TOLERANCE
    kept = baseline[nearest].get(name, {})
    return [
        f"{name}: {now:,.0f} {what} where {kept[what]:,.0f} were enough"
        for what, now in (("bytecodes", counts.bytecodes), ("calls", counts.calls))
        if what in kept and now > kept[what] * (1 + tolerance)
    ]


@click.command()
@click.option("--write", is_flag=True, help="Make today's counts the baseline of this Python version.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def command(context: click.Context, write: bool, as_json: bool) -> None:
    """Count the hot paths and compare them with the kept baseline. Exit status 1: something costs more than it did."""
    counted = {path.__name__: measure(path) for path in hot_paths.PATHS}
    baseline = load() if BASELINE.exists() else {}
    if as_json:
        click.echo(json.dumps({name: asdict(counts) for name, counts in counted.items()}))
    else:
        _show(counted, baseline.get(version(), {}))
    if write:
        fresh = {name: {"bytecodes": counts.bytecodes, "calls": counts.calls} for name, counts in counted.items()}
        BASELINE.write_text(json.dumps(baseline | {version(): fresh}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    worse = [line for name, counts in counted.items() for line in regressions(name, counts, baseline)] if baseline else []
    for line in worse:
        click.echo(line, err=True)
    context.exit(1 if worse else 0)


def _show(counted: dict[str, Counts], kept: dict[str, dict[str, float]]) -> None:
    click.echo(f"{'':20}{'bytecodes':>12}{'was':>12}{'calls':>10}{'was':>10}{'bytes kept':>12}{'CPU us':>10}")
    for name, counts in counted.items():
        was = kept.get(name, {})
        click.echo(
            f"{name:20}{counts.bytecodes:>12,.0f}{was.get('bytecodes', 0):>12,.0f}{counts.calls:>10,.0f}"
            f"{was.get('calls', 0):>10,.0f}{counts.kept_bytes:>12,.0f}{counts.microseconds:>10,.1f}"
        )


if __name__ == "__main__":
    command()
