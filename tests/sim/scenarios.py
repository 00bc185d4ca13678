"""Scenario tests: text files of verbs with the output that they had when somebody last looked at it.

    # why this scenario is there
    mesh nodes=3 seed=1
    > set 0 door open
    > show door
    door on 0-2: {'register': 'open'}

`python -m tests.sim.scenarios --rewrite` records the output anew; read the difference before committing it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mesh.testing import Mesh, Setup
from tools.sim.checks import Inspector
from tools.sim.script import parse_line
from tools.sim.stage import Stage

FOLDER = Path(__file__).parent / "scripts"


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.txt"))


def played(text: str) -> str:
    """The file as it should be: its own commands, each followed by what it prints now."""
    stage: Stage | None = None
    lines: list[str] = []
    for raw in text.splitlines():
        if raw.startswith("mesh "):
            head = parse_line(raw)
            assert head is not None
            mesh = Mesh(int(head.options["nodes"]), seed=int(head.options["seed"]), setup=Setup(warm="warm" in head.words))
            Inspector(mesh)
            stage = Stage(mesh)
            mesh.start()
            lines.append(raw)
        elif raw.startswith(">"):
            line = parse_line(raw[1:])
            assert stage is not None, "the first line that is no comment says how large the mesh is"
            assert line is not None
            stage.play([line])
            lines += [raw, *stage.output]
            stage.output.clear()
        elif raw.startswith("#") or not raw.strip():
            lines.append(raw)
    return "\n".join(lines) + "\n"


def main() -> None:
    rewrite = "--rewrite" in sys.argv[1:]
    for file in files():
        before = file.read_text(encoding="utf-8")
        after = played(before)
        print(f"{file.name}: {'unchanged' if before == after else 'rewritten' if rewrite else 'differs'}")
        if rewrite:
            file.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
