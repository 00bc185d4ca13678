"""Contestants take turns; one that fails does not take the others along; the command runs, and Ctrl-C leaves no process."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from mesh.errors import MeshError
from tools.bench import runner
from tools.bench.plan import OURS, QUICK, Benchmark, Contestant, Figure, Sample, Scale
from tools.bench.suite import BENCHMARKS
from tools.cli import cli
from tools.fleet import AgentFailed

MARK: Final = "MESH_BENCH_TEST"


class Quiet:
    def begins(self, benchmark: str, contestant: str, run: int) -> None:
        pass

    def ends(self) -> None:
        pass


def measured_by(measure: Callable[[str], Sample], *names: str) -> Benchmark:
    def of(name: str) -> Callable[[Scale], Awaitable[Sample]]:
        async def sample(_: Scale) -> Sample:
            return measure(name)

        return sample

    return Benchmark(
        name="b",
        title=lambda _: "Work",
        method="",
        figures=(Figure(key="x", title="x", unit=""),),
        contestants=tuple(Contestant(name=name, measure=of(name), configuration="") for name in names),
    )


async def test_contestants_take_turns_and_none_is_always_first() -> None:
    order: list[str] = []

    def measure(name: str) -> Sample:
        order.append(name)
        return Sample({"x": 1.0})

    await runner.run([measured_by(measure, "a", "b", "c")], QUICK, 3, Quiet())
    assert "".join(order) == "abcbcacab"


async def test_who_fails_does_not_take_the_others_along() -> None:
    def measure(name: str) -> Sample:
        if name == "b":
            raise AgentFailed("it fell over")
        return Sample({"x": 1.0})

    (told,) = (await runner.run([measured_by(measure, OURS, "b")], QUICK, 2, Quiet()))["benchmarks"]
    assert told["figures"][0]["runs"] == {OURS: 2}
    assert "it fell over" in told["contestants"][1]["trouble"]


async def test_an_error_of_the_benchmark_itself_is_not_hidden() -> None:
    def measure(name: str) -> Sample:
        raise AssertionError("a genuine delta did not verify")

    with pytest.raises(AssertionError, match="genuine"):
        await runner.run([measured_by(measure, OURS)], QUICK, 1, Quiet())
    assert not issubclass(AssertionError, MeshError)


def test_every_benchmark_has_ours_first_and_names_of_its_own() -> None:
    for benchmark in BENCHMARKS:
        names = [contestant.name for contestant in benchmark.contestants]
        assert names[0] == OURS
        assert len(set(names)) == len(names)
        keys = [figure.key for figure in benchmark.figures]
        assert len(set(keys)) == len(keys)
        for figure in benchmark.figures:
            assert {goal.relative_to for goal in figure.goals} <= {"", *names}
    assert len({benchmark.name for benchmark in BENCHMARKS}) == len(BENCHMARKS)


def test_what_was_kept_is_shown_without_running_anything(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "tools.cli", "bench", "--quick", "--only", "size", "--keep", str(kept), "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert json.loads(printed) == json.loads(kept.read_text())
    shown = CliRunner().invoke(cli, ["bench", "--from", str(kept), "--markdown"])
    assert shown.exit_code == 0
    assert "| alone, bytes |" in shown.stdout
    again = tmp_path / "again.json"
    asked = ["bench", "--from", str(kept), "--only", "size", "--keep", str(again), "--json"]
    assert json.loads(CliRunner().invoke(cli, asked).stdout) == json.loads(again.read_text()) == json.loads(kept.read_text())
    for option, says in (
        (["--only", "idle"], "has no idle: it has size"),
        (["--runs", "2"], "runs nothing"),
        (["--keep", str(kept)], "would overwrite"),
    ):
        refused = CliRunner().invoke(cli, ["bench", "--from", str(kept), *option])
        assert (refused.exit_code, says in refused.stderr) == (2, True), "regression: it was ignored"


def processes_marked(mark: str) -> list[int]:
    """Ids of processes that were started with this mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                ended = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:  # gone, or somebody else's
                continue
            if f"{MARK}={mark}".encode() in environment and not ended:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("text", ["", "[1", "[]", "7", "{}", '{"benchmarks": 7}', '{"benchmarks": [{"name": "size"}]}'])
def test_a_file_of_something_else_is_said_to_be_that(tmp_path: Path, text: str) -> None:
    """Regression: a traceback."""
    (tmp_path / "other.json").write_text(text)
    shown = CliRunner().invoke(cli, ["bench", "--from", str(tmp_path / "other.json")])
    assert shown.exit_code == 2
    assert "is nothing that `mesh bench --keep` wrote" in shown.stderr


def test_what_cannot_be_written_is_said_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: an hour later, and the figures were gone."""
    monkeypatch.setattr(runner, "run", None)
    (tmp_path / "other.md").write_text("no tables here\n")
    for option, file, says in (("--keep", "nowhere/kept.json", "No such file"), ("--update", "other.md", "to write between")):
        shown = CliRunner().invoke(cli, ["bench", "--shared-network", "--only", "size", option, str(tmp_path / file)])
        assert shown.exit_code in (1, 2)
        assert says in shown.stderr


def test_ctrl_c_leaves_no_process() -> None:
    mark = secrets.token_hex(8)
    bench = subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "bench", "--quick", "--only", "idle"],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 20
        while len(processes_marked(mark)) < 4:
            assert time.monotonic() < deadline, "the benchmark started no agents"
            time.sleep(0.05)
        bench.send_signal(signal.SIGINT)
        _, complaint = bench.communicate(timeout=30)
    finally:
        bench.kill()
        bench.wait()
    assert bench.returncode == 1
    assert "mesh: interrupted" in complaint
    assert processes_marked(mark) == []
