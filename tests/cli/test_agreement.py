"""Agreement from the shell, with real processes: propose, lease, quorum, verify."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from mesh.trust import read_token
from mesh.trust.token import write_token
from tests.cli.test_running import PATIENCE_S, Shell, free_port
from tests.cli.test_running import shell as shell  # a fixture


def make(shell: Shell, *others: str) -> None:
    """Three voters, or one; `a` holds the authority."""
    shell.run(
        "init", "a", "--name", "a", "--bind", f"127.0.0.1:{free_port()}", "--critical", "tasks/**", "--critical", "locks/**"
    )
    for name in others:
        token = shell.run("invite", "--name", name, "--voter", "--dir", "a").strip()
        shell.run("join", token, "--bind", f"127.0.0.1:{free_port()}")


def has_voters(shell: Shell, name: str, count: int) -> bool:
    found = shell.json("quorum", "show", "--dir", name)
    return len(found["voters"]) == count and found["leader"] is not None


def exported(shell: Shell, name: str) -> int:
    """Decisions of agents in what this one exports to the file `ledger`."""
    shell.run("quorum", "export", "ledger", "--dir", name)
    return sum(bool(row["author"]) for row in shell.json("verify", "ledger", "--dir", name)["decisions"])


def test_critical_writes_from_the_shell(shell: Shell) -> None:
    make(shell, "b", "c")
    nodes = [shell.up(name) for name in ("a", "b", "c")]
    shell.until(lambda: all(has_voters(shell, name, 3) for name in ("a", "b", "c")))
    receipt = shell.json("propose", "tasks/1/owner", "r7", "--expect", "null", "--why", "it is near", "--dir", "b")
    assert len(receipt["acknowledged_by"]) >= 2
    assert shell.run("get", "tasks/1/owner", "--now", "--dir", "c") == "r7\n"
    assert shell.json("get", "tasks/1/owner", "--now", "--dir", "a")["type"] == "critical"
    assert "holds 'r7'" in shell.run("propose", "tasks/1/owner", "r8", "--expect", "null", "--dir", "c", exit_code=1)
    assert "only the quorum writes there" in shell.run("put", "tasks/1/owner", "r9", "--dir", "c", exit_code=1)
    assert "verify FILE" in shell.run("history", "tasks/1/owner", "--dir", "c", exit_code=1), "not: nothing is there"
    assert "not critical" in shell.run("get", "robots/1", "--now", "--dir", "c", exit_code=2)
    assert "critical prefix" in shell.run("propose", "robots/1", "x", "--dir", "c", exit_code=1)
    assert "shell-destroys (" in shell.run("propose", "tasks/2", "rm -rf /", "--dir", "a", exit_code=1), "and why"
    shell.run("propose", "tasks/2", exit_code=2)
    again = shell.json("propose", "tasks/1/owner", "r7", "--key", receipt["idempotency_key"], "--dir", "b")
    assert again["index"] == receipt["index"]
    shell.run("propose", "tasks/1/owner", "--remove", "--dir", "a")
    assert "nothing at" in shell.run("get", "tasks/1/owner", "--now", "--dir", "b", exit_code=1)

    shell.until(lambda: exported(shell, "c") == 4)  # what is exported is proven, and proofs follow what they prove
    for process in nodes:
        process.send_signal(signal.SIGSTOP)
    try:
        report = shell.json("verify", "ledger", "--dir", "a")
    finally:
        for process in nodes:
            process.send_signal(signal.SIGCONT)
    told = [(row["author"], row["kind"], row["path"], row["outcome"]) for row in report["decisions"] if row["author"]]
    assert told == [
        ("b", "compare_and_set", "tasks/1/owner", "done"),
        ("c", "compare_and_set", "tasks/1/owner", "mismatch"),
        ("a", "set", "tasks/2", "rule: shell-destroys"),
        ("a", "delete", "tasks/1/owner", "done"),
    ]
    assert report["authority_known"]
    assert next(row for row in report["decisions"] if row["author"])["rationale"] == "it is near"
    assert "there is no directory nowhere" in shell.run("quorum", "export", "nowhere/one", "--dir", "a", exit_code=1)
    shell.run("quorum", "export", "one", "--index", str(receipt["index"]), "--dir", "a")
    assert shell.json("verify", "one")["first"] == receipt["index"]


def test_a_file_that_was_changed_or_is_of_another_mesh_proves_nothing(shell: Shell) -> None:
    make(shell)
    shell.up("a")
    shell.until(lambda: has_voters(shell, "a", 1))
    for number in range(3):
        shell.run("propose", f"tasks/{number}", str(number), "--dir", "a")
    shell.run("quorum", "export", "ledger", "--dir", "a")
    raw = Path("ledger").read_bytes()
    for place in range(3, len(raw), len(raw) // 97):
        Path("changed").write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        assert "proves nothing" in shell.run("verify", "changed", "--dir", "a", exit_code=1), place
    assert "another authority" in shell.run("verify", "ledger", "--authority", "00" * 32, exit_code=1)
    Path("empty").write_bytes(b"")
    shell.run("verify", "empty", exit_code=1)


def test_without_a_majority_the_outcome_is_unknown(shell: Shell) -> None:
    make(shell, "b", "c")
    nodes = [shell.up(name) for name in ("a", "b", "c")]
    shell.until(lambda: all(has_voters(shell, name, 3) for name in ("a", "b", "c")))
    for process in nodes[1:]:
        process.kill()
        process.wait()
    complaint = shell.run("propose", "tasks/1", "1", "--timeout", "0.5", "--key", "k", "--dir", "a", exit_code=3)
    assert "may still be done" in complaint
    assert "empty" in shell.run("propose", "tasks/1", "1", "--key", "", "--dir", "a", exit_code=2), "it was no key at all"
    complaint = shell.run("propose", "tasks/2", "1", "--timeout", "0.5", "--dir", "a", exit_code=3)
    key = complaint.rpartition("--key ")[2].strip()  # without one, asking again was another write
    again = shell.up("b")
    first = shell.json("propose", "tasks/2", "1", "--timeout", "20", "--key", key, "--dir", "a")
    assert shell.json("propose", "tasks/2", "1", "--key", key, "--dir", "a")["index"] == first["index"]
    again.kill()
    again.wait()
    for words in (("get", "tasks/1", "--now"), ("lease", "locks/dock"), ("lease", "locks/dock", "--ttl", "1")):
        rest = ("--", "true") if words[0] == "lease" else ()
        complaint = shell.run(*words, "--timeout", "0.5", "--dir", "a", *rest, exit_code=1)
        assert "no majority of the voters (a, b, c)" in complaint, "they said nothing, for ever"
        assert "quorum reset" in complaint
    shell.until(lambda: "nobody: 1 of 3 voters alive, 2 needed" in shell.run("quorum", "show", "--dir", "a"))  # not who led last
    assert shell.json("quorum", "show", "--dir", "a")["leader"] is None
    assert "led by nobody: 1 of 3 voters alive" in shell.run("status", "--dir", "a")
    shell.run("keys", "rotate", "--dir", "a")  # the new epoch named its voter by the id of the new key, which is nobody's
    shell.run("quorum", "reset", "--yes", "--dir", "a")
    shell.until(lambda: has_voters(shell, "a", 1) and shell.json("quorum", "show", "--dir", "a")["epoch"] == 2)
    shell.run("propose", "tasks/1", "2", "--dir", "a")
    assert shell.run("get", "tasks/1", "--dir", "a") == "2\n"
    assert "WARNING quorum lost" in shell.end(nodes[0]), "it was said in passing"


def test_a_command_runs_while_the_lease_is_held(shell: Shell) -> None:
    make(shell)
    node = shell.up("a")
    shell.until(lambda: has_voters(shell, "a", 1))
    log = shell.directory / "log"
    script = f'echo "in $MESH_FENCING_TOKEN" >> {log}; sleep 0.3; echo "out $MESH_FENCING_TOKEN" >> {log}; exit 7'
    both = [shell.start("lease", "locks/dock", "--ttl", "2", "--dir", "a", "--", "sh", "-c", script) for _ in range(2)]
    assert [process.wait(PATIENCE_S) for process in both] == [7, 7]
    first, second, third, fourth = [line.split() for line in log.read_text().splitlines()]
    assert (first[0], second[0], third[0], fourth[0]) == ("in", "out", "in", "out"), "one after the other"
    assert int(first[1]) < int(third[1])

    pid_file = shell.directory / "pid"
    command = f"echo $$ > {pid_file}; exec sleep 60"
    lost = shell.start("lease", "locks/dock", "--ttl", "0.5", "--dir", "a", "--", "sh", "-c", command)
    shell.until(lambda: pid_file.exists() and bool(pid_file.read_text().strip()))
    node.kill()
    assert lost.wait(PATIENCE_S) == 3
    shell.until(lambda: not is_running(int(pid_file.read_text())))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state) and not state.startswith("Z")


def test_what_a_lease_says_for_programs(shell: Shell) -> None:
    make(shell)
    shell.up("a")
    shell.until(lambda: has_voters(shell, "a", 1))
    process = shell.start("lease", "locks/dock", "--json", "--dir", "a", "--", "true")
    assert process.wait(PATIENCE_S) == 0
    assert process.stdout is not None
    assert json.loads(process.stdout.read())["fencing_token"] > 1 << 32
    assert shell.start("lease", "locks/dock", "--dir", "a", "--", "no-such-program").wait(PATIENCE_S) == 1
    assert shell.start("lease", "locks/dock", "--dir", "a").wait(PATIENCE_S) == 2


def test_a_command_does_not_outlive_its_lease(shell: Shell) -> None:
    """SIGTERM and kill -9 ended `mesh lease` alone, and a frozen node did not end the command: two ran under one lease."""
    make(shell)
    node = shell.up("a")
    shell.until(lambda: has_voters(shell, "a", 1))
    pid_file = shell.directory / "pid"

    def start() -> tuple[subprocess.Popen[str], int]:
        pid_file.unlink(missing_ok=True)
        command = f"echo $$ > {pid_file}; exec sleep 60"
        lease = shell.start("lease", "locks/dock", "--ttl", "1", "--dir", "a", "--", "sh", "-c", command)
        shell.until(lambda: pid_file.exists() and bool(pid_file.read_text().strip()))
        return lease, int(pid_file.read_text())

    for number, code in ((signal.SIGTERM, 1), (signal.SIGHUP, 1), (signal.SIGKILL, -signal.SIGKILL)):
        lease, command = start()
        lease.send_signal(number)
        assert lease.wait(PATIENCE_S) == code
        shell.until(lambda command=command: not is_running(command))  # type: ignore[misc]
    lease, command = start()
    node.send_signal(signal.SIGSTOP)
    try:
        assert lease.wait(PATIENCE_S) == 3
        assert not is_running(command)
    finally:
        node.send_signal(signal.SIGCONT)
    assert lease.stderr is not None
    assert "has not said in time" in lease.stderr.read()


def test_seconds_that_no_clock_can_count(shell: Shell) -> None:
    """nan, inf and 1e300 were tracebacks; a ttl of a year was a failure of the node; 1e999 was a traceback too."""
    make(shell)
    shell.up("a")
    shell.until(lambda: has_voters(shell, "a", 1))
    for seconds in ("nan", "inf", "1e300"):
        for words in (("put", "x", "1", "--copies", "1", "--timeout"), ("propose", "tasks/1", "1", "--timeout")):
            assert "--timeout" in shell.run(*words, seconds, "--dir", "a", exit_code=2)
        assert "--ttl" in shell.run("lease", "locks/dock", "--ttl", seconds, "--dir", "a", "true", exit_code=2)
    assert "--ttl" in shell.run("lease", "locks/dock", "--ttl", "86401", "--dir", "a", "true", exit_code=2)
    for verb, path in (("put", "x"), ("propose", "tasks/1")):
        assert "too large for a number" in shell.run(verb, path, '{"far": -1e999}', "--dir", "a", exit_code=2)


def test_a_voter_is_dismissed_and_appointed_from_the_shell(shell: Shell) -> None:
    make(shell, "b", "c", "d")
    for name in ("a", "b", "c", "d"):
        shell.up(name)
    shell.until(lambda: all(has_voters(shell, name, 3) for name in ("a", "b", "c", "d")))
    names = {voter["name"] for voter in shell.json("quorum", "show", "--dir", "a")["voters"]}
    gone = min(names - {"a"})
    assert "no member is called x" in shell.run("quorum", "dismiss", "x", "--dir", "a", exit_code=1)
    shell.run("quorum", "dismiss", gone, "--dir", "a")
    now = {"a", "b", "c", "d"} - {gone}
    shell.until(lambda: {each["name"] for each in shell.json("quorum", "show", "--dir", gone)["voters"]} == now)
    assert f"{gone} has no vote" in shell.run("quorum", "dismiss", gone, "--dir", "a", exit_code=1)
    shell.run("propose", "tasks/1", "1", "--dir", gone)
    shell.until(lambda: exported(shell, "a") == 1)
    change = shell.json("verify", "ledger", "--dir", "a")["changes"][-1]
    assert change["went"] == change["countersigned"] == [gone]
    assert f"{gone} (countersigned)" in shell.run("verify", "ledger", "--dir", "a")
    shell.run("quorum", "appoint", gone, "--score", "3", "--dir", "a")
    assert "may vote already, with score 3" in shell.run("quorum", "appoint", gone, "--dir", "a", exit_code=1)


def test_a_newcomer_takes_no_other_history_than_its_token_names(shell: Shell) -> None:
    make(shell)
    early = shell.json("invite", "--name", "early", "--dir", "a", "--address", "127.0.0.1:9")
    assert early["anchor"] is None, "made while nothing runs"
    shell.up("a")
    shell.until(lambda: has_voters(shell, "a", 1))
    for number in range(3):
        shell.run("propose", "tasks/1", str(number), "--dir", "a")
    made = shell.json("invite", "--name", "b", "--dir", "a")
    index = shell.json("quorum", "show", "--dir", "a")["proven_index"]
    assert made["anchor"] == {"epoch": 1, "index": index}
    joined = shell.json("join", made["token"], "--bind", f"127.0.0.1:{free_port()}")
    assert joined["anchor"] == made["anchor"]
    shell.up("b")
    shell.until(lambda: shell.json("quorum", "show", "--dir", "b")["commit_index"] >= index)
    assert shell.json("get", "tasks/1", "--dir", "b")["value"] == 2
    assert shell.json("quorum", "show", "--dir", "b")["awaited_index"] == 0
    token = read_token(shell.json("invite", "--name", "c", "--dir", "a")["token"])
    assert token.anchor is not None
    index = token.anchor.index
    lie = write_token(
        token.charter, token.invite, token.invite_identity, token.addresses, (), token.anchor._replace(hash=bytes(16))
    )
    shell.run("join", lie, "--bind", f"127.0.0.1:{free_port()}", "--dir", "c")
    shell.up("c")
    shell.until(lambda: shell.json("quorum", "show", "--dir", "c")["awaited_index"] == index)
    shell.run("get", "tasks/1", "--dir", "c", exit_code=1)
    assert "--timeout" not in shell.run("get", "tasks/1", "--now", "--timeout", "1", "--dir", "c", exit_code=1)
