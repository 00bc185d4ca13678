"""The house rules that a machine can check: layers, purity of the core, sizes of files, and what the repository must not name."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["crdt", "consensus_escalation", "mesh", "tools", "tests"]
"""Each may import itself and those before it."""

EDGE = {
    "mesh/net": "sockets and clocks",
    "mesh/store": "the disk",
    "mesh/trust/keyfiles.py": "key files",
    "mesh/trust/identity.py": "the operating system's randomness for new keys",
    "mesh/trust/authority.py": "as identity",
    "mesh/trust/files.py": "directories of keys",
    "mesh/control": "the local socket",
    "mesh/critical": "tasks that wait for the quorum",
}
"""Where the mesh touches the machine, beside the node. Everything else of mesh, and all of crdt, is pure."""
NODE = {"node", "start", "config", "watch", "blocking", "history", "nursery"}
"""The part of mesh that users hold: it lives in trio."""
PURE_IN_EDGE = {"mesh/store/rows.py"}
IMPURE = {
    "trio",
    "socket",
    "select",
    "selectors",
    "threading",
    "subprocess",
    "os",
    "time",
    "asyncio",
    "signal",
    "secrets",
    "sqlite3",
}

LINES_MAX = 600
"""A file that a head can hold; about 500 is the aim."""


def sources(*folders: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [path for name in sorted(set(listed.stdout.split())) if (path := ROOT / name).is_file()]


def python_sources(*folders: str) -> list[Path]:
    return [path for path in sources(*folders) if path.suffix == ".py"]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, whole dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", python_sources(*LAYERS), ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    layer = LAYERS.index(name_of(path).split("/")[0])
    above = [module for module in imports(path) if module.split(".")[0] in LAYERS[layer + 1 :]]
    assert not above, f"{name_of(path)} imports from above: {above}"


@pytest.mark.parametrize("path", python_sources("crdt"), ids=name_of)
def test_crdt_needs_the_standard_library_only(path: Path) -> None:
    foreign = {module.split(".")[0] for module in imports(path)} & {"cbor2", "nacl", "trio", "click", "rich"}
    assert not foreign
    if path.name != "testing.py":
        assert "hypothesis" not in {module.split(".")[0] for module in imports(path)}


def is_pure(path: Path) -> bool:
    name = name_of(path)
    if name.startswith(("crdt/", "consensus_escalation/")):
        return "storage" not in name
    if name in PURE_IN_EDGE:
        return True
    return path.stem not in NODE and not name.startswith((*EDGE, "mesh/testing")) and name != "mesh/__init__.py"


@pytest.mark.parametrize("path", [p for p in python_sources("crdt", "consensus_escalation", "mesh") if is_pure(p)], ids=name_of)
def test_the_core_is_pure(path: Path) -> None:
    touched = {module.split(".")[0] for module in imports(path)} & IMPURE
    assert not touched, f"{name_of(path)} touches the machine by {sorted(touched)}"
    assert not re.search(
        r"\brandom\.(random|randint|choice|choices|shuffle|sample|uniform|getrandbits|randbytes)\(", path.read_text()
    )


@pytest.mark.parametrize("path", python_sources(*LAYERS), ids=name_of)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", python_sources("crdt", "consensus_escalation", "mesh", "tools"), ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert len(docstring) > 10


def test_top_level_is_what_it_should_be() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in sources() if len(path.relative_to(ROOT).parts) > 1}
    assert folders == {"crdt", "consensus_escalation", "mesh", "tools", "tests", ".ci"}


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_nothing_of_a_private_machine(path: Path) -> None:
    """No home directories, package registries or scratch paths."""
    words = ["/" + "work/", "/" + "root/", "/tmp/" + "plan", "index-" + "url", "file:" + "///"]
    text = path.read_text(errors="replace")
    assert not [word for word in words if word in text]
