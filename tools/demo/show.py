"""What a person sees of the demo: a progress bar while it runs, a table and a verdict at the end."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mesh.control.protocol import FAILED
from mesh.errors import MeshError
from mesh.nursery import open_plain_nursery
from tools.demo.director import Course, Outcome, run_course
from tools.figures import never_seen, quantile, seen_by_all_ms, told_after_ms

RUN_SECONDS = 50.0
"""About what a whole run takes, for the bar."""


@click.command("demo", short_help="Watch robots share a floor, through loss, a cut and a crash.")
@click.option("--agents", type=click.IntRange(4, 64), default=16, show_default=True, help="Processes to start.")
@click.option("--loss", type=click.FloatRange(0, 0.5), default=0.2, show_default=True, help="Share of datagrams that vanish.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the robots' choices and the losses.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep the agents' directories here.")
def command(agents: int, loss: float, seed: int, as_json: bool, keep: Path | None) -> None:
    """Show robots that share a floor through loss, a cut and a kill.

    Every agent is a process with its own socket, keys and disk; a relay loses datagrams between them. It ends with what was
    measured and a verdict. Exit status 1 unless every replica is byte-equal and no task was claimed twice.
    """
    course = Course(agents=agents, loss=loss, seed=seed)
    console = Console(stderr=as_json)
    try:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            outcome = _run(course, keep, console)
        else:
            with tempfile.TemporaryDirectory(prefix="mesh-demo-") as directory:
                outcome = _run(course, Path(directory), console)
    except MeshError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("demo: stopped, all agents ended", err=True)
        sys.exit(FAILED)
    figures = summarise(outcome)
    if as_json:
        click.echo(json.dumps(figures, indent=2))
    else:
        _print(console, outcome, figures)
    sys.exit(0 if figures["equal"] and not figures["tasks_claimed_twice"] and figures["board_is_one"] else 1)


def _run(course: Course, directory: Path, console: Console) -> Outcome:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=RUN_SECONDS)
        started = time.monotonic()

        def progress(what: str, _limit: float) -> None:
            bar.update(task, description=what)
            if not console.is_terminal:
                console.print(f"{time.monotonic() - started:5.1f} s  {what}")

        async def run() -> Outcome:
            async with open_plain_nursery() as nursery:

                async def tick() -> None:
                    while True:
                        bar.update(task, completed=min(time.monotonic() - started, RUN_SECONDS))
                        await trio.sleep(0.2)

                nursery.start_soon(tick)
                outcome = await run_course(course, directory, progress)
                nursery.cancel_scope.cancel()
            return outcome

        return trio.run(run)


def summarise(outcome: Outcome) -> dict[str, Any]:
    """The figures of a run, ready for JSON."""
    survivors = [report for report in outcome.reports if report["name"] != outcome.victim]
    calm = seen_by_all_ms(survivors, outcome.spans["calm"])  # the notebook of the killed one went with it
    detection = told_after_ms(survivors, "MemberDown", outcome.victim, outcome.killed_at)
    known = [delay for delay in detection if delay is not None]
    return {
        "agents": outcome.course.agents,
        "loss": outcome.course.loss,
        "seed": outcome.course.seed,
        "writes_measured": len(calm),
        "seen_by_all_p50_ms": round(quantile(calm, 0.5), 1) if calm else None,
        "seen_by_all_p99_ms": round(quantile(calm, 0.99), 1) if calm else None,
        "never_seen": never_seen(survivors, outcome.spans["calm"]),
        "healed_after_ms": _rounded(outcome.healed_ms),
        "crash_known_first_ms": _rounded(min(known, default=None)),
        "crash_known_all_ms": _rounded(max(known, default=None) if len(known) == len(detection) else None),
        "settled_after_ms": _rounded(outcome.settled_ms),
        "bytes_per_agent_per_second": round(sum(outcome.relayed_bytes) / outcome.course.agents / outcome.seconds),
        "datagrams": sum(outcome.relayed_datagrams),
        "datagrams_lost": outcome.lost,
        "datagrams_cut": outcome.cut_off,
        "obstacles_found": max((report["obstacles"] for report in outcome.reports), default=0),
        "missions": max((report["missions"] for report in outcome.reports), default=0),
        "tasks_claimed": sum(map(len, outcome.claims.values())),
        "claims_lost": sum(report["claims_lost"] for report in outcome.reports),
        "claims_asked_again": sum(report["claims_asked_again"] for report in outcome.reports),
        "leases_held": sum(len(report["docked"]) for report in outcome.reports),
        "tasks_claimed_twice": outcome.claimed_twice,
        "board_is_one": outcome.board_is_one,
        "seconds": round(outcome.seconds, 1),
        "digests": sorted(set(outcome.digests.values())),
        "equal": outcome.equal,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _print(console: Console, outcome: Outcome, figures: dict[str, Any]) -> None:
    table = Table(title=f"{figures['agents']} agents, {figures['loss']:.0%} loss, {figures['seconds']} s, seed {figures['seed']}")
    table.add_column("what")
    table.add_column("measured", justify="right")
    rows = [
        ("a write is seen by all (p50)", _ms(figures["seen_by_all_p50_ms"])),
        ("a write is seen by all (p99)", _ms(figures["seen_by_all_p99_ms"])),
        ("writes measured, never seen by somebody", f"{figures['writes_measured']}, {figures['never_seen']}"),
        ("cut healed: all replicas equal after", _ms(figures["healed_after_ms"])),
        (f"{outcome.victim} killed: known to the first", _ms(figures["crash_known_first_ms"])),
        (f"{outcome.victim} killed: known to all", _ms(figures["crash_known_all_ms"])),
        ("traffic per agent", f"{figures['bytes_per_agent_per_second']} B/s"),
        ("datagrams, lost, cut off", f"{figures['datagrams']}, {figures['datagrams_lost']}, {figures['datagrams_cut']}"),
        ("obstacles found, missions taken", f"{figures['obstacles_found']}, {figures['missions']}"),
        ("tasks claimed, claims that another robot won", f"{figures['tasks_claimed']}, {figures['claims_lost']}"),
        ("claims asked again, leases held", f"{figures['claims_asked_again']}, {figures['leases_held']}"),
        ("quiet: all replicas equal after", _ms(figures["settled_after_ms"])),
    ]
    for what, measured in rows:
        table.add_row(what, measured)
    console.print(table)
    if figures["tasks_claimed_twice"] or not figures["board_is_one"]:
        console.print(f"[bold red]the task board is not one[/]: claimed twice {figures['tasks_claimed_twice']}")
    else:
        console.print(
            f"[bold green]no task was claimed twice[/], of {figures['tasks_claimed']}, {outcome.victim} killed while it led"
        )
    if figures["equal"]:
        console.print(f"[bold green]every replica is byte-equal[/]: {figures['digests'][0]}")
        return
    console.print("[bold red]replicas differ[/]:")
    for name, digest in sorted(outcome.digests.items()):
        console.print(f"  {name}  {digest}")


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} ms"
