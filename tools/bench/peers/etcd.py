"""Three etcd servers on loopback.

`default`: as shipped. `tuned`: heartbeat and election time-out as its tuning guide computes them for a round trip of up to
10 ms: the heartbeat is one round trip, the election time-out ten. Here round trips are shorter, but its disk syncs count too.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tools.bench.daemons import Daemons, open_daemons
from tools.bench.peers import missing_module, missing_program
from tools.bench.ports import free_ports
from tools.fleet import AgentFailed, AgentProcess, open_fleet
from tools.measure.notebook import now_us

START_SECONDS = 30.0
TIMING = {"default": [], "tuned": ["--heartbeat-interval=10", "--election-timeout=100"]}


def missing() -> str | None:
    return missing_program("etcd", "etcd-server") or missing_program("etcdctl", "etcd-client") or missing_module("grpc", "grpcio")


class EtcdQuorum:
    """Three servers, and clients in processes of their own."""

    def __init__(self, daemons: Daemons, addresses: dict[str, str], clients: AgentProcess, streamer: AgentProcess) -> None:
        self._daemons = daemons
        self._addresses = addresses
        self._clients = clients
        self._streamer = streamer

    async def one(self, seconds: float) -> list[float]:
        delays: list[float] = await self._clients.ask(f"one {seconds}", "one")
        return delays

    async def many(self, clients: int, seconds: float) -> float:
        return float(await self._clients.ask(f"many {clients} {seconds}", "many"))

    async def stream(self) -> None:
        await self._streamer.say("stream")

    async def commits(self) -> list[tuple[int, int]]:
        return [(begun, committed) for begun, committed in await self._streamer.ask("commits", "commits")]

    async def kill_leader(self) -> int:
        leader = await _leader(list(self._addresses.values()))
        killed_at = now_us()
        await self._daemons.kill(next(name for name, address in self._addresses.items() if address == leader))
        return killed_at


async def _leader(addresses: list[str]) -> str:
    """The address that the leader serves clients at."""
    command = ["etcdctl", "--endpoints", ",".join(addresses), "endpoint", "status", "-w", "json"]
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        answer = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env={**os.environ, "ETCDCTL_API": "3"}
        )
        for status in _statuses(answer.stdout):
            if status["Status"].get("leader") == status["Status"]["header"]["member_id"]:
                return str(status["Endpoint"])
        await trio.sleep(0.1)
    raise AgentFailed(f"etcd had no leader within {START_SECONDS:.0f} s")


def _statuses(answer: bytes) -> list[dict[str, Any]]:
    lines = answer.decode(errors="replace").strip()
    return list(json.loads(lines)) if lines.startswith("[") else []


@asynccontextmanager
async def open_etcd(timing: str) -> AsyncIterator[EtcdQuorum]:
    """The data directories are temporary files of this machine's disk: etcd syncs every commit to it, as shipped."""
    ports = free_ports(6)
    names = ["one", "two", "three"]
    peers = {name: f"http://127.0.0.1:{port}" for name, port in zip(names, ports[:3], strict=True)}
    addresses = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports[3:], strict=True)}
    with tempfile.TemporaryDirectory(prefix="mesh-bench-etcd-") as directory:
        async with open_daemons(Path(directory)) as daemons, open_fleet() as fleet:
            for name in names:
                await daemons.start(name, _command(name, Path(directory) / name, peers, addresses[name], timing))
            leader = await _leader(list(addresses.values()))
            every = [argument for address in addresses.values() for argument in ("--address", address)]
            command = [sys.executable, "-m", "tools.bench.peers.etcd_client", *every]
            clients = await fleet.launch("clients", [*command, "--leader", leader])
            streamer = await fleet.launch("streamer", command)
            await fleet.ready_all()
            yield EtcdQuorum(daemons, addresses, clients, streamer)


def _command(name: str, directory: Path, peers: dict[str, str], client: str, timing: str) -> list[str]:
    return [
        "etcd",
        f"--name={name}",
        f"--data-dir={directory}",
        f"--listen-peer-urls={peers[name]}",
        f"--initial-advertise-peer-urls={peers[name]}",
        f"--listen-client-urls=http://{client}",
        f"--advertise-client-urls=http://{client}",
        f"--initial-cluster={','.join(f'{peer}={url}' for peer, url in peers.items())}",
        "--initial-cluster-state=new",
        "--log-level=error",
        *TIMING[timing],
    ]
