"""`mesh lease`: run a command while nobody else on the mesh runs one under the same lease."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from mesh.control.protocol import FAILED, UNKNOWN
from tools.cli import complain
from tools.cli.home import dir_option, find_home
from tools.cli.output import json_option, print_json
from tools.control import Client, ControlError

TOKEN_VARIABLE: Final = "MESH_FENCING_TOKEN"
GRACE: Final = 0.1
"""Of the ttl: for a command that is told to end (SIGTERM) before it is killed. The lease's own margin is as long."""


@click.command()
@click.argument("path")
@click.option("--ttl", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds it outlives this machine.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@dir_option
@json_option
def lease(path: str, ttl: float, command: tuple[str, ...], directory: Path | None, as_json: bool) -> None:
    """Hold the lease on a critical PATH while COMMAND runs: `mesh lease locks/dock-3 --ttl 5 -- dock.sh`.

    Waits until the lease is free. COMMAND finds the fencing token in $MESH_FENCING_TOKEN; what it works on should refuse
    smaller ones.
    Exits as COMMAND does. When the lease is lost, COMMAND is ended and the exit code is 3.
    """
    words = list(command[1:] if command[:1] == ("--",) else command)
    if not words:
        raise click.UsageError("Which command? Write it after --.", click.get_current_context())
    with Client(find_home(directory).data_dir) as node:
        items = node.stream("lease", path=path, ttl=ttl)
        held = next(items)
        if as_json:
            print_json({"path": path, "fencing_token": held["token"]})
        with _running(words, held["token"]) as process:
            code, lost = _wait(process, items, ttl)
    if lost:
        raise ControlError(f"{lost}; {words[0]} was ended, and how far it came is unknown", UNKNOWN)
    sys.exit(code)


@contextmanager
def _running(words: list[str], token: int) -> Iterator[subprocess.Popen[bytes]]:
    """The command, in a process group of its own, so that what it starts ends with it."""
    try:
        process = subprocess.Popen(words, env={**os.environ, TOKEN_VARIABLE: str(token)}, start_new_session=True)
    except OSError as error:
        raise ControlError(f"{words[0]}: {error.strerror}") from error
    try:
        yield process
    finally:
        _end(process, 0.5)


def _wait(process: subprocess.Popen[bytes], items: Iterator[Any], ttl: float) -> tuple[int, str]:
    """(exit code of the command, why the lease was lost or "")."""
    told, tell = os.pipe()
    said: list[str] = []

    def listen() -> None:
        try:
            said.append(next((item["message"] for item in items if item["event"] == "lost"), "the node ended"))
        except ControlError as error:
            said.append(str(error))
        os.write(tell, b"x")

    def watch() -> None:
        process.wait()
        os.write(tell, b"x")

    for task in (listen, watch):
        threading.Thread(target=task, daemon=True).start()
    try:
        select.select([told], [], [])
    except KeyboardInterrupt:
        complain("interrupted: the command is ended, then the lease is given back")
    code = process.poll()
    if code is None:
        _end(process, ttl * GRACE)
        return FAILED, said[0] if said else ""
    return code if code >= 0 else 128 - code, ""


def _end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(grace_seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
