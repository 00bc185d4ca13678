"""kill -9 at any moment, with real processes, sockets and files: nothing flushed or seen is lost, nothing forks."""

from __future__ import annotations

import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import trio

import mesh
from mesh.events import Event, ShelfFault
from mesh.trust.files import save_membership
from tests.node.agents import seed_of, until

SEED = 20
LIVES = 4


def shown(node: mesh.Node) -> dict[tuple[int, int], int]:
    """(life, number) -> value of every key that the observer shows."""
    values = {}
    for life in range(LIVES):
        number = 1
        while (value := node.register(f"key/{life}/{number}").value) is not None:
            values[life, number] = value
            number += 1
    return values


def holds(node: mesh.Node, flushed: list[int], seen: dict[tuple[int, int], int]) -> bool:
    """Everything flushed in any life is here, and nothing seen before is gone."""
    now = shown(node)
    return seen.items() <= now.items() and all((life, count) in now or not count for life, count in enumerate(flushed))


async def lines_until_killed(process: trio.Process, seconds: float) -> list[str]:
    """What it said before it was killed, `seconds` after its first word."""
    assert process.stdout is not None
    said = b""
    while b"\n" not in said:
        said += bytes(await process.stdout.receive_some())
    with trio.move_on_after(seconds):
        while chunk := await process.stdout.receive_some():
            said += bytes(chunk)
    process.kill()
    await process.wait()
    while chunk := await process.stdout.receive_some():
        said += bytes(chunk)
    await process.stdout.aclose()
    return said.decode().splitlines()


async def test_what_was_flushed_or_seen_survives_kill_nine(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    authority = mesh.Authority.generate()
    observer = authority.enrol(mesh.Identity.generate(), name="observer", may_write=["**"])
    save_membership(tmp_path / "writer", authority.enrol(mesh.Identity.generate(), name="writer", may_write=["**"]))
    faults: list[Event] = []
    async with mesh.open_node(mesh.NodeConfig(membership=observer, bind="127.0.0.1:0")) as node, node.events() as events:
        flushed: list[int] = []
        seen: dict[tuple[int, int], int] = {}
        for life in range(LIVES):
            command = [sys.executable, "-m", "tests.node.writer", str(tmp_path / "writer"), seed_of(node), str(life)]
            process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
            said = await lines_until_killed(process, rng.uniform(0.3, 1.5))
            assert int(said[0].split()[1]) >= sum(flushed), "a restart showed less than what flush() had confirmed"
            flushed.append(max((int(line.split()[1]) for line in said if line.startswith("flushed")), default=0))
            await until(partial(holds, node, flushed, seen))
            seen = shown(node)
        assert node.counter("count").value == len(seen)
        while (event := events.next_nowait()) is not None:
            faults += [event] if isinstance(event, ShelfFault) else []
    assert sum(flushed) > 0
    assert not faults
