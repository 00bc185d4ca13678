"""A function in a process of its own, so that its CPU time and memory are its own, and Ctrl-C ends it.

python -m tools.bench.child MODULE:NAME JSON
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import Any

import trio

from tools.fleet import AgentFailed


async def in_child(function: str, **arguments: Any) -> dict[str, Any]:
    """`function`: "module:name"; it takes and returns what JSON can say. Raises AgentFailed with its last line of complaint."""
    done = await trio.run_process(
        [sys.executable, "-m", "tools.bench.child", function, json.dumps(arguments)],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    if done.returncode != 0:
        complaints = done.stderr.decode(errors="replace").strip().splitlines() or ["no word of why"]
        raise AgentFailed(f"{function} failed: {complaints[-1]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    print(json.dumps(getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
