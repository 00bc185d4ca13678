"""`python -m tools.fuzz`: hunt for bytes that break something."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tools.fuzz import corpus
from tools.fuzz.runner import Finding, Tally, run, shares
from tools.fuzz.subject import Target
from tools.fuzz.targets import TARGETS

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C, as a shell gives it."""
SHOWN_BYTES_MAX: Final = 200
"""Of an input that is printed."""


@click.command()
@click.option("--inputs", default=100_000, show_default=True, type=click.IntRange(1), help="Over all targets, by their weights.")
@click.option("--seed", type=int, help="Everything random comes from it. Without it: a fresh one, which is printed.")
@click.option("--target", "names", multiple=True, type=click.Choice(sorted(TARGETS)), help="Only this one; may be repeated.")
@click.option("--list", "as_list", is_flag=True, help="List the targets.")
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), help="Write what was found there, to be replayed.")
@click.option("--replay", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Feed a saved file, nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def main(
    inputs: int, seed: int | None, names: tuple[str, ...], as_list: bool, save: Path | None, replay: Path | None, as_json: bool
) -> None:
    """Feed nearly valid bytes to everything that reads bytes of others, and whole datagrams to a living agent.

    Exit status 1: something broke. The inputs that did it are printed, cut down to the least, and the seed replays the run.
    """
    if as_list:
        for target in TARGETS.values():
            click.echo(f"{target.name:14} {target.about}")
        return
    if replay is not None:
        _replay(replay)
        return
    seed = secrets.randbits(32) if seed is None else seed
    chosen = [TARGETS[name] for name in names] if names else list(TARGETS.values())
    counts = shares(chosen, inputs)
    if not as_json:
        click.echo(f"seed {seed}, {sum(counts.values()):,} inputs, {len(chosen)} targets")
    tallies, interrupted = _run_all(chosen, counts, seed, quiet=as_json)
    findings = [finding for tally in tallies.values() for finding in tally.findings]
    paths = [_save(save, finding) for finding in findings] if save is not None else []
    if as_json:
        click.echo(json.dumps(_as_json(seed, tallies, interrupted)))
    else:
        _print(tallies, findings, paths)
        if interrupted:
            click.echo(f"interrupted; the same inputs again: --seed {seed}", err=True)
    sys.exit(1 if findings else INTERRUPTED if interrupted else 0)


def _run_all(chosen: list[Target], counts: dict[str, int], seed: int, *, quiet: bool) -> tuple[dict[str, Tally], bool]:
    """By target; and whether Ctrl-C ended it."""
    tallies: dict[str, Tally] = {}
    columns = (TextColumn("{task.description:14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task("", total=sum(counts.values()))

        def tell(target: Target, count: int) -> None:
            bar.update(task, advance=count, description=target.name)

        try:
            for target in chosen:
                tally = tallies[target.name] = Tally()
                run(target, counts[target.name], seed, tell, tally=tally)
        except KeyboardInterrupt:
            return tallies, True
    return tallies, False


def _replay(path: Path) -> None:
    try:
        case = corpus.load(path)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{case.target.name}: {case.about}")
    case.replay()
    click.echo("nothing broke")


def _save(folder: Path, finding: Finding) -> Path:
    return corpus.save(folder, finding.name, finding.error, finding.target, finding.inputs)


def _print(tallies: dict[str, Tally], findings: list[Finding], paths: list[Path]) -> None:
    click.echo(f"{'target':14} {'inputs':>9} {'accepted':>9} {'us each':>8} {'slowest':>9}  found")
    for name, tally in tallies.items():
        each = tally.seconds / max(1, tally.inputs) * 1e6
        share = tally.accepted / max(1, tally.inputs)
        click.echo(
            f"{name:14} {tally.inputs:9,} {share:9.0%} {each:8.0f} {tally.slowest_ms:6.0f} ms  {len(tally.findings) or ''}"
        )
    click.echo(f"{'all':14} {sum(tally.inputs for tally in tallies.values()):9,}")
    for finding in findings:
        click.echo(f"\n{finding.target.name}, block {finding.block}, {len(finding.inputs)} inputs\n{finding.trace}")
        for data in finding.inputs[:10]:
            click.echo(
                f"  {data.hex() if len(data) <= SHOWN_BYTES_MAX else data[:SHOWN_BYTES_MAX].hex() + ' ... (--save writes all)'}"
            )
    for path in paths:
        click.echo(f"saved: {path}")


def _as_json(seed: int, tallies: dict[str, Tally], interrupted: bool) -> dict[str, Any]:
    rows = {
        name: {
            "inputs": tally.inputs,
            "accepted": tally.accepted,
            "seconds": round(tally.seconds, 3),
            "slowest_ms": round(tally.slowest_ms, 3),
            "findings": [
                {"block": each.block, "error": each.error, "inputs": [data.hex() for data in each.inputs]}
                for each in tally.findings
            ],
        }
        for name, tally in tallies.items()
    }
    return {"seed": seed, "inputs": sum(tally.inputs for tally in tallies.values()), "interrupted": interrupted, "targets": rows}


if __name__ == "__main__":
    main()
