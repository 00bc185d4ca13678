"""Serf agents, profile `local` (its fastest; the others are for slower networks).

A write is a user event without coalescing, the nearest thing to replicated state that Serf has; it is heard through each
agent's own RPC stream, as a program that uses Serf would.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tools.bench.daemons import Daemons, open_daemons
from tools.bench.peers import missing_module, missing_program
from tools.bench.ports import free_ports
from tools.figures import Report
from tools.fleet import AgentFailed
from tools.measure.notebook import Notebook
from tools.measure.swarm import stopped

START_SECONDS = 60.0
ANSWER_SECONDS = 20.0


def missing() -> str | None:
    return missing_program("serf", "serf") or missing_module("msgpack", "msgpack")


class Rpc:
    """One connection to an agent's RPC port (Serf's documented protocol: MessagePack, a header and a body each way)."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._msgpack = importlib.import_module("msgpack")
        self._stream = stream
        self._unpacker = self._msgpack.Unpacker(raw=False, unicode_errors="replace")
        self._seq = 0

    async def call(self, command: str, body: dict[str, Any] | None = None) -> int:
        """Send a request; its number, which its answers carry."""
        self._seq += 1
        request = self._msgpack.packb({"Command": command, "Seq": self._seq})
        await self._stream.send_all(request + (self._msgpack.packb(body) if body is not None else b""))
        return self._seq

    async def next(self) -> Any:
        """The next object that the agent sent."""
        while True:
            try:
                return self._unpacker.unpack()
            except self._msgpack.OutOfData:
                data = await self._stream.receive_some()
                if not data:
                    raise AgentFailed("a serf agent closed its RPC connection") from None
                self._unpacker.feed(data)

    async def done(self) -> None:
        """The answer to a request that has no body. Raises AgentFailed."""
        error = (await self.next())["Error"]
        if error:
            raise AgentFailed(f"serf refused: {error}")

    async def aclose(self) -> None:
        await self._stream.aclose()


class SerfSwarm:
    def __init__(self, daemons: Daemons) -> None:
        self._daemons = daemons
        self._rpc: dict[str, Rpc] = {}
        self._notebooks: dict[str, Notebook] = {}

    @property
    def names(self) -> list[str]:
        return list(self._notebooks)

    @property
    def pids(self) -> list[int]:
        return [self._daemons.processes[name].pid for name in self._notebooks]

    async def write(self, name: str, number: int) -> None:
        self._notebooks[name].writes(number)
        await self._rpc[name].call("event", {"Name": name, "Payload": str(number), "Coalesce": False})
        await self._rpc[name].done()

    async def reports(self) -> list[Report]:
        return [notebook.report() for notebook in self._notebooks.values()]

    async def kill(self, name: str) -> None:
        del self._notebooks[name]
        await self._daemons.kill(name)

    @asynccontextmanager
    async def silenced(self, name: str) -> AsyncIterator[None]:
        del self._notebooks[name]
        async with stopped(self._daemons.processes[name].pid, partial(self._daemons.kill, name)):
            yield

    async def attach(self, name: str, rpc_port: int, nursery: trio.Nursery) -> None:
        """Two connections as soon as the agent listens: one to write by, one to listen."""
        self._notebooks[name] = Notebook(name)
        self._rpc[name] = await _connect(rpc_port)
        listener = await _connect(rpc_port)
        await listener.call("stream", {"Type": "user,member-failed"})
        await listener.done()
        nursery.start_soon(self._listen, name, listener)

    async def members(self, name: str) -> int:
        rpc = self._rpc[name]
        await rpc.call("members")
        await rpc.done()
        return sum(member["Status"] == "alive" for member in (await rpc.next())["Members"])

    async def _listen(self, name: str, rpc: Rpc) -> None:
        notebook = self._notebooks[name]
        while True:
            try:
                await rpc.next()
                event = await rpc.next()
            except (trio.BrokenResourceError, AgentFailed):
                if name in self._notebooks:
                    raise
                return  # it was killed on purpose
            if event["Event"] == "user" and event["Name"] != name:
                notebook.sees(event["Name"], int(event["Payload"]))
            elif event["Event"] == "member-failed":
                for member in event["Members"]:
                    notebook.hears("MemberDown", member["Name"])


async def _connect(port: int) -> Rpc:
    with trio.move_on_after(START_SECONDS):
        while True:
            try:
                rpc = Rpc(await trio.open_tcp_stream("127.0.0.1", port))
            except OSError:  # it does not listen yet
                await trio.sleep(0.05)
                continue
            await rpc.call("handshake", {"Version": 1})
            await rpc.done()
            return rpc
    raise AgentFailed(f"a serf agent did not listen within {START_SECONDS:.0f} s")


@asynccontextmanager
async def open_serf(processes: int) -> AsyncIterator[SerfSwarm]:
    ports = free_ports(2 * processes)
    with tempfile.TemporaryDirectory(prefix="mesh-bench-serf-") as directory:
        async with open_daemons(Path(directory)) as daemons, trio.open_nursery() as nursery:
            swarm = SerfSwarm(daemons)
            for number in range(processes):
                bind, rpc = ports[2 * number], ports[2 * number + 1]
                command = ["serf", "agent", f"-bind=127.0.0.1:{bind}", f"-rpc-addr=127.0.0.1:{rpc}", f"-node={bind}"]
                join = [f"-join=127.0.0.1:{ports[0]}"] if number else []
                await daemons.start(str(bind), [*command, "-profile=local", "-log-level=err", *join])
                await swarm.attach(str(bind), rpc, nursery)
            deadline = time.monotonic() + START_SECONDS
            while not all([await swarm.members(name) == processes for name in swarm.names]):
                if time.monotonic() > deadline:
                    raise AgentFailed(f"the serf agents did not all meet within {START_SECONDS:.0f} s")
                await trio.sleep(0.2)
            yield swarm
            nursery.cancel_scope.cancel()
