"""`mesh bench`: runs, shows, keeps and redraws."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tools.bench import results, runner
from tools.bench.network import enter_private_network
from tools.bench.plan import FULL, QUICK
from tools.bench.plot import ecdf
from tools.bench.suite import BENCHMARKS

HELP: Final = """Measure the mesh and its peers on this machine, in one run, interleaved.

\b
  mesh bench --quick                          a look, in some minutes
  mesh bench                                  the figures of BENCHMARKS.md, about an hour
  mesh bench --only convergence --runs 5      one benchmark (see --list), as often as you like
  mesh bench --update BENCHMARKS.md           the same, and rewrite the tables and plots of that file

Peers that are not installed are left out, and the table says how to install them:
pip install 'gossipmesh[bench]'; apt-get install serf etcd-server etcd-client
"""
BEGIN: Final = "<!-- figures: written by `mesh bench --update` -->"
END: Final = "<!-- end of figures -->"
NAMES: Final = [benchmark.name for benchmark in BENCHMARKS]


@click.command(help=HELP)
@click.option("--quick", is_flag=True, help="Fewer processes, fewer writes, one run: to see that it works, not to quote.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Of all benchmarks this one; can be given several times.")
@click.option("--runs", type=click.IntRange(1, 100), help="Times that everything is measured [default: 3, with --quick 1].")
@click.option("--list", "as_list", is_flag=True, help="List the benchmarks.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("--markdown", is_flag=True, help="Print the tables of BENCHMARKS.md.")
@click.option("--update", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Rewrite the tables in this file.")
@click.option("--plots", type=click.Path(file_okay=False, path_type=Path), help="Write the plots (SVG) here.")
@click.option("--keep", type=click.Path(dir_okay=False, path_type=Path), help="Keep the JSON here, for --from.")
@click.option(
    "--from",
    "kept",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show what was kept, run nothing. Of several files the later replace the benchmarks that they have.",
)
@click.option("--shared-network", is_flag=True, help="Stay on the machine's own loopback interface.")
def command(
    quick: bool,
    only: tuple[str, ...],
    runs: int | None,
    as_list: bool,
    as_json: bool,
    markdown: bool,
    update: Path | None,
    plots: Path | None,
    keep: Path | None,
    kept: tuple[Path, ...],
    shared_network: bool,
) -> None:
    scale = QUICK if quick else FULL
    if as_list:
        titles = {benchmark.name: benchmark.title(scale) for benchmark in BENCHMARKS}
        if as_json:
            click.echo(json.dumps(titles))
        else:
            click.echo("\n".join(f"{name:<14}{title}" for name, title in titles.items()))
        return
    if update is not None:
        _around_tables(update)  # what cannot be written is said before an hour has gone by
    if keep is not None:
        _try_to_write(keep, kept)
    if kept:
        if quick or runs or shared_network:
            raise click.UsageError("--from runs nothing: --quick, --runs and --shared-network say how to run")
        result = _chosen(results.together([_read(path) for path in kept]), only)
        _keep(keep, result)
    else:
        chosen = runner.choose(BENCHMARKS, only)
        if not shared_network and not enter_private_network():
            click.echo("no network namespace: traffic counts include whatever else uses loopback on this machine", err=True)
        times = runs or (1 if quick else 3)
        with _Bar(runner.plan(chosen, times)) as bar:
            result = trio.run(runner.run, chosen, scale, times, bar, partial(_keep, keep))
    if plots is not None or update is not None:
        _draw(result, plots or Path("tools/bench/plots"))
    if update is not None:
        _update(update, results.markdown(result))
    if as_json:
        click.echo(json.dumps(result))
    elif markdown:
        click.echo(results.markdown(result))
    elif update is None:
        _show(result, Console())


class _Bar:
    """Progress on stderr."""

    def __init__(self, total: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begins(self, benchmark: str, contestant: str, run: int) -> None:
        self._progress.update(self._task, description=f"{benchmark}: {contestant}, run {run + 1}")

    def ends(self) -> None:
        self._progress.advance(self._task)


def _read(kept: Path) -> dict[str, Any]:
    try:
        result = json.loads(kept.read_text(encoding="utf-8"))
        if not all({"name", "title", "plot", "figures", "contestants"} <= benchmark.keys() for benchmark in result["benchmarks"]):
            raise KeyError("of a benchmark")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise click.UsageError(f"{kept} is nothing that `mesh bench --keep` wrote", click.get_current_context()) from error
    return cast(dict[str, Any], result)


def _try_to_write(keep: Path, kept: tuple[Path, ...]) -> None:
    """What fails is said before an hour has gone by."""
    if keep.resolve() in [path.resolve() for path in kept]:
        raise click.UsageError(f"--keep {keep} would overwrite what --from shows: take another name")
    try:
        keep.open("a").close()
    except OSError as error:
        raise click.UsageError(f"--keep {keep}: {error.strerror}") from error


def _chosen(result: dict[str, Any], only: tuple[str, ...]) -> dict[str, Any]:
    """Of what was kept; all of it where none is named."""
    there = {benchmark["name"]: benchmark for benchmark in result["benchmarks"]}
    if missing := sorted(set(only) - there.keys()):
        raise click.UsageError(f"what was kept has no {', '.join(missing)}: it has {', '.join(sorted(there)) or 'nothing'}")
    return {**result, "benchmarks": [benchmark for name, benchmark in there.items() if not only or name in only]}


def _keep(path: Path | None, result: dict[str, Any]) -> None:
    """After every benchmark, so that an hour is not lost to Ctrl-C."""
    if path is not None:
        path.write_text(json.dumps(result) + "\n", encoding="utf-8")


def _draw(result: dict[str, Any], directory: Path) -> None:
    for benchmark in result["benchmarks"]:
        curves = {contestant["name"]: contestant["curve"] for contestant in benchmark["contestants"] if contestant["curve"]}
        if benchmark["plot"] and curves:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{benchmark['name']}.svg").write_text(ecdf(benchmark["plot"], curves), encoding="utf-8")


def _around_tables(document: Path) -> tuple[str, str]:
    text = document.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise click.UsageError(f"{document} has no lines {BEGIN!r} and {END!r} to write between")
    return head, tail


def _update(document: Path, tables: str) -> None:
    head, tail = _around_tables(document)
    document.write_text(f"{head}{BEGIN}\n\n{tables}\n\n{END}{tail}", encoding="utf-8")


def _show(result: dict[str, Any], console: Console) -> None:
    for benchmark in result["benchmarks"]:
        here = results.measured(benchmark)
        table = Table(title=benchmark["title"], title_justify="left")
        table.add_column("")
        for name in here:
            table.add_column(name, justify="right")
        for figure in benchmark["figures"]:
            if figure["median"]:
                cells = [results.cell(figure, name).replace("**", "") for name in here]
                table.add_row(f"{figure['title']} {figure['unit']}".strip(), *cells)
        console.print(table)
        for contestant in benchmark["contestants"]:
            if contestant["trouble"]:
                console.print(f"  {contestant['name']}: {contestant['trouble']}", style="yellow", markup=False)
    goals = Table("work", "goal", "measured", "met", title="Goals", title_justify="left")
    for row in results.goals_met(result["benchmarks"]):
        goals.add_row(*row)
    console.print(goals)
    console.print("Before a cell of another: how many times better gossipmesh is; below 1 the other is ahead.", style="dim")
