"""How the `mesh` command and a running node talk: a UNIX socket in the node's data directory, one JSON object a line.

    request   {"do": "get", ...arguments}
    answer    {"ok": result}
            | {"item": ...} any number of times, then {"ok": null}     a stream: watch, snapshot
            | {"error": "NotPermitted", "message": "...", "exit": 1}   `exit` is what the command should exit with

One request at a time; who wants two at once connects twice. Only the owner of the data directory may connect (mode 0600).
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, Final

from mesh.errors import ConfigError, Malformed

SOCKET_NAME: Final = "control.sock"
LINE_BYTES_MAX: Final = 8 << 20
"""A value of 1 MiB (DESIGN section 2) is at most 6 MiB as JSON text, when every byte of it is a control character."""
DONE, FAILED, USAGE, UNKNOWN = 0, 1, 2, 3
"""Exit codes (DESIGN section 11)."""
CHANGING: Final = frozenset({"put", "tell", "propose"})
"""Requests of which it matters whether they were carried out, when no answer comes."""

_UNIX_PATH_MAX: Final = 107
"""unix(7): 108 bytes with the zero at the end."""


def exit_code_of_silence(do: object) -> int:
    """What a command should exit with that never heard the answer to this request."""
    return UNKNOWN if do in CHANGING else FAILED


def encode_line(message: dict[str, Any]) -> bytes:
    """Raises ConfigError when the line would be longer than the other side reads."""
    line = (
        json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "surrogatepass") + b"\n"
    )
    if len(line) > LINE_BYTES_MAX:
        raise ConfigError(
            f"that is {len(line):,} bytes of JSON, the local socket carries {LINE_BYTES_MAX:,}: ask for a part of it"
        )
    return line


def decode_line_untrusted(line: bytes) -> dict[str, Any]:
    """Raises Malformed."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not a line of JSON: {error}") from error
    if not isinstance(message, dict):
        raise Malformed("a line holds one JSON object")
    return message


class Lines:
    """Cuts a byte stream into lines of bounded length."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole line without its end, None when there is none yet. Raises Malformed when it grows too long."""
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > LINE_BYTES_MAX:
                raise Malformed(f"a line of more than {LINE_BYTES_MAX:,} bytes")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line


class SocketPath:
    """The address of a data directory's socket, short enough for the kernel wherever the directory is.

    A path above 107 bytes is reached through a descriptor of its directory, so use the address inside the context.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / SOCKET_NAME
        self._directory: int | None = None

    def __enter__(self) -> str:
        path = str(self.path.absolute())
        if len(os.fsencode(path)) <= _UNIX_PATH_MAX:
            return path
        self._directory = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._directory}/{SOCKET_NAME}"

    def __exit__(self, *_: object) -> None:
        if self._directory is not None:
            os.close(self._directory)


def someone_listens(data_dir: Path) -> bool:
    """Whether a living process answers on the socket of this data directory."""
    try:
        with SocketPath(data_dir) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(address)
    except OSError:
        return False
    return True
