"""`python -m tools.measure NAME`: print what was measured beside what the project aims at."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import trio
from rich.console import Console
from rich.progress import Progress

from mesh.errors import MeshError
from tools.measure import critical, endings, flood, leadership, mesh_runs, micro, secrecy, trust
from tools.measure import forgeries as forged
from tools.measure.state_size import state_size

Figures = dict[str, Any]
agents_option = click.option("--agents", default=32, show_default=True, help="Processes.")
loss_option = click.option(
    "--loss", default=0.0, show_default=True, help="Share of datagrams lost in a relay between the agents."
)


@click.group()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
@click.pass_context
def main(context: click.Context, as_json: bool) -> None:
    """Measurements on this machine: real processes and sockets on loopback. Quote medians and ratios of one run."""
    context.obj = as_json


def _show(context: click.Context, title: str, goal: str, figures: Figures) -> None:
    if context.obj:
        click.echo(json.dumps({"measured": title, "goal": goal, **figures}))
        return
    console = Console()
    console.print(f"[bold]{title}[/]   goal: {goal}")
    for name, value in figures.items():
        console.print(f"  {name:32} {value}")


def _run(title: str, function: Callable[..., Any], *arguments: Any) -> Figures:
    with Console(stderr=True).status(f"{title} ..."):
        try:
            result: Figures = trio.run(function, *arguments)
        except MeshError as error:
            raise click.ClickException(str(error)) from None
    return result


@main.command()
@agents_option
@loss_option
@click.option("--writes", default=200, show_default=True)
@click.pass_context
def convergence(context: click.Context, agents: int, loss: float, writes: int) -> None:
    """From a write until all other agents showed it, beside a bare signed and sealed push."""
    bare = None if loss else _run("bare push", mesh_runs.bare_push, agents, writes)
    figures = _run("convergence", mesh_runs.convergence, agents, writes, loss)
    if bare:
        figures["bare_push_p50_ms"], figures["bare_push_p99_ms"] = bare["p50_ms"], bare["p99_ms"]
        figures["times_bare_push_p50"] = round(figures["p50_ms"] / bare["p50_ms"], 2)
    goal = "p99 <= 500 ms at 20% loss" if loss else "p50 <= 15 ms, p99 <= 60 ms at 32 agents"
    _show(context, "a write is seen by all", goal, figures)


@main.command()
@agents_option
@loss_option
@click.option("--rounds", default=10, show_default=True, help="Agents killed.")
@click.option("--preset", default="lan", show_default=True)
@click.pass_context
def crash(context: click.Context, agents: int, loss: float, rounds: int, preset: str) -> None:
    """From kill -9 until every survivor was told."""
    figures = _run("crash", mesh_runs.crash, agents, rounds, loss, preset)
    _show(context, "a crash is known to all", "p50 <= 1.5 s (lan)", figures)


@main.command("false-deaths")
@agents_option
@click.option("--loss", default=0.1, show_default=True)
@click.option("--seconds", default=600.0, show_default=True)
@click.option("--preset", default="lan", show_default=True)
@click.pass_context
def false_deaths(context: click.Context, agents: int, loss: float, seconds: float, preset: str) -> None:
    """Nobody dies: how many are called dead."""
    figures = _run("false deaths", mesh_runs.false_deaths, agents, seconds, loss, preset)
    _show(context, "false deaths", "0 in 10 minutes at 10% loss", figures)


@main.command()
@agents_option
@click.option("--cut", "cuts", multiple=True, type=float, default=(2.0, 10.0, 30.0), show_default=True, help="Seconds of a cut.")
@click.pass_context
def heal(context: click.Context, agents: int, cuts: tuple[float, ...]) -> None:
    """A 30/70 cut with writes on both sides; from the link's return until all are equal."""
    _show(context, "a cut heals", "equal within 2 s", _run("heal", mesh_runs.heal, agents, list(cuts)))


@main.command()
@agents_option
@click.option("--seconds", default=30.0, show_default=True)
@click.pass_context
def idle(context: click.Context, agents: int, seconds: float) -> None:
    """What an agent costs that has nothing to say."""
    goal = "<= 2 kB/s per agent at 32, RSS <= 45 MiB"
    _show(context, "idle", goal, _run("idle", mesh_runs.idle, agents, seconds))


@main.command()
@click.option("--keys", default=20_000, show_default=True)
@click.option("--authors", default=4, show_default=True)
@click.pass_context
def bootstrap(context: click.Context, keys: int, authors: int) -> None:
    """A newcomer gets everything."""
    figures = _run("bootstrap", mesh_runs.bootstrap, keys, authors)
    _show(context, "keys to a newcomer", "20,000 in <= 5 s", figures)


@main.command("apply")
@click.pass_context
def apply_(context: click.Context) -> None:
    """Signed deltas read, verified and merged on one core."""
    goal = "single-op deltas >= 9,000 /s, ops in full deltas >= 100,000 /s"
    _show(context, "apply rate", goal, micro.apply_rates())


@main.command()
@click.pass_context
def costs(context: click.Context) -> None:
    """What a node does most often, and what strangers can make it do."""
    _show(context, "single costs", "an outsider's datagram <= 10 us", micro.costs())


@main.command()
@click.pass_context
def encrypted(context: click.Context) -> None:
    """What encrypting a value adds to writing and reading it."""
    _show(context, "encrypted values", "a few us and 60 bytes more than in the clear", secrecy.costs())


@main.command()
@click.pass_context
def size(context: click.Context) -> None:
    """Bytes of a signed delta."""
    _show(context, "delta size", "<= 240 bytes alone", micro.delta_size())


@main.command("state-size")
@click.option("--operations", default=100_000, show_default=True, help="Adds and removes; the goal speaks of 1,000,000.")
@click.option("--authors", default=3, show_default=True)
@click.option("--integers", is_flag=True, help="Elements are small integers, not texts of 11 bytes.")
@click.option("--seed", default=1, show_default=True)
@click.pass_context
def state_size_(context: click.Context, operations: int, authors: int, integers: bool, seed: int) -> None:
    """What is left of many random adds and removes in one set, on virtual time."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("state size", total=operations)
        figures = state_size(operations, authors, seed, lambda done: bar.update(task, advance=done), integers=integers)
    _show(context, "state after adds and removes", "at rest <= 1.2 times a fresh replica's", figures)


@main.command()
@click.option("--count", default=1_000_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
@click.pass_context
def forgeries(context: click.Context, count: int, seed: int) -> None:
    """Forged datagrams and claims into a living agent, on virtual time. Exit status 1 when it accepted one."""
    with Progress(console=Console(stderr=True), transient=True, disable=context.obj) as bar:
        task = bar.add_task("forgeries", total=count)
        figures = forged.forgeries(count, forged.Victim(seed), lambda done: bar.update(task, advance=done))
    _show(context, "forged datagrams and claims", "0 of 10^6 accepted", figures)
    if figures["accepted"] or not figures["victim_still_in_step"]:
        context.exit(1)


@main.command("flood")
@click.option(
    "--kind", "kinds", multiple=True, default=("outsider", "member"), show_default=True, help="Or one kind alone: see below."
)
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--share", default=0.8, show_default=True, help="Of the drain rate that was measured just before.")
@click.pass_context
def flood_(context: click.Context, kinds: tuple[str, ...], seconds: float, share: float) -> None:
    """One agent is flooded, on real sockets; it and its neighbours go on writing.

    Kinds: outsider (garbage, init and replay in turn), member (deltas, digests, statements and listings in turn).
    """
    goal = "RSS +10 MB at most, no false death, own writes < 1 s"
    for kind in kinds:
        _show(context, f"flood by {kind}", goal, _run(f"flood by {kind}", flood.flood, kind, seconds, share))


@main.command("trust")
@click.option("--honest", default=50, show_default=True)
@click.option("--hostile", default=21, show_default=True, help="Measured without them first.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--sockets", default=12, show_default=True, help="Agents of the run on real sockets; 0: none.")
@click.option("--seed", default=1, show_default=True)
@click.pass_context
def trust_(context: click.Context, honest: int, hostile: int, rounds: int, sockets: int, seed: int) -> None:
    """Until all honest agents have acted on a fork, a hidden delta, a revocation; and what a clock ten years ahead does."""
    goal = "each < 1 s; no later write lost, nobody's clock moved"
    for liars in sorted({0, hostile}):
        _show(context, f"trust, {liars} hostile, virtual time", goal, trust.trust(honest, liars, rounds, seed))
    if sockets:
        _show(context, "trust, real sockets", goal, _run("trust on sockets", trust.on_sockets, sockets, rounds))


@main.command("endings")
@click.option("--agents", default=72, show_default=True, help="The first is the one that ends.")
@click.option("--hostile", default=0.3, show_default=True, help="Share of members that bend what they pass on.")
@click.option("--rounds", default=3, show_default=True)
@click.pass_context
def endings_(context: click.Context, agents: int, hostile: float, rounds: int) -> None:
    """From a fork, a hidden delta, a revocation or a cut until all honest agents act on it, among lying relays. Virtual time."""
    goal = "< 1 s with 50 honest agents, with 30% hostile ones too"
    _show(context, "shelves end", goal, endings.endings(agents, hostile, rounds))


@main.command("critical")
@click.option("--voters", default=3, show_default=True, type=click.IntRange(1, 5))
@click.option("--seconds", default=5.0, show_default=True, help="Of each stretch of writing.")
@click.option("--failovers", default=5, show_default=True, help="Leaders of five voters killed with -9, each in a new quorum.")
@click.option("--virtual", default=20, show_default=True, help="The same on virtual time, where a busy machine blurs nothing.")
@click.pass_context
def critical_(context: click.Context, voters: int, seconds: float, failovers: int, virtual: int) -> None:
    """Critical writes of real processes with disks; what a dead leader costs. `mesh bench --only critical` has etcd beside it."""
    figures = _run("critical writes", critical.writes, voters, seconds)
    goal = "p50 <= 1.3 x etcd's, 64 clients >= etcd's, batches of 32 >= 20,000 entries/s"
    _show(context, f"a critical write, {voters} voters", goal, figures)
    if failovers:
        gaps = _run("failover", critical.failovers, failovers)
        _show(context, "a leader of five is killed", "next commit p50 <= 300 ms, p99 <= 700 ms", gaps)
    if virtual:
        goal = "next commit p50 <= 300 ms, p99 <= 700 ms, the best leads in >= 99%"
        _show(context, "the same on virtual time", goal, critical.virtual_failovers(virtual))


@main.command("quorum")
@click.option("--rounds", default=20, show_default=True, help="Of failovers and depositions; 200 are what is worth quoting.")
@click.option("--handbacks", default=3, show_default=True)
@click.option("--minutes", default=2.0, show_default=True, help="Virtual, with scores that change every five seconds; 0: none.")
@click.pass_context
def quorum_(context: click.Context, rounds: int, handbacks: int, minutes: float) -> None:
    """Who leads: failover, deposition by refusals, handback, oscillating scores, on virtual time; checking a certificate."""
    _show(context, "a certificate of three signatures", "<= 0.5 ms of CPU", leadership.verification(2000))
    if rounds:
        goal = "next commit p50 <= 300 ms, p99 <= 700 ms, the best leads in >= 99%"
        _show(context, "the leader of five dies", goal, critical.virtual_failovers(rounds))
        goal = "next leader p50 <= 100 ms, p99 <= 500 ms; leads again in 0"
        _show(context, "a majority refuses the leader's own wish", goal, leadership.deposed(rounds))
    if handbacks:
        _show(context, "the best voter returns", "write gap p99 <= 100 ms", leadership.handback(handbacks))
    if minutes:
        _show(context, "scores oscillate", "<= 1 leader change per minute", leadership.oscillating(minutes))


@main.command("agreed")
@click.option("--agents", default=32, show_default=True, type=click.IntRange(7))
@click.option("--voters", default=5, show_default=True, type=click.IntRange(1, 5), help="Of the real ones; five of the others.")
@click.option("--writes", default=100, show_default=True, type=click.IntRange(1))
@click.pass_context
def agreed_(context: click.Context, agents: int, voters: int, writes: int) -> None:
    """From a critical write on an agent that does not vote until all agents have it with its proof: real processes with disks;
    and on virtual time, where a busy machine blurs nothing."""
    goal = "p99 <= 500 ms on 32 agents"
    _show(context, "a critical write is everywhere, proven, on virtual time", goal, leadership.everywhere(writes, agents))
    figures = _run("agreed", mesh_runs.agreed_everywhere, agents, voters, writes)
    _show(context, "a critical write is everywhere, proven", goal, figures)


if __name__ == "__main__":
    main()
