"""`mesh sim`: plan a deployment, play a scenario, hunt for bugs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import click

from mesh.errors import MeshError
from mesh.presets import PRESETS
from tools.sim import report, scenario, units
from tools.sim.faults import KINDS
from tools.sim.history import Outcome, Run, run, shrink
from tools.sim.options import Options
from tools.sim.scenario import Limits, Scenario
from tools.sim.workload import ACTS

HELP: Final = """Simulate a mesh: real agents, virtual time, one seed.

\b
  mesh sim --nodes 200 --loss 10% --delay 30ms       what a deployment will be like
  mesh sim --scenario partition-and-heal             one of the shipped scenarios, or a file of your own
  mesh sim --faults all --seed 7                     a fault history drawn by seed, and every checker
  mesh sim --soak 10                                 fresh seeds for ten minutes

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
@click.option("--faults", help=f"Kinds to draw from, or all: {','.join(KINDS)}.")
@click.option("--script", help="A file of timed verbs to play instead of drawing faults.")
@click.option("--delay", help="Of links: 30ms, 10-50ms (each datagram), links:10-50ms (each link), lognormal:30ms,0.5.")
@click.option("--loss", help="Share of datagrams lost, e.g. 10%.")
@click.option("--bandwidth", help="Of each link, e.g. 8Mbit/s.")
@click.option("--disks/--no-disks", default=None, help="Whether agents keep their state on disks.")
@click.option("--warm/--no-warm", default=None, help="Whether everybody knows everybody at the start.")
@click.option("--drift", type=float, help="Clocks are fast or slow by up to so many parts per million.")
@click.option("--skew", help="Wall clocks are off by up to this.")
@click.option("--rest", help="Look whether housekeeping comes to rest within this after the calm, e.g. 120s.")
@click.option("--cost", help="Time that one received datagram takes a machine, e.g. 100us.")
@click.option("--soak", "minutes", type=float, help="Run fresh seeds with drawn faults for so many minutes.")
@click.option("--shrink", "cut_down", is_flag=True, help="When a drawn history fails, look for the fewest lines that still fail.")
@click.option("--svg", "svg_path", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture of the run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def command(ctx: click.Context, /, name: str | None, as_list: bool, minutes: float | None, **given: Any) -> None:
    if as_list:
        for each in scenario.names():
            click.echo(f"{each:<24}{scenario.load(each).title}: {scenario.load(each).about}")
        return
    cut_down, svg_path, as_json = given.pop("cut_down"), given.pop("svg_path"), given.pop("as_json")
    try:
        chosen = _chosen(name, given)
    except (units.TextError, MeshError) as error:
        raise click.UsageError(str(error)) from error
    if minutes is not None:
        ctx.exit(_soak(chosen.options, minutes, as_json))
    ctx.exit(_once(chosen, as_json=as_json, svg_path=svg_path, cut_down=cut_down))


def _chosen(name: str | None, given: dict[str, Any]) -> Scenario:
    base = scenario.load(name) if name else Scenario("", "", "", Options())
    changes = {option: value for option, value in given.items() if value is not None}
    if "faults" in changes:
        changes["faults"] = list(KINDS) if changes["faults"] == "all" else changes["faults"].split(",")
    if "types" in changes:
        changes["types"] = changes["types"].split(",")
    if "script" in changes:
        try:
            changes["script"] = Path(changes["script"]).read_text(encoding="utf-8")
        except OSError as error:
            raise units.TextError(f"cannot read {changes['script']}: {error.strerror}") from error
    options = scenario.options_of("the command line", changes, base.options)
    options.check()
    return replace(base, options=options)


def _once(chosen: Scenario, *, as_json: bool, svg_path: Path | None, cut_down: bool) -> int:
    one = Run(chosen.options, watch=None if as_json else _progress)
    if not as_json:
        if chosen.title:
            click.echo(f"{chosen.title}: {chosen.about}")
        click.echo(report.heading(one, commit()))
    began = time.monotonic()
    outcome = one.play()
    took = time.monotonic() - began
    missed = _missed(chosen.limits, report.summary(one)) if outcome.passed else []
    if svg_path is not None:
        svg_path.write_text(report.picture(one), encoding="utf-8")
    if as_json:
        options = {"options": chosen.options.describe(), "script": [str(line) for line in one.script], "commit": commit()}
        click.echo(json.dumps({**options, **report.summary(one), "missed": missed}, ensure_ascii=False))
    else:
        click.echo(report.text(one))
        click.echo(f"  {'took':<22}{took:.1f} s for {outcome.virtual_seconds:.1f} virtual seconds")
        _verdict(one, missed, cut_down=cut_down)
    return 0 if outcome.passed and not missed else 1


def _progress(one: Run) -> None:
    if sys.stderr.isatty():
        mesh = one.mesh
        click.echo(f"\r  {mesh.now:8.1f} s  {len(mesh.running)} up  {mesh.world.events_handled} events", nl=False, err=True)


def _verdict(one: Run, missed: list[str], *, cut_down: bool) -> None:
    outcome = one.outcome
    for text in missed:
        click.echo(f"limit not kept: {text}")
    if outcome.passed:
        click.echo("all checks passed")
        return
    click.echo(f"FAILED: {outcome.failure}")
    click.echo(f"replay with: {one.options.command()}")
    if cut_down:
        lines = shrink(one.options, outcome.script, lambda options: run(options).failed == outcome.failed)
        click.echo("fewest lines that still fail:")
        for line in lines:
            click.echo(f"  {line}")


def _missed(limits: Limits, summary: dict[str, Any]) -> list[str]:
    found = {
        "converge": summary["converged_after_seconds"],
        "p99_ms": summary["write_to_everybody_ms"]["p99"],
        "detect": summary["detection_seconds"]["p99"],
        "false_deaths": summary["false_deaths"],
        "bytes_per_second": summary["per_node"]["bytes_per_second"],
    }
    missed = []
    for limit in fields(limits):
        most = getattr(limits, limit.name)
        if most is not None and (found[limit.name] is None or found[limit.name] > most):
            missed.append(f"{limit.name} is {found[limit.name]}, should be at most {most:g}")
    return missed


def _soak(options: Options, minutes: float, as_json: bool) -> int:
    """Fresh seeds from the given one on, each with its own subset of faults, until the time is up. The first failure ends it."""
    if not options.faults and not options.script:
        options = replace(options, faults=tuple(KINDS))
    end, seed, transitions = time.monotonic() + 60 * minutes, options.seed, 0
    while time.monotonic() < end:
        outcome = run(replace(options, seed=seed))
        transitions += sum(outcome.counts.values())
        if not as_json:
            click.echo(soak_line(outcome))
        if not outcome.passed:
            click.echo(
                json.dumps({"failed": outcome.failed, "failure": outcome.failure, "seed": seed})
                if as_json
                else f"FAILED: {outcome.failure}"
            )
            click.echo(f"replay with: {outcome.options.command()}", err=as_json)
            return 1
        seed += 1
    passed = seed - options.seed
    if as_json:
        click.echo(json.dumps({"passed": passed, "first_seed": options.seed, "transitions": transitions}))
    else:
        click.echo(f"{passed} seeds passed, {options.seed} to {seed - 1}; {transitions} transitions checked")
    return 0


def soak_line(outcome: Outcome) -> str:
    state = "ok" if outcome.passed else "FAILED"
    writes = sum(outcome.writes.values())
    calm = "-" if outcome.converged_after is None else f"{outcome.converged_after:.2f} s"
    events = len(outcome.script)
    return f"seed {outcome.options.seed}: {state}, {writes} writes, {events} events, calm {calm}, digest {outcome.digest[:12]}"


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
