"""A voter in a process of its own, with clients inside it. The lines are those of `tools.bench.commits`, and

quorum      {"quorum": [name of the leader or "", number of voters]}
batches CLIENTS SIZE SECONDS      {"batches": entries per second}, of clients that write so many at once
cpu         {"cpu": seconds that this process has used}
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any, Final

import trio

import mesh
from mesh.errors import MeshError
from tools.bench.commits import STREAM_SECONDS, WARM_UP
from tools.fleet import add_arguments, node_config
from tools.garbage import collect_rarely
from tools.measure.notebook import now_us, say
from tools.measure.orders import Orders

PATHS: Final = 1000
"""Different registers written, as with the other systems."""


class Voter:
    def __init__(self, node: Any, name: str, nursery: trio.Nursery) -> None:
        self._node = node
        self._name = name
        self._nursery = nursery
        self._turns = itertools.count()
        self._commits: list[tuple[int, int]] = []

    async def obey(self) -> None:
        say({"ready": self._name})
        async for line in Orders():
            match line.split():
                case ["one", seconds]:
                    say({"one": await self._one(float(seconds))})
                case ["many", clients, seconds]:
                    say({"many": await self._many(int(clients), float(seconds))})
                case ["batches", clients, size, seconds]:
                    say({"batches": await self._many(int(clients), float(seconds), int(size))})
                case ["stream"]:
                    self._nursery.start_soon(self._stream)
                case ["commits"]:
                    say({"commits": self._commits})
                case ["cpu"]:
                    say({"cpu": time.process_time()})
                case ["quorum"]:
                    say({"quorum": self._quorum()})
                case ["leave"]:
                    return

    async def _write(self) -> None:
        turn = next(self._turns)
        await self._node.critical(f"bench/{self._name}/{turn % PATHS}").set(turn)

    async def _one(self, seconds: float) -> list[float]:
        for _ in range(WARM_UP):
            await self._write()
        delays = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            begun = time.perf_counter()
            await self._write()
            delays.append((time.perf_counter() - begun) * 1000)
        return delays

    async def _write_batch(self, size: int) -> None:
        turns = [next(self._turns) for _ in range(size)]
        critical = self._node.critical
        receipts = await self._node.agree([critical(f"bench/{self._name}/{turn % PATHS}").to_set(turn) for turn in turns])
        for receipt in receipts:
            if not isinstance(receipt, mesh.Receipt):
                raise receipt

    async def _many(self, clients: int, seconds: float, size: int = 1) -> float:
        """Entries per second."""
        count = 0

        async def client() -> None:
            nonlocal count
            while True:
                await (self._write() if size == 1 else self._write_batch(size))
                count += size

        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for _ in range(clients):
                    nursery.start_soon(client)
        return count / seconds

    async def _stream(self) -> None:
        while True:
            self._nursery.start_soon(self._noted)
            await trio.sleep(STREAM_SECONDS)

    async def _noted(self) -> None:
        begun = now_us()
        try:
            await self._write()
        except MeshError:
            return  # whatever becomes of a write of the stream: only commits count
        self._commits.append((begun, now_us()))

    def _quorum(self) -> tuple[str, int]:
        quorum = self._node.quorum()
        names = {member.replica: member.name for member in self._node.members()} | {self._node.replica_id: self._name}
        return names.get(quorum.leader, ""), len(quorum.voters)


async def run(arguments: argparse.Namespace) -> None:
    async with mesh.open_node(node_config(arguments)) as node, trio.open_nursery() as nursery:
        collect_rarely()  # as `mesh up` does
        await Voter(node, arguments.name, nursery).obey()
        nursery.cancel_scope.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    trio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()
