"""`mesh lease`: run a command while nobody else on the mesh runs one under the same lease."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import click

from mesh.control.protocol import FAILED, UNKNOWN
from tools.cli import complain
from tools.cli.home import dir_option, find_home
from tools.cli.output import json_option, print_json
from tools.cli.put import TIMEOUT, Seconds
from tools.control import Client, ControlError

TOKEN_VARIABLE: Final = "MESH_FENCING_TOKEN"
GRACE: Final = 0.1
"""Of the ttl: for a command that is told to end (SIGTERM) before it is killed. The lease's own margin is as long."""
GRACE_SECONDS_MAX: Final = 10.0
"""However long the ttl: who presses Ctrl-C does not wait longer for a command that does not listen (guess)."""
ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG: Final = 1
"""prctl(2)."""


@click.command()
@click.argument("path")
@click.option(
    "--ttl", type=Seconds(0.1, 24 * 3600), default=5.0, show_default=True, help="Seconds it outlives this machine; a day at most."
)
@click.option("--timeout", type=TIMEOUT, default=10.0, show_default=True, help="Seconds to wait for a majority of the voters.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@dir_option
@json_option
def lease(path: str, ttl: float, timeout: float, command: tuple[str, ...], directory: Path | None, as_json: bool) -> None:
    """Hold the lease on a critical PATH while COMMAND runs: `mesh lease locks/dock-3 --ttl 5 -- dock.sh`.

    Waits until the lease is free, but not for voters that are away. COMMAND finds the fencing token in $MESH_FENCING_TOKEN;
    what it works on should refuse smaller ones.
    Exits as COMMAND does. When the lease is lost, COMMAND is ended and the exit code is 3.
    """
    words = list(command[1:] if command[:1] == ("--",) else command)
    if not words:
        raise click.UsageError("Which command? Write it after --.", click.get_current_context())
    with Client(find_home(directory).data_dir) as node:
        items = node.stream("lease", path=path, ttl=ttl, timeout=timeout)
        held = next(items)
        if as_json:
            print_json({"path": path, "fencing_token": held["token"]})
        with _endings_as_interrupts(), _running(words, held["token"]) as process:
            code, lost = _wait(process, items, ttl, held["until"])
    if lost:
        raise ControlError(f"{lost}; {words[0]} was ended, and how far it came is unknown", UNKNOWN)
    sys.exit(code)


@contextmanager
def _endings_as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command too: by default they would end this process alone, which gives the lease back."""
    former = {number: signal.getsignal(number) for number in ENDINGS}
    for number, handler in former.items():
        if handler is not signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _running(words: list[str], token: int) -> Iterator[subprocess.Popen[bytes]]:
    """The command, in a process group of its own, so that what it starts ends with it."""
    prctl = ctypes.CDLL(None).prctl

    def end_with_parent() -> None:
        """When this process is killed, its node gives the lease back at once: then nothing may run under it."""
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    try:
        process = subprocess.Popen(
            words, env={**os.environ, TOKEN_VARIABLE: str(token)}, start_new_session=True, preexec_fn=end_with_parent
        )
    except OSError as error:
        raise ControlError(f"{words[0]}: {error.strerror}") from error
    try:
        yield process
    finally:
        _end(process, 0.5)


def _wait(process: subprocess.Popen[bytes], items: Iterator[Any], ttl: float, until: float) -> tuple[int, str]:
    """(exit code of the command, why the lease was lost or "")."""
    news: queue.SimpleQueue[float | str] = queue.SimpleQueue()
    """Until when the lease is held now; or why it is not; or "" when the command has ended."""

    def listen() -> None:
        try:
            for item in items:
                news.put(item["message"] if item["event"] == "lost" else item["until"])
            news.put("the node ended")
        except ControlError as error:
            news.put(str(error))

    def watch() -> None:
        process.wait()
        news.put("")

    for task in (listen, watch):
        threading.Thread(target=task, daemon=True).start()
    try:
        said = _first_word(news, until, ttl * GRACE)
    except KeyboardInterrupt:
        complain("interrupted: the command is ended, then the lease is given back")
        said = ""
    code = process.poll()
    if code is None:
        _end(process, min(ttl * GRACE, GRACE_SECONDS_MAX))
        return FAILED, said
    return code if code >= 0 else 128 - code, ""


def _first_word(news: queue.SimpleQueue[float | str], until: float, margin: float) -> str:
    """What ended it. A node that says nothing any more, because it is stopped or hangs, ends it too: in time."""
    while True:
        try:
            told = news.get(timeout=max(0.0, until - margin - time.monotonic()))
        except queue.Empty:
            return "the node has not said in time that the lease was renewed"
        if isinstance(told, str):
            return told
        until = told


def _end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Whatever it started, and even when somebody presses Ctrl-C again meanwhile."""
    if process.poll() is not None:
        return
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(grace_seconds)
