"""Fault histories, options, scenarios, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.sim import scenario
from tools.sim.cli import command
from tools.sim.faults import KINDS, draw_history
from tools.sim.history import Run, run, shrink
from tools.sim.options import Options
from tools.sim.script import parse, parse_line
from tools.sim.units import TextError

FAILING_SEEDS = Path(__file__).parent / "failing_seeds.txt"
SMALL = Options(nodes=4, seconds=8.0, faults=tuple(KINDS))


def failed_before() -> list[str]:
    """Lines `name=value ...` of Options: each was a bug, named in the comment above it."""
    lines = FAILING_SEEDS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("line", failed_before())
def test_what_failed_once_passes(line: str) -> None:
    parsed = parse_line(f"run {line}")
    assert parsed is not None
    given: dict[str, object] = {
        name: json.loads(value) if value[:1] in "0123456789[tf" else value for name, value in parsed.options.items()
    }
    options = scenario.options_of("failing_seeds.txt", given, replace(Options(), faults=tuple(KINDS)))
    outcome = run(options)
    assert outcome.passed, f"{outcome.failure}\nreplay with: {options.command()}"


@pytest.mark.parametrize("seed", range(6))
def test_drawn_histories_pass(seed: int) -> None:
    outcome = run(replace(SMALL, seed=seed))
    assert outcome.passed, f"{outcome.failure}\nreplay with: {outcome.options.command()}"
    assert outcome.counts["views"] > 50
    assert outcome.counts["bases"] > 50


def test_a_history_is_a_function_of_its_seed() -> None:
    assert run(replace(SMALL, seed=3)).digest == run(replace(SMALL, seed=3)).digest


def test_the_draw_reaches_every_kind_and_every_line_reads_back() -> None:
    kinds = dict.fromkeys(KINDS, False)
    verbs = set()
    for seed in range(40):
        one = Run(replace(SMALL, seed=seed))
        for kind in KINDS:
            kinds[kind] |= bool(draw_history(one.mesh.world.rng("x", seed, kind), 4, 8.0, [kind]))
        for line in one.script:
            one.stage.check(line)
            assert parse_line(str(line)) == line
            verbs.add(line.verb)
    assert all(kinds.values())
    assert verbs >= {"link", "cut", "mend", "clock", "crash", "restart", "backup", "pause", "disk", "move", "leave"}


def test_a_failing_script_is_cut_down_to_the_lines_that_matter() -> None:
    lines = parse("1s pause 0 1s\n2s crash 1\n3s pause 2 1s\n4s restart 1\n5s move 2 172.16.0.1\n")

    def fails(options: Options) -> bool:
        verbs = [line.verb for line in parse(options.script)]
        return "crash" in verbs and "move" in verbs

    assert [line.verb for line in shrink(SMALL, lines, fails)] == ["crash", "move"]


def test_every_shipped_scenario_can_be_read() -> None:
    assert len(scenario.names()) >= 13
    for name in scenario.names():
        loaded = scenario.load(name)
        assert loaded.title
        assert loaded.about.endswith(".")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[options]\nnodez = 3\n", "nodez"),
        ("[limits]\nconverge_fast = 3\n", "converge_fast"),
        ("[options]\nfaults = ['gremlins']\n", "gremlins"),
        ("[script]\ntext = '2s'\n", "no verb"),
        ("title = \n", "x:"),
    ],
)
def test_a_scenario_that_says_nothing_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(TextError, match=complaint):
        scenario.read("x", text)


def test_options_replay_from_their_command() -> None:
    assert (
        Options(seed=7, nodes=3, faults=("loss",), loss="5%").command() == "mesh sim --nodes 3 --seed 7 --faults loss --loss 5%"
    )


def test_the_command_reports_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "run.svg"
    arguments = ["--nodes", "5", "--seconds", "4s", "--loss", "5%", "--delay", "10-50ms", "--rate", "8"]
    result = CliRunner().invoke(command, [*arguments, "--svg", str(picture)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("seed 0, commit ")
    for word in ("seen by everybody", "crash known", "bytes/s", "all checks passed"):
        assert word in result.output
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    found = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).output)
    assert found["passed"]
    assert found["options"]["nodes"] == 5
    assert found["write_to_everybody_ms"]["p99"] < 1_000
    assert f"digest                {found['digest']}" in result.output, "two runs, one digest"


def test_wrong_options_are_one_line(tmp_path: Path) -> None:
    for arguments in (
        ["--loss", "120%"],
        ["--scenario", "nothing"],
        ["--faults", "gremlins"],
        ["--script", str(tmp_path / "no.txt")],
    ):
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 2
        assert "Error: " in result.output


def test_a_limit_that_is_not_kept_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "strict.toml"
    file.write_text("[options]\nnodes = 3\nseconds = 2\n[limits]\np99_ms = 0.1\n", encoding="utf-8")
    result = CliRunner().invoke(command, ["--scenario", str(file)])
    assert result.exit_code == 1
    assert "limit not kept: p99_ms" in result.output


def test_soaking_stops_in_time() -> None:
    result = CliRunner().invoke(command, ["--soak", "0.02", "--nodes", "3", "--seconds", "3s"])
    assert result.exit_code == 0, result.output
    assert "seeds passed" in result.output
