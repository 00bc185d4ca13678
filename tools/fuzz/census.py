"""Which functions read bytes of others, and which of them a fuzz run really enters. No list to keep: both are looked up."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from functools import _lru_cache_wrapper
from pathlib import Path
from types import CodeType, FrameType
from typing import Final, NamedTuple

from consensus_escalation import command
from crdt.body import PATHS_READ

ROOT: Final = Path(__file__).parents[2]
SUFFIX: Final = "_untrusted"


class Function(NamedTuple):
    """By file below the root and name with its classes: what a code object says of itself."""

    file: str
    name: str


def untrusted_functions(*packages: str) -> set[Function]:
    """Every function of these packages that is named *_untrusted and has a body (a Protocol's only says what others have)."""
    found: set[Function] = set()
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= {Function(path.relative_to(ROOT).as_posix(), name) for name in _named(tree, "")}
    return found


def _named(node: ast.AST, inside: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if child.name.endswith(SUFFIX) and not _is_empty(child):
                yield inside + child.name
            yield from _named(child, f"{inside}{child.name}.<locals>.")
        elif isinstance(child, ast.ClassDef):
            yield from _named(child, f"{inside}{child.name}.")
        else:
            yield from _named(child, inside)


def _is_empty(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in function.body)


def entered(act: Callable[[], object]) -> set[Function]:
    """The *_untrusted functions below the root that were called while `act` ran. Slows Python down a few times."""
    seen: set[CodeType] = set()

    def called(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            seen.add(frame.f_code)

    for module in [*sys.modules.values()]:
        for name, one in [*vars(module).items()]:
            if name.endswith(SUFFIX) and isinstance(one, _lru_cache_wrapper):
                one.cache_clear()  # what was answered before is answered without entering anything
    command.REMEMBERED.clear()
    PATHS_READ.clear()
    before = sys.getprofile()
    sys.setprofile(called)
    try:
        act()
    finally:
        sys.setprofile(before)
    return {
        Function(Path(code.co_filename).relative_to(ROOT).as_posix(), code.co_qualname)
        for code in seen
        if code.co_name.endswith(SUFFIX) and Path(code.co_filename).is_relative_to(ROOT)
    }
