"""A voter that reads, writes and swaps as fast as it is answered, and says what it did and when: to be killed or stopped at any
moment (critical_storm). All times are CLOCK_MONOTONIC, which the processes of one machine share."""

from __future__ import annotations

import json
import random
import sys
import time

import trio

import mesh
from mesh.trust.files import load_membership

PATHS = 2


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


async def operate(node: mesh.Node, rng: random.Random, number: int) -> None:
    kind, path = rng.choice(["get", "set", "compare_and_set"]), f"tasks/{rng.randrange(PATHS)}"
    handle, value = node.critical(path), rng.getrandbits(48)
    expected = handle.value if kind == "compare_and_set" else None
    say(number=number, kind=kind, path=path, value=value, expected=expected, called=time.monotonic())
    result: object = "done"
    try:
        if kind == "get":
            result = ["value", await handle.get()]
        elif kind == "set":
            await handle.set(value)
        else:
            await handle.compare_and_set(expected, value)
    except mesh.NotCommitted as error:
        result = ["mismatch", error.current] if error.reason == "mismatch" else "refused"
    except mesh.OutcomeUnknown:
        result = "unknown"
    say(number=number, returned=time.monotonic(), result=result)


async def run(home: str, bind: str, seeds: list[str], seed: str) -> None:
    config = mesh.NodeConfig(membership=load_membership(home), bind=bind, seeds=seeds, data_dir=f"{home}/data", control=False)
    rng, number = random.Random(seed), 0
    async with mesh.open_node(config) as node:
        say(up=True)
        while True:
            number += 1
            if node.quorum().leader is not None:
                with trio.move_on_after(3.0):  # given up, it stays unknown
                    await operate(node, rng, number)
            await trio.sleep(rng.uniform(0, 0.02))


if __name__ == "__main__":
    trio.run(run, sys.argv[1], sys.argv[2], sys.argv[4:], sys.argv[3])
