"""Which functions of the compiled build a write and its delivery run through, so that `setup.py` can put them side by side.

    python -m tools.bench.hot_functions --write    renew tools/hot.txt

Two agents in this process meet; one writes, the other is told. What Python calls from the write until it is told, and until the
event loop has come round, is noted in the order of the first call. What only some of the writes ran through (a probe that came
meanwhile) is left out. It needs the interpreted protocol: compiled functions tell no profiler of their calls.
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


async def _calls() -> list[list[CodeType]]:
    """Of each write, what was called, each function once."""
    authority = mesh.Authority.generate()
    runs: list[list[CodeType]] = []
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
    return runs


def _compiled() -> dict[str, str]:
    """Module by file."""
    paths: list[str] = runpy.run_path(str(ROOT / "setup.py"))["modules"]()
    return {str(ROOT / path): path.removesuffix(".py").replace("/", ".") for path in paths}


def hot_functions() -> list[str]:
    """`module function` or `module Class.function`, in the order in which they are called."""
    runs = trio.run(_calls)
    often = Counter(code for run in runs for code in run)
    modules = _compiled()
    found = {
        f"{modules[code.co_filename]} {code.co_qualname}": None
        for run in runs
        for code in run
        if often[code] >= COMMON * len(runs) and code.co_filename in modules and "<" not in code.co_qualname
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
