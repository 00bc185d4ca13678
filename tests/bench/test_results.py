"""What is said about samples: medians, who is ahead, which goal is met, and how it is shown."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import click
import pytest

from tools.bench import results
from tools.bench.command import BEGIN, END, _update
from tools.bench.plan import OURS, QUICK, Benchmark, Contestant, Figure, Goal, Sample, Scale
from tools.bench.plot import ecdf
from tools.bench.results import Outcome, goals_met, outcome_json


async def never(_: Scale) -> Sample:
    raise AssertionError("these samples are given")


def contestant(name: str) -> Contestant:
    return Contestant(name=name, measure=never, configuration="as it is.")


def benchmark(*figures: Figure) -> Benchmark:
    names = (OURS, "other")
    return Benchmark(
        name="b",
        title=lambda _: "Work",
        method="By hand.",
        figures=figures,
        contestants=tuple(contestant(name) for name in names),
    )


def outcomes(ours: list[float], theirs: list[float]) -> list[Outcome]:
    return [
        Outcome(contestant(OURS), samples=[Sample({"x": value}, [value]) for value in ours]),
        Outcome(contestant("other"), samples=[Sample({"x": value}) for value in theirs]),
    ]


def test_the_ratio_says_how_many_times_better_ours_is() -> None:
    lower = outcome_json(benchmark(Figure(key="x", title="time", unit="ms")), QUICK, outcomes([2, 1, 9], [20]))
    assert lower["figures"][0]["ahead"] == {"other": 10.0}
    higher = outcome_json(
        benchmark(Figure(key="x", title="rate", unit="", higher_is_better=True)), QUICK, outcomes([2, 1, 9], [20])
    )
    assert higher["figures"][0]["ahead"] == {"other": 0.1}


def test_a_cell_has_the_median_with_least_and_most() -> None:
    figure = outcome_json(benchmark(Figure(key="x", title="time", unit="ms")), QUICK, outcomes([2, 1, 9], [20]))["figures"][0]
    assert results.cell(figure, OURS) == "2.00 (1.00 to 9.00)"
    assert results.cell(figure, "other").startswith("**10.0")
    assert results.cell(figure, "other").endswith(" 20.0")


def test_goals_are_absolute_or_relative_and_unknown_without_figures() -> None:
    goals = (Goal("<= 3 ms", 3.0), Goal("<= 0.05 x other", 0.05, "other"), Goal(">= 2", 2.0, at_least=True))
    figure = Figure(key="x", title="time", unit="ms", goals=goals)
    rows = goals_met([outcome_json(benchmark(figure), QUICK, outcomes([2, 1, 9], [20]))])
    assert [row[3] for row in rows] == ["yes", "no", "yes"]
    without_us = goals_met([outcome_json(benchmark(figure), QUICK, outcomes([], [20]))])
    assert [row[3] for row in without_us] == ["?", "?", "?"]
    without_them = goals_met([outcome_json(benchmark(figure), QUICK, outcomes([2], []))])
    assert [row[3] for row in without_them] == ["yes", "?", "yes"]


def test_a_contestant_that_is_missing_is_named_with_the_way_out() -> None:
    there, missing = outcomes([2], [])
    missing.missing = "not installed: apt-get install other"
    told = outcome_json(benchmark(Figure(key="x", title="time", unit="ms")), QUICK, [there, missing])
    run = {
        "machine": {"cores": 2, "python": "3", "system": "Linux", "load": "0"},
        "date": "today",
        "runs": 1,
        "benchmarks": [told],
    }
    text = results.markdown(run)
    assert "apt-get install other" in text
    assert "| time, ms | 2.00 |" in text


def test_failed_runs_are_told_beside_the_figures_of_the_others() -> None:
    ours, other = outcomes([2], [20])
    other.failures.append("it fell over")
    told = outcome_json(benchmark(Figure(key="x", title="time", unit="ms")), QUICK, [ours, other])
    assert results.measured(told) == [OURS, "other"]
    assert told["contestants"][1]["trouble"] == "1 of 2 runs failed: it fell over"


def test_of_several_runs_the_last_word_counts() -> None:
    def run(date: str, *benchmarks: tuple[str, str]) -> dict[str, object]:
        return {"date": date, "benchmarks": [{"name": name, "title": title} for name, title in benchmarks]}

    both = results.together([run("Monday", ("a", "old"), ("b", "old")), run("Tuesday", ("b", "new"))])
    assert [benchmark["title"] for benchmark in both["benchmarks"]] == ["old", "new"]
    assert both["date"] == "Tuesday"


def test_an_ecdf_is_a_picture_that_rises_to_the_right() -> None:
    drawing = ElementTree.fromstring(ecdf("Delays <all>", {"a": [5.0, 1.0, 2.0], "b": [0.04, 800.0]}))
    lines = drawing.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
        assert points == sorted(points, key=lambda point: (point[0], -point[1]))


def test_only_the_tables_of_a_document_are_rewritten(tmp_path: Path) -> None:
    document = tmp_path / "B.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    _update(document, "new")
    assert document.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    (tmp_path / "C.md").write_text("nothing to write between")
    with pytest.raises(click.UsageError):
        _update(tmp_path / "C.md", "new")
