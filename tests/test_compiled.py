"""What the compiled build rests on (setup.py), looked at without a compiler."""

from __future__ import annotations

import ast
import importlib
import inspect
import runpy
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["gossipmesh"]["compiled"]
OURS = ("crdt", "consensus_escalation", "mesh", "tools")


PATHS: list[str] = runpy.run_path(str(ROOT / "setup.py"))["modules"]()
"""What is compiled."""


@cache
def _source(path: str) -> str:
    return (ROOT / path).read_text()


@cache
def _nodes() -> list[tuple[str, ast.AST]]:
    return [(path, node) for path in PATHS for node in ast.walk(ast.parse(_source(path)))]


def test_a_compiled_class_inherits_from_no_interpreted_one_of_ours() -> None:
    """mypyc lays such a class out as if the other had no slots, and writes one attribute over another."""
    compiled = {path.removesuffix(".py").replace("/", ".") for path in PATHS}
    assert len(compiled) > 100
    for name in sorted(compiled):
        module = importlib.import_module(name)
        for _, one in inspect.getmembers(module, inspect.isclass):
            bases = one.__bases__ if one.__module__ == name else ()
            for base in bases:
                ours = base.__module__.split(".")[0] in OURS
                assert not ours or base.__module__ in compiled, f"{name}.{one.__name__} inherits from {base}"


def test_what_stays_interpreted_exists() -> None:
    for path in TABLE["interpreted"]:
        assert (ROOT / path).is_file(), path


def test_the_edge_is_not_compiled() -> None:
    """trio looks into the frames of coroutines, and compiled ones have none."""
    for path in PATHS:
        assert not any(line.strip().startswith(("import trio", "from trio")) for line in _source(path).splitlines()), path


def test_no_star_in_what_is_looked_through() -> None:
    """`one in (two, *others)` is more than the compiler can take: it ends with an error of its own."""
    for path, node in _nodes():
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            items = getattr(node.comparators[0], "elts", [])
            assert not any(isinstance(item, ast.Starred) for item in items), f"{path}:{node.lineno}: ask one after the other"


C_KEYWORDS = {
    "asm",
    "attribute",
    "complex",
    "const",
    "extension",
    "imag",
    "inline",
    "label",
    "real",
    "restrict",
    "signed",
    "thread",
}


def test_no_attribute_is_a_keyword_of_c() -> None:
    """`self._thread` is `__thread` there, and gcc expects something else."""
    for path, node in _nodes():
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            assert node.attr not in {f"_{word}" for word in C_KEYWORDS}, f"{path}:{node.lineno}: {node.attr}"


def test_no_starred_pattern() -> None:
    """`case [first, [*rest]]` takes a list there and raises TypeError for a tuple, which is what arrays are decoded to."""
    for path, node in _nodes():
        assert not isinstance(node, ast.MatchStar), f"{path}:{node.lineno}: take `tuple(rest)`, or two steps"


def test_every_class_is_there_at_run_time() -> None:
    """A compiled dataclass looks its fields' classes up; one that is imported for the type checker alone is a null pointer."""
    for path, node in _nodes():
        assert not (isinstance(node, ast.ImportFrom) and any(each.name == "TYPE_CHECKING" for each in node.names)), path


def test_attributes_are_no_dict() -> None:
    """A compiled object has no `__dict__`; `crdt.native.state_of` is for both."""
    for path, node in _nodes():
        is_look = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "vars"
        assert not is_look, f"{path}: vars()"
        assert not (isinstance(node, ast.Attribute) and node.attr == "__dict__"), f"{path}: __dict__"


def test_what_is_copied_may_begin_empty() -> None:
    """`copy.copy` makes an object without `__init__`, which compiled classes allow only if Python code may inherit from them."""
    for path in PATHS:
        if "copy.copy(self)" in _source(path):
            assert "@mypyc_attr(allow_interpreted_subclasses=True)" in _source(path), path


def test_a_name_stands_for_one_type_of_exception() -> None:
    """Of two `except` clauses that use one name, the second raises TypeError: the name has the type of the first."""
    for path, node in _nodes():
        types: dict[str, set[str]] = {}
        for each in ast.walk(node) if isinstance(node, ast.FunctionDef) else ():
            if isinstance(each, ast.ExceptHandler) and each.name and each.type:
                types.setdefault(each.name, set()).add(ast.unparse(each.type))
        assert all(len(kinds) == 1 for kinds in types.values()), f"{path}: {types}"


def test_what_is_put_first_exists() -> None:
    """After a renaming: `python -m tools.bench.hot_functions --write`."""
    lines = (ROOT / "tools" / "hot.txt").read_text().splitlines()
    assert len(lines) > 100
    paths = set(PATHS)
    for line in lines:
        module, _, function = line.partition(" ")
        assert module.replace(".", "/") + ".py" in paths, line
        found: object = importlib.import_module(module)
        for name in function.split("."):
            found = getattr(found, name, None)
        assert found is not None, line
