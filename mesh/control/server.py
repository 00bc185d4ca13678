"""The node's side of the local control socket.

Whoever can connect owns the node's files anyway, so requests are not distrusted, only bounded: in number, in length, and a client
that does not read its answers holds up nobody but itself.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import trio

from crdt.errors import CrdtError, PathError
from mesh.control.protocol import (
    FAILED,
    UNKNOWN,
    USAGE,
    Lines,
    SocketPath,
    decode_line_untrusted,
    encode_line,
    exit_code_of_silence,
)
from mesh.control.verbs import ANSWERS, STREAMS, BadRequest
from mesh.errors import ConfigError, InvalidPath, Malformed, MeshError, OutcomeUnknown
from mesh.nursery import open_plain_nursery

if TYPE_CHECKING:
    from mesh.node import Node

log: Final = logging.getLogger("mesh.control")

CLIENTS_MAX: Final = 32
"""Connections at a time (guess: a person's terminals and some scripts)."""
ROOM_S: Final = 2.0
"""For somebody to go, when there is no room (guess: a command takes a tenth of a second)."""
_RECEIVE_BYTES: Final = 1 << 16


async def serve(node: Node, data_dir: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
    """Answer until cancelled. The caller holds the lock of the data directory, so a socket that is there is left over.

    Raises ConfigError.
    """
    path = SocketPath(data_dir)
    listener = _listen(path)
    room, queue = trio.Semaphore(CLIENTS_MAX), trio.Semaphore(CLIENTS_MAX)
    try:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await queue.acquire()
                connection, _ = await listener.accept()
                nursery.start_soon(_let_in, node, trio.SocketStream(connection), room, queue)
    finally:
        listener.close()
        path.path.unlink(missing_ok=True)


def _listen(path: SocketPath) -> trio.socket.SocketType:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.path.unlink(missing_ok=True)
        with path as address:
            listener.bind(address)
        os.chmod(path.path, 0o600)  # nobody can connect before listen()
        listener.listen(CLIENTS_MAX)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot make the control socket {path.path}: {error.strerror}") from error
    return trio.socket.from_stdlib_socket(listener)


async def _let_in(node: Node, stream: trio.SocketStream, room: trio.Semaphore, queue: trio.Semaphore) -> None:
    """A burst of commands waits for room; behind programs that stay, each is told why."""
    with trio.move_on_after(ROOM_S) as waiting:
        await room.acquire()
    queue.release()
    if not waiting.cancelled_caught:
        await _serve_one(node, stream, room)
        return
    message = f"{CLIENTS_MAX} programs are connected to this node already: end a `mesh watch` that nobody needs"
    async with stream:
        with trio.move_on_after(ROOM_S), suppress(trio.BrokenResourceError):
            await stream.receive_some(_RECEIVE_BYTES)  # who is still asking would be cut off before it reads the answer
            await stream.send_all(encode_line({"error": "Busy", "message": message, "exit": FAILED}))


async def _serve_one(node: Node, stream: trio.SocketStream, room: trio.Semaphore) -> None:
    lines = Lines()
    try:
        async with stream:
            while data := await stream.receive_some(_RECEIVE_BYTES):
                lines.feed(data)
                while (line := lines.next()) is not None:
                    await _answer(node, stream, line)
    except (trio.BrokenResourceError, Malformed) as error:
        log.debug("a client went away: %s", error)
    finally:
        room.release()


async def _answer(node: Node, stream: trio.SocketStream, line: bytes) -> None:
    do: object = None
    try:
        request = decode_line_untrusted(line)
        do = request.get("do")
        if isinstance(do, str) and do in STREAMS:
            await _send_items(stream, STREAMS[do](node, request))
            reply: dict[str, Any] = {"ok": None}
        elif isinstance(do, str) and do in ANSWERS:
            reply = {"ok": await ANSWERS[do](node, request)}
        else:
            raise BadRequest(f"this node does not know {do!r}: is its version that of the command?")
        answer = encode_line(reply)
    except (MeshError, CrdtError) as error:
        answer = encode_line({"error": type(error).__name__, "message": str(error), "exit": _exit_code(error)})
    except Exception as error:  # a mistake in here must cost the client its answer, not the mesh a node
        log.exception("while answering %.200r", line)
        answer = encode_line(
            {
                "error": type(error).__name__,
                "message": f"the node failed: {error!r}, see its log",
                "exit": exit_code_of_silence(do),
            }
        )
    await stream.send_all(answer)


async def _send_items(stream: trio.SocketStream, items: AsyncGenerator[Any, None]) -> None:
    """One line an item, until there are no more or the client hangs up."""
    async with open_plain_nursery() as nursery, aclosing(items):
        nursery.start_soon(_until_gone, stream, nursery.cancel_scope)
        async for item in items:
            await stream.send_all(encode_line({"item": item}))
        nursery.cancel_scope.cancel()


async def _until_gone(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """A client that has asked for a stream says nothing more until it closes."""
    with suppress(trio.BrokenResourceError):
        await stream.receive_some(1)
    scope.cancel()


def _exit_code(error: Exception) -> int:
    if isinstance(error, OutcomeUnknown):
        return UNKNOWN
    return USAGE if isinstance(error, BadRequest | PathError | InvalidPath | Malformed) else FAILED
