"""Fault histories, options, scenarios, the command."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from mesh.peer import Peer
from mesh.presets import PRESETS
from mesh.sync.pull import Puller
from tools.sim import scenario
from tools.sim.cli import command
from tools.sim.faults import KINDS, draw_history
from tools.sim.history import Run, run, shrink
from tools.sim.hunt import LONG, OF_DISKS_THAT_LIE, REACHED, Bag, vary
from tools.sim.options import Options
from tools.sim.script import parse, parse_line
from tools.sim.units import TextError

FAILING_SEEDS = Path(__file__).parent / "failing_seeds.txt"
SMALL = Options(nodes=4, seconds=8.0, faults=tuple(KINDS))


def failed_before(file: Path = FAILING_SEEDS) -> list[str]:
    """Lines `name=value ...` of Options: each was a bug, named in the comment above it."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("line", failed_before())
def test_what_failed_once_passes(line: str) -> None:
    options = Options.from_line(line)
    outcome = run(options)
    assert outcome.passed, f"{outcome.failure}\nreplay with: {options.command()}"


@pytest.mark.parametrize("seed", range(6))
def test_drawn_histories_pass(seed: int) -> None:
    outcome = run(vary(Options(), seed, ()))
    assert outcome.passed, f"{outcome.failure}\nreplay with: {outcome.options.command()}"
    assert outcome.counts["transitions"] > 500
    assert outcome.counts["views"] + outcome.counts["views at the end"] > 10


def test_a_history_is_a_function_of_its_seed() -> None:
    assert run(replace(SMALL, seed=3, seconds=3.0)).digest == run(replace(SMALL, seed=3, seconds=3.0)).digest


def test_the_draw_reaches_every_kind_and_every_line_reads_back() -> None:
    kinds, verbs = set[str](), set[str]()
    stage = Run(SMALL).stage
    for seed in range(40):
        drawn = vary(Options(), seed, ())
        kinds.update(drawn.faults)
        assert vary(Options(), seed, ()) == drawn
        for line in draw_history(seed, 4, 8.0, drawn.faults):
            stage.check(line)
            assert parse_line(str(line)) == line
            verbs.add(line.verb)
    assert kinds == set(KINDS)
    assert all(draw_history(1, 4, 8.0, [kind]) for kind in KINDS)
    assert verbs >= {"link", "cut", "mend", "clock", "crash", "restart", "backup", "pause", "disk", "move", "leave"}


def test_a_hunt_draws_and_expects_nothing_that_cannot_be() -> None:
    """`--introduced --seeds` ended at the first seed that drew cold strangers, and each long hunt with `--critical` failed for
    want of disks that lie, which such runs leave out."""
    assert all(vary(Options(introduced=True), seed, ()).warm for seed in range(10))
    bag = Bag(is_critical=True, runs=LONG, happened=Counter(dict.fromkeys(REACHED, 1)))
    for fault in OF_DISKS_THAT_LIE:
        del bag.happened[fault]
    assert not bag.never()
    del bag.happened["crash"]
    assert bag.never() == ["crash"]


def test_narrow_links_drop_what_does_not_fit_their_queues() -> None:
    """Regression: 64 kB waited before each of them, which nothing ever filled, so hunts reported a fault that never happened."""
    narrow = Options(nodes=3, seconds=4.0, rate=30.0, disks=False, faults=("bandwidth",))
    outcomes = [Run(replace(narrow, seed=seed)).play() for seed in (1, 5)]
    assert not any(outcome.failure for outcome in outcomes)
    assert all(outcome.happened["datagrams dropped by queue"] > 10 for outcome in outcomes)


def test_faults_keep_the_pace_of_the_preset() -> None:
    """Regression: crashes were drawn by the minute, while a LoRa agent takes two to probe once: hundreds of starts in an hour,
    none of which met anybody.
    """
    hour = Options(nodes=4, seconds=3600.0)
    starts = {}
    for name in PRESETS:
        pace = replace(hour, preset=name).pace()
        starts[name] = len(draw_history(2, 4, hour.seconds, ["crash"], pace))
    assert starts["lan"] > 1.5 * starts["robot_wifi"] > 2 * starts["wan"] > 50 * starts["lora"] > 0
    assert draw_history(2, 4, 60.0, ["crash"]) == draw_history(2, 4, 60.0, ["crash"], Options().pace())


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
        assert len(loaded.must) >= 3, "a scenario that checks nothing of its own proves nothing"
        assert loaded.about.endswith(".")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[options]\nnodez = 3\n", "nodez"),
        ("[must]\nfalse_deaths = 3\n", "false_deaths"),
        ("[must]\ndatagrams.dropped.cut = '> 3'\n", "cut"),
        ("[options]\nfaults = ['gremlins']\n", "gremlins"),
        ("[script]\ntext = '2s'\n", "no verb"),
        ("title = \n", "x:"),
    ],
)
def test_a_scenario_that_says_nothing_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(TextError, match=complaint):
        scenario.read("x", text)


def test_options_replay_from_their_command_and_their_line() -> None:
    options = Options(seed=7, nodes=3, seconds=2_592_000.0, faults=("loss",), loss="5%", warm=False, script="1s crash 1\n2s heal")
    assert options.command() == (
        "mesh sim --nodes 3 --seed 7 --seconds 2592000 --faults loss --script '1s crash 1\n2s heal' --loss 5% --no-warm"
    )
    assert Options.from_line(options.line()) == replace(options, script="1s crash 1; 2s heal")
    with pytest.raises(TextError, match="nodez"):
        Options.from_line("nodez=3")


def test_a_script_may_be_given_as_text() -> None:
    result = CliRunner().invoke(command, ["--nodes", "3", "--seconds", "2", "--script", "1s crash 1\n1.5s restart 1"])
    assert result.exit_code == 0, result.output
    assert "crash 1, restart 1" in result.output


def test_the_command_reports_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "run.svg"
    arguments = ["--nodes", "5", "--seconds", "4s", "--loss", "5%", "--delay", "10-50ms", "--rate", "8"]
    result = CliRunner().invoke(command, [*arguments, "--svg", str(picture)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("seed 0, commit ")
    for word in ("seen by everybody", "in theory", "crash known", "bytes/s", "received 1", "all checks passed"):
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


def test_what_must_be_and_is_not_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "strict.toml"
    head = "[options]\nnodes = 3\nseconds = 2\n[must]\n"
    for must, complaint in (
        ("write_to_everybody_ms.p99 = '<= 0.1'", "write_to_everybody_ms.p99 is"),
        ("datagrams.dropped.cut = '>= 1'", "datagrams.dropped.cut is 0, must be >= 1"),
        ("detection_seconds.p99 = '<= 3'", "detection_seconds.p99 is not measured"),
    ):
        file.write_text(head + must, encoding="utf-8")
        result = CliRunner().invoke(command, ["--scenario", str(file)])
        assert result.exit_code == 1
        assert f"NOT AS IT MUST BE: {complaint}" in result.output
    file.write_text(head + "false_death = '= 0'", encoding="utf-8")
    result = CliRunner().invoke(command, ["--scenario", str(file)])
    assert (result.exit_code, "no figure 'false_death'" in result.output) == (2, True)


def test_a_run_in_which_nothing_was_written_is_an_error() -> None:
    lines = "\n".join(f"0s crash {number}" for number in range(3)) + "\n5s restart 0-2"
    outcome = run(Options(nodes=3, seconds=5.0, rate=20.0, script=lines))
    assert outcome.failed == "vacuous"


@pytest.mark.interpreted
def test_a_hunt_counts_keeps_and_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--seeds", "5", "3", "--nodes", "3", "--seconds", "2s", "--preset", "lan"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("seeds 5 to 7, commit ")
    assert "rate: drawn from" in result.output
    assert "3 seeds passed, 0 failed" in result.output
    monkeypatch.setattr(Puller, "offer", lambda *_, **__: False)  # nobody ever asks for what is missing
    kept = tmp_path / "failing.txt"
    lossy = ["--seeds", "0", "1", *arguments[3:], "--rate", "20", "--loss", "30%", "--faults", "duplication"]
    result = CliRunner().invoke(command, [*lossy, "--keep", str(kept)])
    assert result.exit_code == 1
    (line, *_) = failed_before(kept)
    assert not run(Options.from_line(line)).passed
    monkeypatch.undo()
    assert run(Options.from_line(line)).passed


def test_soaking_stops_in_time() -> None:
    result = CliRunner().invoke(command, ["--soak", "0.02", "--nodes", "3", "--seconds", "3s", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["passed"] >= 1


def test_what_a_core_raises_is_told_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(Peer, "tick", broken)
    outcome = run(Options(nodes=2, seconds=1.0))
    assert outcome.failed == "exception"
    assert outcome.failure.endswith("ZeroDivisionError: on purpose")


@pytest.mark.parametrize("name", ["clock-jumps", "cloned-disk"])
def test_a_shipped_scenario_is_as_it_must_be(name: str) -> None:
    """Those that take seconds; `mesh sim --scenario NAME` plays the others."""
    result = CliRunner().invoke(command, ["--scenario", name])
    assert result.exit_code == 0, result.output
    assert "as it must be: " in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["--rate", "nan"],
        ["--rate", "-3"],
        ["--seconds", "-5s"],
        ["--drift", "nan"],
        ["--critical", "nan"],
        ["--paths", "0"],
        ["--seeds", "0", "0"],
        ["--soak", "nan"],
        ["--svg", "/no/such/directory/x.svg"],
    ],
)
def test_what_would_check_nothing_is_wrong_usage(words: list[str]) -> None:
    """These were tracebacks of the simulation, or runs without one write of which all checks passed."""
    result = CliRunner().invoke(command, ["--nodes", "2", *words])
    assert result.exit_code == 2, result.output


def test_a_scenario_has_no_parts_that_nobody_reads() -> None:
    with pytest.raises(TextError, match="nodes"):
        scenario.read("mine", "nodes = 3")
