"""Medians, ratios, goals: what a run says. Pure; what `--json` prints is exactly what the tables are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tools.bench.plan import OURS, Benchmark, Contestant, Figure, Goal, Sample, Scale


@dataclass
class Outcome:
    """One contestant in one benchmark. `missing`: why it cannot run here; `failures`: of runs that came to nothing."""

    contestant: Contestant
    missing: str = ""
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def trouble(self) -> str:
        if not self.failures:
            return self.missing
        return f"{len(self.failures)} of {len(self.failures) + len(self.samples)} runs failed: {self.failures[-1]}"

    def values(self, key: str) -> list[float]:
        return [sample.figures[key] for sample in self.samples if key in sample.figures]

    @property
    def curve(self) -> list[float]:
        return [value for sample in self.samples for value in sample.curve]


def outcome_json(benchmark: Benchmark, scale: Scale, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything that is known about one benchmark; the tables are made of this."""
    return {
        "name": benchmark.name,
        "title": benchmark.title(scale),
        "method": benchmark.method,
        "plot": benchmark.plot,
        "contestants": [
            {
                "name": outcome.contestant.name,
                "configuration": outcome.contestant.configuration,
                "durability": outcome.contestant.durability,
                "trouble": outcome.trouble,
                "curve": [round(value, 3) for value in sorted(outcome.curve)],
            }
            for outcome in outcomes
        ],
        "figures": [_figure_json(figure, outcomes) for figure in benchmark.figures],
    }


def _figure_json(figure: Figure, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    values = {outcome.contestant.name: outcome.values(figure.key) for outcome in outcomes}
    medians = {name: median(numbers) for name, numbers in values.items() if numbers}
    return {
        "key": figure.key,
        "title": figure.title,
        "unit": figure.unit,
        "higher_is_better": figure.higher_is_better,
        "median": medians,
        "min": {name: min(numbers) for name, numbers in values.items() if numbers},
        "max": {name: max(numbers) for name, numbers in values.items() if numbers},
        "runs": {name: len(numbers) for name, numbers in values.items() if numbers},
        "ahead": _ahead(medians, figure.higher_is_better) if figure.compared else {},
        "goals": [_goal_json(goal, medians) for goal in figure.goals],
    }


def _ahead(medians: dict[str, float], higher_is_better: bool) -> dict[str, float]:
    """How many times better ours is than each other; below 1 the other is ahead."""
    ours = medians.get(OURS)
    if not ours:
        return {}
    ratios = {name: ours / theirs if higher_is_better else theirs / ours for name, theirs in medians.items() if theirs}
    return {name: ratio for name, ratio in ratios.items() if name != OURS}


def _goal_json(goal: Goal, medians: dict[str, float]) -> dict[str, Any]:
    measured = medians.get(OURS)
    if goal.relative_to and measured is not None:
        theirs = medians.get(goal.relative_to)
        measured = measured / theirs if theirs else None
    met = None
    if measured is not None:
        met = measured >= goal.limit if goal.at_least else measured <= goal.limit
    return {"text": goal.text, "measured": measured, "relative_to": goal.relative_to, "met": met}


def together(kept: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several runs as one: the last word on every benchmark. What ran when is that of the last run."""
    benchmarks = {benchmark["name"]: benchmark for result in kept for benchmark in result["benchmarks"]}
    return {**kept[-1], "benchmarks": list(benchmarks.values())}


def number(value: float) -> str:
    """Three significant digits, as a person writes them."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    if abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.{digits}f}"


def cell(figure: dict[str, Any], name: str) -> str:
    """Ratio first, median, and least and most where they differ: `12x 34.5 (33.9 to 36.0)`."""
    if name not in figure["median"]:
        return "–"  # noqa: RUF001
    low, middle, high = (number(figure[which][name]) for which in ("min", "median", "max"))
    spread = f" ({low} to {high})" if low != high else ""
    ratio = f"**{number(figure['ahead'][name])}×** " if name in figure["ahead"] else ""  # noqa: RUF001
    return f"{ratio}{middle}{spread}"


def goals_met(benchmarks: Iterable[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """(work, goal, measured, whether it is met) of every goal."""
    rows = []
    for benchmark in benchmarks:
        for figure in benchmark["figures"]:
            for goal in figure["goals"]:
                measured = "not measured" if goal["measured"] is None else _measured(goal, figure)
                verdict = {None: "?", True: "yes", False: "no"}[goal["met"]]
                rows.append((f"{benchmark['title']}: {figure['title']}", goal["text"], measured, verdict))
    return rows


def _measured(goal: dict[str, Any], figure: dict[str, Any]) -> str:
    if goal["relative_to"]:
        return f"{number(goal['measured'])}× {goal['relative_to']}'s"  # noqa: RUF001
    return f"{number(goal['measured'])} {figure['unit']}".strip()


def markdown(result: dict[str, Any]) -> str:
    """The tables of a whole run."""
    lines = [_about(result), "", "| work | goal | measured | met |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(row) + " |" for row in goals_met(result["benchmarks"])]
    for benchmark in result["benchmarks"]:
        lines += ["", *_section(benchmark)]
    return "\n".join(lines)


def _about(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return (
        f"Measured on {machine['cores']} cores, Python {machine['python']}, {machine.get('mesh', 'interpreted')} mesh, "
        f"{machine['system']}, on {result['date']}; "
        f"{result['runs']} {'run' if result['runs'] == 1 else 'runs'}, contestants interleaved. Load of the machine before it "
        f"(over 1, 5 and 15 minutes): {machine['load']}."
    )


def _section(benchmark: dict[str, Any]) -> list[str]:
    names = measured(benchmark)
    lines = [f"### {benchmark['title']}", "", benchmark["method"], ""]
    if names:
        lines += ["| | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
        for figure in benchmark["figures"]:
            if figure["median"]:
                title = f"{figure['title']}, {figure['unit']}" if figure["unit"] else figure["title"]
                lines.append(f"| {title} | " + " | ".join(cell(figure, name) for name in names) + " |")
        lines.append("")
    for contestant in benchmark["contestants"]:
        trouble = f" {contestant['trouble']}." if contestant["trouble"] else ""
        lines.append(f"- {contestant['name']}: {contestant['configuration']} Durability: {contestant['durability']}.{trouble}")
    return lines


def measured(benchmark: dict[str, Any]) -> list[str]:
    """The contestants that have figures."""
    names = [contestant["name"] for contestant in benchmark["contestants"]]
    return [name for name in names if any(name in figure["median"] for figure in benchmark["figures"])]
