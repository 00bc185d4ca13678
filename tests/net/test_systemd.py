"""The datagram protocol of sd_notify(3), against a real socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from mesh.net import systemd


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The service manager's end, with the environment that it would give a service."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(tmp_path / "notify"))
    sock.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return sock


def test_the_manager_is_told(manager: socket.socket) -> None:
    with manager:
        assert systemd.notify(systemd.READY, "STATUS=5 members")
        assert manager.recv(100) == b"READY=1\nSTATUS=5 members"


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"gossipmesh-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert systemd.notify(systemd.STOPPING)
        assert sock.recv(100) == b"STOPPING=1"


def test_in_a_terminal_there_is_nobody_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify(systemd.READY)


@pytest.mark.parametrize("target", ["/nonexistent/notify", "vsock:2:1", "/" + "x" * 200])
def test_a_manager_out_of_reach_does_not_stop_a_node(
    target: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", target)
    assert not systemd.notify(systemd.READY)
    assert target in caplog.text


@pytest.mark.parametrize(
    ("microseconds", "pid", "interval"),
    [("3000000", "", 1.5), ("3000000", "own", 1.5), ("3000000", "1", None), ("", "", None), ("0", "", None), ("-5", "", None)],
)
def test_the_watchdog_interval_is_half_of_what_is_asked(
    microseconds: str, pid: str, interval: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert systemd.watchdog_interval() == interval


async def test_signs_of_life_go_out_at_that_interval(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with manager:
        with trio.move_on_after(3.5):
            await systemd.watchdog()
        assert [manager.recv(100) for _ in range(4)] == [b"WATCHDOG=1"] * 4  # at 0, 1, 2 and 3 seconds
        with pytest.raises(BlockingIOError):
            manager.recv(100)


async def test_nobody_asked_for_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    await systemd.watchdog()
