"""`mesh sim --seeds` and `--soak`: how a hunt is shown and told."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from mesh.control.protocol import FAILED
from tools.sim import hunt, progress
from tools.sim.history import Outcome
from tools.sim.hunt import Bag
from tools.sim.options import Options

TOLD_EVERY: Final = 100
"""Runs, for logs in which no bar moves."""


def go(
    options: Options,
    given: Sequence[str],
    commit: str,
    *,
    seeds: tuple[int, int] | None,
    minutes: float | None,
    jobs: int,
    keep_in: Path | None,
    as_json: bool,
    **_: object,
) -> int:
    """Exit status 1: a run failed, or faults that should have happened never did. Ctrl-C ends it with what came so far."""
    first = seeds[0] if seeds else options.seed
    if not as_json:
        click.echo(_heading(options, given, commit, f"seeds {first} to {sum(seeds) - 1}" if seeds else f"seeds from {first} on"))

    def drawn(seed: int) -> Options:
        return hunt.vary(options, seed, given)

    runs: Iterable[Options]
    runs = map(drawn, range(first, sum(seeds))) if seeds else hunt.until(60 * (minutes or 0.0), first, drawn)
    bag, began = Bag(bool(options.critical)), time.monotonic()
    total = float(seeds[1]) if seeds else 60 * (minutes or 0.0)
    interrupted = False
    with progress.bar(quiet=as_json, unit="seeds" if seeds else "s") as tell:
        try:
            for outcome in hunt.hunt(runs, jobs):
                bag.add(outcome)
                if not outcome.passed:
                    _failed(outcome, keep_in, as_json=as_json)
                if not bag.runs % TOLD_EVERY and not as_json:
                    click.echo(f"  {bag.runs} runs, {len(bag.failures)} failed, {bag.checked['transitions']:,} transitions")
                done = bag.runs if seeds else time.monotonic() - began
                tell(done, total, f"{len(bag.failures)} failed, {bag.checked['transitions']:,} transitions")
        except KeyboardInterrupt:
            interrupted = True
    click.echo(_json(bag, commit) if as_json else "\n".join(_text(bag, time.monotonic() - began)))
    if interrupted:
        return FAILED
    return 1 if bag.failures or not bag.runs or (bag.never() and "faults" not in given) else 0


def _heading(options: Options, given: Sequence[str], commit: str, seeds: str) -> str:
    lines = [f"{seeds}, commit {commit}"]
    for name, value in options.describe().items():
        if name in hunt.SPACE and name not in given:
            choices = ", ".join(map(str, dict.fromkeys(hunt.SPACE[name])))
            lines.append(f"  {name}: drawn from {choices}")
        elif name in ("types", "faults") and name not in given:
            lines.append(f"  {name}: a random subset of all")
        elif name != "seed":
            lines.append(f"  {name}: {value or 'none'}")
    return "\n".join(lines)


def _failed(outcome: Outcome, keep_in: Path | None, *, as_json: bool) -> None:
    click.echo(f"seed {outcome.options.seed} FAILED: {outcome.failure}\n  replay with: {outcome.options.command()}", err=as_json)
    if keep_in is not None:
        hunt.keep(keep_in, outcome)


def _text(bag: Bag, took: float) -> Iterator[str]:
    yield f"  written   {_counts(bag.written)}"
    yield f"  happened  {_counts(bag.happened)}"
    yield f"  checked   {_counts(bag.checked)}"
    for name in bag.never():
        yield f"  NEVER HAPPENED: {name}"
    yield f"  took      {took:.0f} s for {bag.virtual_seconds:,.0f} virtual seconds"
    passed, failed = bag.runs - len(bag.failures), len(bag.failures)
    yield f"{passed} seeds passed, {failed} failed; {bag.checked['transitions']:,} transitions checked"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def _json(bag: Bag, commit: str) -> str:
    return json.dumps(
        {
            "commit": commit,
            "passed": bag.runs - len(bag.failures),
            "failed": [
                {"seed": each.options.seed, "failure": each.failure, "replay": each.options.command()} for each in bag.failures
            ],
            "transitions": bag.checked["transitions"],
            "written": dict(sorted(bag.written.items())),
            "happened": dict(sorted(bag.happened.items())),
            "checked": dict(sorted(bag.checked.items())),
            "never_happened": bag.never(),
        }
    )
