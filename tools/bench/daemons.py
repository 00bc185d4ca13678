"""Programs of others (serf, etcd): started, killed, none left behind. They are not asked to leave: their state is thrown away."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio


class Daemons:
    """Running programs, by name."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self.processes: dict[str, trio.Process] = {}

    async def start(self, name: str, command: Sequence[str]) -> None:
        with (self._logs / f"{name}.log").open("ab") as log:
            # A session of its own: Ctrl-C reaches the director only, which ends the programs in order.
            self.processes[name] = await trio.lowlevel.open_process(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    async def kill(self, name: str) -> None:
        """kill -9, and wait until it is gone."""
        process = self.processes.pop(name)
        process.kill()
        await process.wait()

    def last_words(self, name: str) -> str:
        lines = (self._logs / f"{name}.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""


@asynccontextmanager
async def open_daemons(logs: Path) -> AsyncIterator[Daemons]:
    """Kills every program at exit, whatever happened."""
    daemons = Daemons(logs)
    try:
        yield daemons
    finally:
        with trio.CancelScope(shield=True):
            for name in list(daemons.processes):
                await daemons.kill(name)
