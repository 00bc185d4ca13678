"""`mesh doctor`'s checks, one by one: each says what is wrong and how to mend it."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from mesh.trust import Authority, Identity
from tools.cli import checks, cli
from tools.cli.checks import Finding, State


def test_a_key_that_others_can_read_is_bad(tmp_path: Path) -> None:
    key = tmp_path / "member.key"
    key.write_text("secret")
    key.chmod(0o644)
    (finding,) = checks.check_key_files([key, tmp_path / "missing.key"])
    assert (finding.state, finding.mend) == (State.BAD, f"chmod 600 {key}")
    key.chmod(0o600)
    (finding,) = checks.check_key_files([key])
    assert finding.state is State.OK


@pytest.mark.parametrize(
    ("offset_s", "now", "state"),
    [
        (None, 1.8e9, State.OK),
        (None, 0.0, State.BAD),
        (0.2, 1.8e9, State.OK),
        (-5.0, 1.8e9, State.NOTE),
        (4000.0, 1.8e9, State.BAD),
        (-4000.0, 1.8e9, State.BAD),
    ],
)
def test_a_clock_is_judged_by_its_peers_and_by_reason(offset_s: float | None, now: float, state: State) -> None:
    finding = checks.check_clock(offset_s, now)
    assert finding.state is state
    assert (state is State.OK) or "timedatectl" in finding.mend


def test_small_buffers_and_lost_bursts_are_noted() -> None:
    assert checks.check_buffers(212_992, None).state is State.NOTE
    assert checks.check_buffers(8 << 20, 0).state is State.OK
    drops = checks.check_buffers(8 << 20, 17)
    assert drops.state is State.NOTE
    assert "17" in drops.found
    assert checks.kernel_rmem_max() > 0


def test_a_full_disk_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (healthy,) = checks.check_disk(tmp_path / "data")
    assert healthy.state in (State.OK, State.NOTE)
    assert list(tmp_path.iterdir()) == [], "it tidies up"
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5 << 20))
    (full,) = checks.check_disk(tmp_path / "data")
    assert full.state is State.BAD
    assert "5 MiB" in full.found


def test_a_damaged_database_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    assert checks.check_database(path) is None
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE t (x)")
        database.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 100)
    sound = checks.check_database(path)
    assert sound is not None
    assert sound.state is State.OK
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)
    damaged = checks.check_database(path)
    assert damaged is not None
    assert damaged.state is State.BAD


def test_the_doctor_looks_at_the_quorums_database_too(tmp_path: Path) -> None:
    """`mesh up` refused it, and `mesh doctor` said that all was well."""
    home = tmp_path / "a"
    assert CliRunner().invoke(cli, ["init", str(home), "--name", "a", "--bind", "127.0.0.1:0"]).exit_code == 0
    (home / "data").mkdir()
    (home / "data" / "quorum.db").write_bytes(b"no database" * 500)
    result = CliRunner().invoke(cli, ["doctor", "--dir", str(home)])
    assert result.exit_code == 1
    assert "quorum.db" in result.stdout


def test_a_port_in_use_is_bad() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = taken.getsockname()
        assert checks.check_bind(address).state is State.BAD
    assert checks.check_bind(address).state is State.OK
    elsewhere = checks.check_bind(("192.0.2.1", 7946))
    assert elsewhere.state is State.BAD
    assert "ip address" in elsewhere.mend


def reach(address: tuple[str, int]) -> Finding:
    membership = Authority.generate().enrol(Identity.generate(), name="a")
    *_, finding = checks.check_reach("peer", address, membership)
    return finding


def test_who_does_not_answer_is_told_apart_from_who_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PROBE_SECONDS", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = silent.getsockname()
        assert "no answer" in reach(address).found
    assert "nothing listens" in reach(address).found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_path_mtu_is_what_the_kernel_says() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        there.bind(("127.0.0.1", 0))
        probe.connect(there.getsockname())
        mtu = checks.path_mtu(probe, socket.AF_INET)
        assert mtu is not None
        assert mtu.fits
        assert mtu.size == min(int(Path("/sys/class/net/lo/mtu").read_text()), 0xFFFF)
        assert len(there.recv(4096)) == checks.DATAGRAM_BYTES


def test_a_credential_that_runs_out_is_told_before() -> None:
    assert checks.check_expiry(None, 1.8e9) is None
    for days, state in ((30, State.OK), (3, State.NOTE), (-1, State.BAD)):
        finding = checks.check_expiry(1_800_000_000 + days * 86_400, 1.8e9)
        assert finding is not None
        assert finding.state is state


def test_dropped_datagrams_are_told_by_reason() -> None:
    (finding,) = checks.check_statistics({"drops": {"replayed": 3, "other_mesh": 0}})
    assert (finding.state, finding.found) == (State.NOTE, "replayed 3")
    assert list(checks.check_statistics({"drops": {}})) == []


def test_who_answers_but_lets_nobody_in_is_bad() -> None:
    finding = checks.check_admission(["seed a"], living=1, uptime_s=60.0)
    assert finding is not None
    assert finding.state is State.BAD
    assert "seed a answers" in finding.found
    for answering, living, uptime_s in (([], 1, 60.0), (["seed a"], 2, 60.0), (["seed a"], 1, 1.0)):
        assert checks.check_admission(answering, living, uptime_s) is None


def test_a_key_without_rights_is_bad() -> None:
    assert checks.check_standing("member") is None
    for state in ("revoked", "expired", "refused"):
        finding = checks.check_standing(state)
        assert finding is not None
        assert finding.state is State.BAD
        assert state in finding.found
