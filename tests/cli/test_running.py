"""The command line with real processes on loopback: what a newcomer types, from `mesh init` to Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mesh.control.protocol import someone_listens
from tools.cli import checks, cli

PATIENCE_S = 60.0
"""How long a test waits for what takes milliseconds, or a second, when the machine is idle."""


class Shell:
    """A directory with nodes in it, which are processes; other commands run in this process, which takes milliseconds."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"}
        self.environment.pop("MESH_DIR", None)
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.cli", *arguments],
            cwd=self.directory,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, exit_code: int = 0) -> str:
        """What `mesh ...` printed; for a failure, its complaint."""
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == exit_code, f"mesh {' '.join(arguments)}: {result.exit_code} {result.output} {result.exc_info}"
        return result.stdout if exit_code == 0 else result.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def up(self, name: str) -> subprocess.Popen[str]:
        """`mesh up`, returning when the node answers."""
        process = self.start("up", "--dir", name)
        data_dir = self.directory / name / "data"
        self.until(lambda: someone_listens(data_dir) or process.poll() is not None)
        assert process.poll() is None, process.stderr and process.stderr.read()
        return process

    def end(self, process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
        """Signal it, and give its log."""
        process.send_signal(number)
        _, log = process.communicate(timeout=PATIENCE_S)
        return log

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.01)

    def alive(self, name: str) -> set[str]:
        return {member["name"] for member in self.json("members", "--dir", name) if member["state"] == "alive"}

    def key_states(self, name: str) -> dict[str, str]:
        return {key["name"]: key["state"] for key in self.json("keys", "show", "--dir", name)}


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESH_DIR", raising=False)
    shell = Shell(tmp_path)
    yield shell
    for process in shell.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make(shell: Shell, first: str, *others: str) -> None:
    """Nodes, the first with the authority, the others knowing it."""
    shell.run("init", first, "--name", first, "--bind", f"127.0.0.1:{free_port()}")
    for name in others:
        token = shell.run("invite", "--name", name, "--dir", first).strip()
        shell.run("join", token, "--bind", f"127.0.0.1:{free_port()}")


def test_what_a_newcomer_types(shell: Shell) -> None:
    make(shell, "a", "b")
    a, b = shell.up("a"), shell.up("b")
    shell.until(lambda: shell.alive("a") == shell.alive("b") == {"a", "b"})
    shell.run("put", "robots/7/pose", "[1.5, -2]", "--dir", "a", "--copies", "1")
    assert shell.run("get", "robots/7/pose", "--dir", "b") == "[1.5, -2]\n"
    shell.run("put", "visits", "-3", "--type", "counter", "--dir", "b", "--copies", "1")
    assert shell.run("get", "visits", "--dir", "a") == "-3\n"
    shell.run("put", "visits", "5", "--dir", "a", "--copies", "1")
    assert shell.json("get", "visits", "--dir", "b")["value"] == 2, "the type is the one that is there"
    assert [item["path"] for item in map(json.loads, shell.run("get", "/", "--json", "--dir", "b").splitlines())] == [
        "robots/7/pose",
        "visits",
    ]
    entries = shell.json("history", "visits", "--dir", "a")
    assert {(entry["author"], entry["value"]) for entry in entries} == {("a", 5), ("b", -3)}
    shell.run("put", "tags", "red", "--type", "set", "--dir", "a")
    assert shell.run("history", "tags", "--dir", "a").split("\t")[3] == "['red']", "not only that something is in it"
    status = shell.json("status", "--dir", "a")
    assert (status["name"], status["synced"], status["members"]) == ("a", True, {"alive": 2})
    assert "a" in shell.run("status", "--dir", "a")
    log = shell.end(b)
    assert b.returncode == 0
    assert "leaving" in log
    shell.until(lambda: shell.alive("a") == {"a"})
    assert {m["name"]: m["state"] for m in shell.json("members", "--dir", "a")}["b"] == "left"
    shell.end(a, signal.SIGINT)
    assert a.returncode == 0
    assert not (shell.directory / "a/data/control.sock").exists()


def test_a_watch_prints_what_is_there_and_what_comes(shell: Shell) -> None:
    make(shell, "a")
    shell.up("a")
    shell.run("put", "x/1", "before", "--dir", "a")
    watch = shell.start("watch", "x/", "--json", "--dir", "a")
    assert watch.stdout is not None
    assert json.loads(watch.stdout.readline())["value"] == "before"
    assert json.loads(watch.stdout.readline()) == {"event": "synced"}
    shell.run("put", "x/2", '{"a": [1, null]}', "--dir", "a")
    change = json.loads(watch.stdout.readline())
    assert (change["path"], change["type"], change["value"]) == ("x/2", "register", {"a": [1, None]})
    shell.run("put", "x/2", "--remove", "--dir", "a")
    gone = json.loads(watch.stdout.readline())
    assert (gone["path"], gone["dot"]) == ("x/2", None)
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=PATIENCE_S)
    assert (watch.returncode, err) == (0, "")


def test_a_watcher_in_a_pipe_ends_quietly_with_its_reader(shell: Shell) -> None:
    make(shell, "a")
    shell.up("a")
    for number in range(3):
        shell.run("put", f"x/{number}", "1", "--dir", "a")
    watch = shell.start("watch", "--dir", "a")
    assert watch.stdout is not None
    assert watch.stdout.readline() == "x/0\tregister\t1\n"
    watch.stdout.close()
    shell.run("put", "x/4", "1", "--dir", "a")
    assert watch.wait(PATIENCE_S) == 0
    assert watch.stderr is not None
    assert watch.stderr.read() == ""


def test_every_type_can_be_put_and_got(shell: Shell) -> None:
    make(shell, "a")
    shell.up("a")
    for name, puts, value in (
        ("register", ["1", "two"], "two"),
        ("multi_value", ["1", "2"], [2]),
        ("counter", ["1", "2"], 3),
        ("grow_only_counter", ["1", "2"], 3),
        ("bounded_counter", ["5", "-2"], 3),
        ("maximum", ["1", "3", "2"], 3),
        ("minimum", ["3", "1", "2"], 1),
        ("set", ["1", '"a"', "[1, 2]"], [1, "a", [1, 2]]),
        ("remove_wins_set", ["1"], [1]),
        ("flag", ["true"], True),
        ("disable_wins_flag", ["true", "false"], False),
        ("list", ["1", "2"], [1, 2]),
        ("log", ["1", "2"], [1, 2]),
        ("map", ['{"a": 1}', '{"b": {"c": 2}}'], {"a": 1, "b": {"c": 2}}),
    ):
        for put in puts:
            shell.run("put", f"types/{name}", put, "--type", name, "--dir", "a")
        assert shell.json("get", f"types/{name}", "--type", name, "--dir", "a")["value"] == value, name
    shell.run("put", "types/set", "1", "--remove", "--dir", "a")
    shell.run("put", "types/map", "a", "--type", "map", "--remove", "--dir", "a")
    assert shell.json("get", "types/set", "--dir", "a")["value"] == ["a", [1, 2]]
    assert shell.json("get", "types/map", "--type", "map", "--dir", "a")["value"] == {"b": {"c": 2}}


def test_refusals_are_one_line_and_the_right_exit_code(shell: Shell) -> None:
    make(shell, "a")
    node = shell.up("a")
    shell.run("put", "x", "1", "--dir", "a")
    for arguments, exit_code, hint in (
        (["get", "missing"], 1, "nothing at missing"),
        (["get", "x", "--type", "counter"], 1, "no counter at x"),
        (["get", "x", "--type", "nonsense"], 2, "there is no type"),
        (["get", "x/", "--type", "nonsense"], 2, "there is no type"),
        (["get", "/", "--type", "map"], 2, "leave --type away"),
        (["history", "x", "--type", "nonsense"], 2, "there is no type"),
        (["watch", "x", "--type", "nonsense"], 2, "there is no type"),
        (["put", "x", "1", "--type", "counter"], 1, "is a register"),
        (["put", "a//b", "1"], 2, "segment"),
        (["put", "x", "1", "--copies", "1", "--timeout", "0.1"], 3, "written here"),
        (["put", "y", '{"$bytes": 1}'], 2, "$bytes"),
        (["history", "missing"], 1, "nothing at missing"),
        (["keys", "revoke", "nobody"], 1, "nobody is named"),
        (["keys", "revoke", "a"], 1, "this very agent"),
        (["up"], 1, "in use"),
    ):
        complaint = shell.run(*arguments, "--dir", "a", exit_code=exit_code)
        assert complaint.count("\n") == 1, complaint
        assert hint in complaint
    node.kill()
    node.wait()
    assert "mesh up" in shell.run("get", "x", "--dir", "a", exit_code=1), "a left-over socket is nobody"
    shell.up("a")
    assert shell.run("get", "x", "--dir", "a") == "1\n", "what put has confirmed survives kill -9"


def test_a_revoked_member_is_out(shell: Shell) -> None:
    make(shell, "a", "b", "c")
    for name in ("a", "b", "c"):
        shell.up(name)
    shell.until(lambda: shell.alive("a") == shell.alive("b") == shell.alive("c") == {"a", "b", "c"})
    shell.run("put", "x", "before", "--dir", "b", "--copies", "2")
    shell.run("keys", "revoke", "b", "--dir", "a")
    keys = {"a": "member", "b": "revoked", "c": "member"}
    assert shell.key_states("a") == keys
    shell.until(lambda: shell.key_states("c") == keys)
    CliRunner().invoke(cli, ["put", "x", "after", "--dir", "b"])  # it may not have heard yet
    shell.run("put", "y", "1", "--dir", "c", "--copies", "1")
    for name in ("a", "c"):
        assert shell.run("get", "x", "--dir", name) == "before\n", "what it wrote before still counts"
        shell.until(lambda name=name: "b" not in shell.alive(name))  # type: ignore[misc]


def test_an_agent_that_is_gone_is_retired_and_one_that_lies_is_cut(shell: Shell) -> None:
    make(shell, "a", "b", "c")
    for name in ("a", "b", "c"):
        shell.up(name)
    shell.until(lambda: shell.alive("a") == shell.alive("b") == shell.alive("c") == {"a", "b", "c"})
    shell.run("put", "x", "of b", "--dir", "b", "--copies", "2")
    assert "is alive" in shell.run("keys", "retire", "b", "--dir", "a", exit_code=1)
    assert "cannot take over" in shell.run("keys", "cut", "b", "--host", "b", "--dir", "a", exit_code=1)
    shell.run("keys", "cut", "b", "--host", "c", "--dir", "a")
    keys = {"a": "member", "b": "cut", "c": "member"}
    shell.until(lambda: shell.key_states("a") == shell.key_states("c") == keys)
    shell.until(lambda: "b" not in shell.alive("a") and not shell.json("status", "--dir", "c")["statistics"]["ended"])
    for name in ("a", "c"):
        shell.until(lambda name=name: shell.run("get", "x", "--dir", name) == "of b\n")  # type: ignore[misc]


def test_a_revoked_member_is_told_that_it_is(shell: Shell) -> None:
    make(shell, "a", "b")
    shell.up("a")
    b = shell.up("b")
    shell.until(lambda: shell.alive("a") == shell.alive("b") == {"a", "b"})
    shell.run("keys", "revoke", "b", "--dir", "a")
    shell.until(lambda: shell.key_states("b")["b"] == "revoked")
    assert "key is revoked" in bad_findings(shell, "b")["rights"]
    assert "let it join again" in shell.end(b)


def test_who_comes_with_a_used_invite_is_told(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ADMISSION_S", 0.5)
    make(shell, "a")
    shell.up("a")
    token = shell.run("invite", "--name", "b", "--dir", "a").strip()
    for directory in ("first", "second"):
        shell.run("join", token, "--bind", f"127.0.0.1:{free_port()}", "--dir", directory)
    shell.up("first")
    shell.until(lambda: shell.alive("a") == {"a", "b"})
    shell.up("second")
    shell.until(lambda: shell.json("status", "--dir", "second")["uptime_s"] > checks.ADMISSION_S)
    assert "used before" in bad_findings(shell, "second")["admission"]
    assert bad_findings(shell, "first") == {}


def bad_findings(shell: Shell, name: str) -> dict[str, str]:
    result = CliRunner().invoke(cli, ["doctor", "--json", "--dir", name])
    bad = {found["what"]: found["found"] for found in map(json.loads, result.stdout.splitlines()) if found["state"] == "bad"}
    assert result.exit_code == (1 if bad else 0)
    return bad


def test_open_invites_are_listed_until_somebody_comes(shell: Shell) -> None:
    make(shell, "a")
    shell.up("a")
    token = shell.run("invite", "--name", "b", "--dir", "a").strip()
    shell.run("invite", "--name", "c", "--dir", "a")
    assert shell.key_states("a") == {"a": "member", "b": "invited", "c": "invited"}
    shell.run("join", token, "--bind", f"127.0.0.1:{free_port()}")
    shell.up("b")
    shell.until(lambda: shell.key_states("a") == {"a": "member", "b": "member", "c": "invited"})
    shell.run("keys", "revoke", "c", "--dir", "a")
    assert shell.key_states("a") == {"a": "member", "b": "member", "c": "revoked"}


def test_a_service_manager_is_told(shell: Shell) -> None:
    make(shell, "a")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(shell.directory / "notify"))
        manager.settimeout(PATIENCE_S)
        node = shell.start("up", "--dir", "a", NOTIFY_SOCKET=str(shell.directory / "notify"), JOURNAL_STREAM="1:1")
        assert manager.recv(4096).decode().splitlines()[0] == "READY=1"
        log = shell.end(node)
        assert manager.recv(4096) == b"STOPPING=1"
    assert node.returncode == 0
    assert all(line.startswith("<6>") for line in log.splitlines()), log


def test_a_program_that_embeds_a_node_can_be_looked_at_too(shell: Shell) -> None:
    program = (
        "import mesh.blocking, sys\n"
        "authority = mesh.Authority.generate()\n"
        "membership = authority.enrol(mesh.Identity.generate(), name='robot')\n"
        "config = mesh.NodeConfig(membership=membership, bind='127.0.0.1:0', data_dir='state')\n"
        "with mesh.blocking.open_node(config) as node:\n"
        "    node.register('x').set(1)\n"
        "    print('up', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=shell.directory,
        env=shell.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    shell.started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert shell.run("get", "x", "--dir", "state") == "1\n"
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


def test_doctor_finds_a_healthy_node_healthy_and_a_blocked_seed(shell: Shell) -> None:
    make(shell, "a", "b")
    shell.up("a")
    findings = {found["what"]: found for found in map(json.loads, shell.run("doctor", "--json", "--dir", "b").splitlines())}
    reach = next(found for what, found in findings.items() if what.startswith("reach seed"))
    assert reach["state"] == "ok"
    assert "member of this mesh answers" in reach["found"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        config = shell.directory / "b/mesh.toml"
        config.write_text(config.read_text().replace("seeds = [", f'seeds = ["127.0.0.1:{silent.getsockname()[1]}", '))
        process = shell.start("doctor", "--json", "--dir", "b")
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    bad = [found for found in map(json.loads, out.splitlines()) if found["state"] == "bad"]
    assert ["no answer" in found["found"] for found in bad] == [True]
