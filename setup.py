"""Everything else is in pyproject.toml. This file is for the compiled build, which nobody needs and busy agents like:

    GOSSIPMESH_COMPILE=1 pip install .

translates the protocol (the pure modules, typed throughout) to C with mypyc: the same source, the same bytes on the wire, a
fifth (a resting agent) to a half (a simulation) less processor time. It needs a C compiler, some minutes and 2 GB of memory.
Without the variable nothing is compiled.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any, Final

MYPYC: Final = "mypy[mypyc]>=2.4,<3"
ROOT: Final = Path(__file__).parent
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())

COMPILER_OPTIONS: Final = [
    *("-include", str(ROOT / "tools" / "cold.h"), "-freorder-blocks-and-partition", "-freorder-functions", "-fcrossjumping"),
    *("-fvisibility=hidden", "-fno-semantic-interposition", "-fno-plt", "-ffunction-sections"),
    *(f"-falign-{what}=1" for what in ("functions", "jumps", "loops", "labels")),
]
"""For gcc; clang takes what it knows. What fails is put apart, what is called inside is called directly, nothing is padded: where
many agents share a core each wakes up to cold caches, and a delivery costs a tenth less when it has so much less code to fetch.
"""
RUNTIME: Final = ("Arg", "Bytes", "Dict", "List", "Long", "Object", "Sequence", "Str", "Tagged")
"""What of mypyc's own library runs with nearly everything."""


def modules() -> list[str]:
    table = PROJECT["tool"]["gossipmesh"]["compiled"]
    paths = [path for folder in table["folders"] for path in sorted((ROOT / folder).glob("*.py"))]
    found = [*table["besides"], *(path.relative_to(ROOT).as_posix() for path in paths)]
    return [path for path in found if not path.endswith("__init__.py") and path not in table["interpreted"]]


def first_sections() -> list[str]:
    """What a write and its delivery run through (tools/hot.txt), as patterns of sections, each function in one of its own."""
    sections = [f".text.CPy{name}_*" for name in RUNTIME]
    wrappers = []
    for line in (ROOT / "tools" / "hot.txt").read_text(encoding="utf-8").splitlines():
        module, _, function = line.partition(" ")
        name = f"{module.rpartition('.')[2]}___{function.replace('.', '___')}"
        owner, _, attribute = name.rpartition("___")
        sections += [f".text.CPyDef_*{name}", f".text.CPyDef_*{name}.*", f".text.*{owner}_get_{attribute}"]
        wrappers.append(f".text.CPyPy_*{name}")
        if function.endswith(".__init__"):
            made = name.removesuffix("_____init__")
            sections += [f".text.CPyDef_*{made}", f".text.*{made}_dealloc", f".text.CPyDef_*{made}_clear"]
    return sections + wrappers


def linker_options() -> list[str]:
    """A delivery runs through two hundred functions: on a hundred and forty pages of code, on forty when they are side by side.
    A processor that has just changed to this process knows none of them: it is worth a few percent of a delivery. GNU ld only.
    """
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    try:
        said = subprocess.run([*compiler, "-Wl,--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    if not said.startswith("GNU ld"):
        return []
    script = ROOT / "build" / "hot.ld"
    script.parent.mkdir(exist_ok=True)
    first = "\n".join(f"*({section})" for section in first_sections())
    script.write_text(f"SECTIONS {{ .text.first : {{\n{first}\n}} }} INSERT BEFORE .text;\n", encoding="utf-8")
    return [f"-Wl,-T,{script}"]


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
    extensions = mypycify(modules(), opt_level="1", debug_level="0", multi_file=True, group_name="gossipmesh")
    if os.name == "posix":
        options = linker_options()
        for extension in extensions:
            extension.extra_compile_args += COMPILER_OPTIONS
            extension.extra_link_args += options
    setup(ext_modules=extensions)


if __name__ == "__main__":
    main()
