"""`mesh sim`: plan a deployment, play a scenario, hunt for bugs."""

from __future__ import annotations

import json
import math
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from mesh.errors import MeshError
from mesh.presets import PRESETS
from tools.garbage import SIMULATED, collect_no_more, collect_rarely
from tools.sim import hunting, progress, report, scenario, units
from tools.sim.critical import may_happen
from tools.sim.faults import KINDS
from tools.sim.history import Run, run, shrink
from tools.sim.options import Options
from tools.sim.scenario import Scenario
from tools.sim.workload import ACTS

HELP: Final = """Simulate a mesh: real agents, virtual time, one seed.

\b
  mesh sim --nodes 200 --loss 10% --delay 30ms       what a deployment will be like
  mesh sim --scenario partition-and-heal             one of the shipped scenarios, or a file of your own
  mesh sim --faults all --seed 7                     a fault history drawn by seed, and every checker
  mesh sim --seeds 0 2000 --jobs 2                   so many fault histories, each with options of its own
  mesh sim --soak 10                                 fresh ones for ten minutes

Exit status 1: a checker found something, or a limit of the scenario was not kept; the command that replays it is printed.
"""


@click.command(help=HELP)
@click.option("--scenario", "name", help="A shipped scenario (see --list) or a .toml file.")
@click.option("--list", "as_list", is_flag=True, help="List the scenarios that ship.")
@click.option("--nodes", type=click.IntRange(1, 20_000), help="Agents.")
@click.option("--seed", type=int, help="Everything random comes from it.")
@click.option("--preset", type=click.Choice(sorted(PRESETS)))
@click.option("--seconds", help="Length of the phase with writes and faults, e.g. 20s, 30d.")
@click.option("--rate", type=float, help="Writes per second in the whole mesh.")
@click.option("--paths", type=int, help="Paths per type; few, so that writers collide.")
@click.option("--types", help=f"Types written: {','.join(ACTS)}.")
@click.option("--faults", help=f"Kinds that happen, drawn by the seed, or all: {','.join(KINDS)}.")
@click.option("--script", help="A file of timed verbs to play instead of drawing faults; or the lines themselves.")
@click.option("--finale", help="As --script; played after the calm, to look at the end.")
@click.option("--delay", help="Of links: 30ms, 10-50ms (each datagram), links:10-50ms (each link), lognormal:30ms,0.5.")
@click.option("--loss", help="Share of datagrams lost, e.g. 10%.")
@click.option("--bandwidth", help="Of each link, e.g. 8Mbit/s.")
@click.option("--disks/--no-disks", default=None, help="Whether agents keep their state on disks.")
@click.option("--warm/--no-warm", default=None, help="Whether everybody knows everybody at the start.")
@click.option("--introduced/--not-introduced", default=None, help="Whether the mesh starts as if it had been running.")
@click.option("--drift", type=float, help="Clocks are fast or slow by up to so many parts per million.")
@click.option("--skew", help="Wall clocks are off by up to this.")
@click.option("--rest", help="Look whether housekeeping comes to rest within this after the calm, e.g. 120s.")
@click.option("--cost", help="Time that one received datagram takes a machine, e.g. 100us.")
@click.option("--critical", type=float, help="Critical operations per second; a quorum of --voters agrees on them.")
@click.option("--voters", type=click.IntRange(1, 15), help="Agents enrolled as voters, with --critical.")
@click.option("--stalls", help="Share of the nodes that stall for up to a second now and then, e.g. 5%.")
@click.option("--seeds", nargs=2, type=int, metavar="FIRST COUNT", help="Run so many seeds with drawn faults and options.")
@click.option("--soak", "minutes", type=float, help="The same for so many minutes, from --seed on or any.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes for --seeds and --soak.")
@click.option(
    "--keep", "keep_in", type=click.Path(dir_okay=False, path_type=Path), help="Append what fails to this file of seeds."
)
@click.option("--shrink", "cut_down", is_flag=True, help="When a drawn history fails, look for the fewest lines that still fail.")
@click.option("--svg", "svg_path", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture of the run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def command(ctx: click.Context, /, name: str | None, as_list: bool, **given: Any) -> None:
    if as_list:
        shipped = {each: scenario.load(each) for each in scenario.names()}
        if given["as_json"]:
            click.echo(json.dumps({name: {"title": each.title, "about": each.about} for name, each in shipped.items()}))
        else:
            click.echo("\n".join(f"{name:<24}{each.title}: {each.about}" for name, each in shipped.items()))
        return
    how = {option: given.pop(option) for option in ("cut_down", "svg_path", "as_json", "seeds", "minutes", "jobs", "keep_in")}
    try:
        chosen = _chosen(name, given)
        if how["seeds"] and how["seeds"][1] < 1:
            raise units.TextError(f"--seeds {how['seeds'][0]} {how['seeds'][1]}: at least one seed")
        if how["minutes"] is not None and not 0 < how["minutes"] < math.inf:
            raise units.TextError(f"--soak {how['minutes']}: minutes, more than 0")
        if how["svg_path"] is not None and not how["svg_path"].absolute().parent.is_dir():
            raise units.TextError(f"{how['svg_path'].parent} is no directory: where should the picture go?")
        if how["seeds"] or how["minutes"] is not None:
            fixed = [option for option, value in given.items() if value is not None]
            ctx.exit(hunting.go(chosen.options, fixed, commit(), **how))
        ctx.exit(_once(chosen, as_json=how["as_json"], svg_path=how["svg_path"], cut_down=how["cut_down"]))
    except (units.TextError, MeshError) as error:
        raise click.UsageError(str(error)) from error


def _chosen(name: str | None, given: dict[str, Any]) -> Scenario:
    base = scenario.load(name) if name else Scenario("", "", "", Options())
    changes = {option: value for option, value in given.items() if value is not None}
    if "faults" in changes:
        kinds = may_happen(tuple(KINDS)) if changes.get("critical") else tuple(KINDS)
        changes["faults"] = list(kinds) if changes["faults"] == "all" else changes["faults"].split(",")
    if "types" in changes:
        changes["types"] = changes["types"].split(",")
    for name in ("script", "finale"):
        if name in changes:
            changes[name] = _lines(changes[name])
    options = scenario.options_of("the command line", changes, base.options)
    options.check()
    return replace(base, options=options)


def _lines(text: str) -> str:
    """Of a file; or the text itself, where it has more than one word."""
    if " " in text and not Path(text).exists():
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except OSError as error:
        raise units.TextError(f"cannot read {text}: {error.strerror}") from error


def _once(chosen: Scenario, *, as_json: bool, svg_path: Path | None, cut_down: bool) -> int:
    with progress.bar(quiet=as_json) as tell:
        one = Run(chosen.options, watch=lambda run: _watch(run, tell), sampled=svg_path is not None)
        if not as_json:
            if chosen.title:
                click.echo(f"{chosen.title}: {chosen.about}")
            click.echo(report.heading(one, commit()))
        collect_rarely(SIMULATED)
        began, began_cpu = time.monotonic(), time.process_time()
        outcome = one.play()
        took, took_cpu = time.monotonic() - began, time.process_time() - began_cpu
    summary = report.summary(one)
    missed = [text for must in chosen.must if (text := must.missed(summary))] if outcome.passed else []
    if svg_path is not None:
        svg_path.write_text(report.picture(one), encoding="utf-8")
    if as_json:
        options = {"options": chosen.options.describe(), "script": [str(line) for line in one.script], "commit": commit()}
        click.echo(json.dumps({**options, **summary, "missed": missed}, ensure_ascii=False))
    else:
        click.echo(report.text(one))
        click.echo(f"  {'took':<22}{took:.1f} s, {took_cpu:.1f} s of a core, for {outcome.virtual_seconds:.1f} virtual seconds")
        for must in chosen.must:
            if must.missed(summary) is None:
                click.echo(f"  as it must be: {'.'.join(must.figure)} {must}, is {must.found(summary):g}")
        _verdict(one, missed, cut_down=cut_down)
    collect_no_more()
    return 0 if outcome.passed and not missed else 1


def _watch(one: Run, tell: progress.Tell) -> None:
    mesh = one.mesh
    tell(mesh.now, one.expected_seconds, f"{len(mesh.running)} up, {mesh.world.events_handled:,} events")


def _verdict(one: Run, missed: list[str], *, cut_down: bool) -> None:
    outcome = one.outcome
    for text in missed:
        click.echo(f"NOT AS IT MUST BE: {text}")
    if outcome.passed:
        if not missed:
            click.echo(f"all checks passed, at {outcome.counts['transitions']} transitions")
        return
    click.echo(f"FAILED: {outcome.failure}")
    click.echo(f"replay with: {one.options.command()}")
    if cut_down:
        lines = shrink(one.options, outcome.script, lambda options: run(options).failed == outcome.failed)
        click.echo("fewest lines that still fail:")
        for line in lines:
            click.echo(f"  {line}")


def commit() -> str:
    """Of the checkout that this program runs from; "installed" outside of one."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return "installed"
    return found.stdout.strip()
