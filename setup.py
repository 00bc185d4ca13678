"""Everything else is in pyproject.toml. This file is for the compiled build, which nobody needs and busy agents like:

    GOSSIPMESH_COMPILE=1 pip install .

translates the protocol (the pure modules, typed throughout) to C with mypyc: the same source, the same bytes on the wire, a
fifth (a resting agent) to a half (a simulation) less processor time. It needs a C compiler, some minutes and 2 GB of memory.
Without the variable nothing is compiled.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Final

MYPYC: Final = "mypy[mypyc]>=2.4,<3"
ROOT: Final = Path(__file__).parent
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules() -> list[str]:
    table = PROJECT["tool"]["gossipmesh"]["compiled"]
    paths = [path for folder in table["folders"] for path in sorted((ROOT / folder).glob("*.py"))]
    found = [*table["besides"], *(path.relative_to(ROOT).as_posix() for path in paths)]
    return [path for path in found if not path.endswith("__init__.py") and path not in table["interpreted"]]


def main() -> None:
    from setuptools import setup  # not where tests ask for `modules`

    if os.environ.get("GOSSIPMESH_COMPILE") != "1":
        setup()
        return
    try:
        from mypyc.build import mypycify
    except ImportError:  # pip asks first what the build needs
        setup(setup_requires=[MYPYC, *PROJECT["project"]["dependencies"]])  # their types, too
        return
    # -O1: -O2 takes twice as long and gained nothing that could be measured
    setup(ext_modules=mypycify(modules(), opt_level="1", debug_level="0", multi_file=True, group_name="gossipmesh"))


if __name__ == "__main__":
    main()
