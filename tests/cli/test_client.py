"""The command's side of the socket, against nodes that behave badly."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.control.protocol import FAILED, SOCKET_NAME, UNKNOWN
from tools.control import Client, ControlError, NotRunning

Behaviour = Callable[[socket.socket], object]


def misbehaving(data_dir: Path, behave: Behaviour) -> threading.Thread:
    """A node that answers one connection like this."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(data_dir / SOCKET_NAME))
    listener.listen()

    def answer() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                behave(connection)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


@pytest.mark.parametrize(("do", "exit_code"), [("get", FAILED), ("put", UNKNOWN), ("tell", UNKNOWN)])
@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (lambda connection: None, "stopped before it answered"),
        (lambda connection: connection.sendall(b'{"ok": '), "stopped before it answered"),
        (lambda connection: connection.sendall(b"hello\n"), "does not speak my language"),
        (lambda connection: connection.recv(1), "no answer"),
    ],
)
def test_an_answer_that_never_comes_leaves_a_write_unknown_and_a_read_failed(
    tmp_path: Path, behave: Behaviour, message: str, do: str, exit_code: int
) -> None:
    node = misbehaving(tmp_path, behave)
    with Client(tmp_path, timeout=0.2) as client, pytest.raises(ControlError, match=message) as failure:
        client.ask(do)
    node.join()
    assert failure.value.exit_code == exit_code


def test_a_refusal_is_the_node_s_own_words(tmp_path: Path) -> None:
    node = misbehaving(tmp_path, lambda connection: connection.sendall(b'{"error": "X", "message": "no", "exit": 2}\n'))
    with Client(tmp_path) as client, pytest.raises(ControlError, match=r"^no$") as failure:
        client.ask("put")
    node.join()
    assert failure.value.exit_code == 2


def test_a_stream_ends_with_its_node(tmp_path: Path) -> None:
    node = misbehaving(tmp_path, lambda connection: connection.sendall(b'{"item": 1}\n{"item": 2}\n'))
    with Client(tmp_path) as client:
        items = client.stream("watch")
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(ControlError) as failure:
            next(items)
    node.join()
    assert failure.value.exit_code == FAILED


def test_nobody_there_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="mesh up"), Client(tmp_path):
        pass
    with pytest.raises(NotRunning), Client(tmp_path / "missing"):
        pass
