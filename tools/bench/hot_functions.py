"""Which functions of the compiled build a write and its delivery run through, then a probe, so that `setup.py` can put them side
by side.

    python -m tools.bench.hot_functions --write    renew tools/hot.txt

Two agents in this process meet; one writes, the other is told. What Python calls from the write until it is told, and until the
event loop has come round, is noted in the order of the first call. What only some of the writes ran through (a probe that came
meanwhile) is left out. Then they rest, and what goes on meanwhile follows: where many agents share a machine, one of them probes
nearly always while a write goes round. It needs the interpreted protocol: compiled functions tell no profiler of their calls.
"""

from __future__ import annotations

import runpy
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import click
import trio

import crdt.native
import mesh

ROOT: Final = Path(__file__).parent.parent.parent
LIST: Final = ROOT / "tools" / "hot.txt"
WRITES: Final = 40
COMMON: Final = 0.8
"""Of the writes: what fewer of them ran through has other reasons. Guess."""


IDLE_SECONDS: Final = 9.0
IDLE_OFTEN: Final = 10
"""Calls in that time; two agents probe thirty times. Guess."""


async def _calls() -> tuple[list[list[CodeType]], Counter[CodeType]]:
    """Of each write, what was called, each function once; and how often each was called while nobody wrote. In the order of first
    calls.
    """
    authority = mesh.Authority.generate()
    runs: list[list[CodeType]] = []
    idle: Counter[CodeType] = Counter()

    def count(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            idle[frame.f_code] += 1

    async with AsyncExitStack() as stack:

        async def opened(name: str, seeds: list[str]) -> mesh.Node:
            membership = authority.enrol(mesh.Identity.generate(), name=name, may_write=["**"])
            config = mesh.NodeConfig(membership=membership, bind="127.0.0.1:0", seeds=seeds)
            return await stack.enter_async_context(mesh.open_node(config))

        reader = await opened("reader", [])
        writer = await opened("writer", [f"127.0.0.1:{reader.address[1]}"])
        told = trio.Event()
        with reader.listen("", lambda _change: told.set()):
            for number in range(WRITES):
                await trio.sleep(0.3)  # until nothing of the last write is left to do
                called: dict[CodeType, None] = {}

                def note(frame: FrameType, event: str, _argument: Any, called: dict[CodeType, None] = called) -> None:
                    if event == "call":
                        called.setdefault(frame.f_code)

                told = trio.Event()
                sys.setprofile(note)
                try:
                    writer.register("robots/r7/pose").set(number)
                    with trio.move_on_after(1.0):
                        await told.wait()
                        await trio.lowlevel.checkpoint()
                finally:
                    sys.setprofile(None)
                runs.append(list(called))
        await trio.sleep(1.0)  # until what the last write left to do is done
        sys.setprofile(count)
        try:
            await trio.sleep(IDLE_SECONDS)
        finally:
            sys.setprofile(None)
    return runs, idle


def _compiled() -> dict[str, str]:
    """Module by file."""
    paths: list[str] = runpy.run_path(str(ROOT / "setup.py"))["modules"]()
    return {str(ROOT / path): path.removesuffix(".py").replace("/", ".") for path in paths}


def hot_functions() -> list[str]:
    """`module function` or `module Class.function`, in the order in which they are called."""
    runs, idle = trio.run(_calls)
    often = Counter(code for run in runs for code in run)
    common = [code for run in runs for code in run if often[code] >= COMMON * len(runs)]
    common += [code for code in idle if idle[code] >= IDLE_OFTEN]
    modules = _compiled()
    found = {
        f"{modules[code.co_filename]} {code.co_qualname}": None
        for code in common
        if code.co_filename in modules and "<" not in code.co_qualname
    }
    return list(found)


@click.command()
@click.option("--write", is_flag=True, help="Renew the kept list.")
def main(write: bool) -> None:
    """List the functions that a write and its delivery run through."""
    if crdt.native.build() == "compiled":
        raise click.ClickException("the protocol is compiled here, and compiled functions tell nobody of their calls")
    found = hot_functions()
    if write:
        LIST.write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
    for line in found:
        click.echo(line)


if __name__ == "__main__":
    main()
