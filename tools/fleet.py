"""Agents as processes: started, spoken to over pipes, killed and ended, none left behind. For the demo and the
measurements.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

import mesh
from mesh.errors import MeshError
from mesh.trust.files import load_membership

ANSWER_SECONDS = 20.0
END_SECONDS = 3.0


class AgentFailed(MeshError):
    """A process of the demo did not do what it was told."""


@dataclass
class AgentPlan:
    """What one agent is started with. `directory` holds its key and credentials; `extra`: arguments of the module's
    own.
    """

    module: str
    name: str
    directory: Path
    bind: str
    advertise: str
    seeds: list[str]
    extra: list[str] = field(default_factory=list)

    def command(self) -> list[str]:
        arguments = ["--dir", str(self.directory), "--name", self.name, "--bind", self.bind, "--advertise", self.advertise]
        for seed in self.seeds:
            arguments += ["--seed", seed]
        return [sys.executable, "-m", self.module, *arguments, *self.extra]


class AgentProcess:
    """One running agent: lines in, JSON lines out."""

    def __init__(self, name: str, process: trio.Process, log: Path | None) -> None:
        self.name = name
        self._process = process
        self._log = log
        self._buffer = b""

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(line.encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._failed("has ended") from None

    async def hear(self, field: str, seconds: float = ANSWER_SECONDS) -> Any:
        """The next message that has this field. Raises AgentFailed after so many seconds."""
        with trio.move_on_after(seconds):
            while True:
                message = json.loads(await self._line())
                if field in message:
                    return message if len(message) > 1 else message[field]
        raise self._failed(f"gave no {field} within {seconds:.0f} s")

    async def ask(self, line: str, field: str) -> Any:
        await self.say(line)
        return await self.hear(field)

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            chunk = await self._process.stdout.receive_some()
            if not chunk:
                raise self._failed("has ended")
            self._buffer += bytes(chunk)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        await self._close()

    async def end(self) -> None:
        """Ask it to leave, insist after a while. Shielded: also on Ctrl-C no process is left."""
        with trio.CancelScope(shield=True):
            if self.running:
                with trio.move_on_after(END_SECONDS):
                    try:
                        await self.say("leave")
                        await self._process.wait()
                    except AgentFailed:
                        pass  # it is going already; the kill below makes sure
            if self.running:
                await self.kill()
            await self._close()

    async def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                await stream.aclose()

    def _failed(self, what: str) -> AgentFailed:
        lines = self._log.read_text(errors="replace").splitlines() if self._log and self._log.exists() else []
        last = next((line.strip(" |") for line in reversed(lines) if line.strip(" |+-")), "")
        return AgentFailed(f"agent {self.name} {what}" + (f": {last}" if last else ""))


class Fleet:
    """All agents of a run, by name."""

    def __init__(self) -> None:
        self.agents: dict[str, AgentProcess] = {}

    async def start(self, plan: AgentPlan) -> AgentProcess:
        """The process runs; whether its node is up is heard as `ready`."""
        return await self.launch(plan.name, plan.command(), plan.directory / "log")

    async def launch(self, name: str, command: list[str], log: Path | None = None) -> AgentProcess:
        """Any program that speaks this protocol; what it writes to standard error goes to the end of `log`."""
        with log.open("ab") if log else nullcontext() as errors:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C reaches the director only, which ends the agents in order
            )
        agent = self.agents[name] = AgentProcess(name, process, log)
        return agent

    async def tell_all(self, line: str) -> None:
        for agent in self.agents.values():
            await agent.say(line)

    async def ready_all(self) -> None:
        for agent in self.agents.values():
            await agent.hear("ready")

    async def ask_all(self, line: str, field: str) -> dict[str, Any]:
        """Everybody is told first, so that the answers are of about one moment."""
        await self.tell_all(line)
        return {name: await agent.hear(field) for name, agent in self.agents.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The other side of `AgentPlan.command`."""
    for name in ("--dir", "--name", "--bind", "--advertise"):
        parser.add_argument(name, required=True)
    parser.add_argument("--seed", action="append", default=[])


def node_config(arguments: argparse.Namespace, *, preset: str = "lan", disk: bool = True) -> mesh.NodeConfig:
    """What these arguments ask for. Raises ConfigError."""
    return mesh.NodeConfig(
        membership=load_membership(arguments.dir),
        bind=arguments.bind,
        advertise=arguments.advertise,
        seeds=arguments.seed,
        data_dir=f"{arguments.dir}/data" if disk else None,
        preset=preset,
    )


@asynccontextmanager
async def open_fleet() -> AsyncIterator[Fleet]:
    """Ends every agent at exit, whatever happened."""
    fleet = Fleet()
    try:
        yield fleet
    finally:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for agent in fleet.agents.values():
                    nursery.start_soon(agent.end)
