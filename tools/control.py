"""The command's side of the local control socket. No trio: a command asks one question and is gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mesh.control.protocol import FAILED, Lines, SocketPath, decode_line_untrusted, encode_line, exit_code_of_silence
from mesh.errors import Malformed, MeshError

TIMEOUT_S: Final = 30.0
"""For an answer that needs no network; a node that is silent for so long hangs (guess)."""
_RECEIVE_BYTES: Final = 1 << 16


class ControlError(MeshError):
    """The node could not be asked, or said no. `exit_code` is what the command should exit with."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NotRunning(ControlError):
    """No node answers in this data directory."""


class Client:
    """One connection to the node that runs in a data directory."""

    def __init__(self, data_dir: Path, *, timeout: float | None = TIMEOUT_S) -> None:
        self._data_dir = data_dir
        self._timeout = timeout
        self._lines = Lines()
        self._lost = FAILED
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        with self._told_apart(NotRunning(f"no node is running in {self._data_dir}: start one there with `mesh up`")):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(self._timeout)
                with SocketPath(self._data_dir) as address:
                    connection.connect(address)
            except BaseException:
                connection.close()
                raise
        self._socket = connection
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._socket is not None:
            self._socket.close()

    def ask(self, do: str, **arguments: Any) -> Any:
        """The answer to one request. Raises ControlError; with exit code 3 when the node was lost before it
        answered.
        """
        self._lost = exit_code_of_silence(do)
        self._send({"do": do, **arguments})
        return self._answer(self._receive())

    def stream(self, do: str, **arguments: Any) -> Iterator[Any]:
        """The items of a request that has many. The node may be silent between two for any time."""
        self._lost = exit_code_of_silence(do)
        self._send({"do": do, **arguments})
        assert self._socket is not None
        self._socket.settimeout(None)
        while "item" in (message := self._receive()):
            yield message["item"]
        self._answer(message)

    def _answer(self, message: dict[str, Any]) -> Any:
        if "ok" in message:
            return message["ok"]
        raise ControlError(str(message.get("message", "the node gave no reason")), int(message.get("exit", FAILED)))

    def _send(self, message: dict[str, Any]) -> None:
        assert self._socket is not None
        line = encode_line(message)
        with self._told_apart(ControlError("the node stopped while it was asked: see its log", self._lost)):
            self._socket.sendall(line)

    def _receive(self) -> dict[str, Any]:
        assert self._socket is not None
        while (line := self._lines.next()) is None:
            with self._told_apart(ControlError("the node stopped before it answered: see its log", self._lost)):
                data = self._socket.recv(_RECEIVE_BYTES)
                if not data:
                    raise ConnectionResetError
                self._lines.feed(data)
        try:
            return decode_line_untrusted(line)
        except Malformed as error:
            raise ControlError(
                f"the node does not speak my language ({error}): is its version the same as mine?", self._lost
            ) from error

    @contextmanager
    def _told_apart(self, otherwise: ControlError) -> Iterator[None]:
        """Turns what a socket can raise into what its user can do about it."""
        try:
            yield
        except PermissionError as error:
            raise ControlError(f"the node in {self._data_dir} is somebody else's: run this as its owner") from error
        except TimeoutError as error:
            raise ControlError(
                f"no answer from the node in {self._data_dir} for {self._timeout:g} s: see its log", self._lost
            ) from error
        except OSError as error:
            raise otherwise from error
