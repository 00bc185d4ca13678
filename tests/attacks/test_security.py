"""SECURITY.md and the modules beside this one say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NAMED_BY_THE_DESIGN = {
    "amplification",
    "replay",
    "forged join, leave, refute or suspect",
    "Sybil flood",
    "eclipse with 30% hostile peers",
    "equivocation",
    "a relay that hides or replays old state",
    "writes outside the author's patterns",
    "clock 10 years ahead, or in 1970",
    "covers of writes to come",
    "decode bombs",
    "memory and CPU floods",
    "oversized values",
    "revoked key",
    "stolen invite",
}


def table() -> dict[str, str]:
    """Threat -> module, of SECURITY.md."""
    rows = {}
    for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and cells[3].startswith("`tests/"):
            assert cells[1], f"{cells[0]}: no attack"
            assert cells[2], f"{cells[0]}: no defence"
            rows[cells[0]] = cells[3].strip("`")
    return rows


def threats() -> dict[str, str]:
    """The same, of the modules."""
    found = {}
    for path in sorted(HERE.glob("test_*.py")):
        named = re.search(r'^THREAT = "(.*)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
        if named:
            found[named[1]] = str(path.relative_to(ROOT))
    return found


def test_the_table_and_the_modules_agree() -> None:
    assert table() == threats()


def test_no_threat_of_the_design_is_left_out() -> None:
    assert table().keys() >= NAMED_BY_THE_DESIGN


def test_every_module_proves_that_its_attack_is_one() -> None:
    """By a test that is run with the defence and without it."""
    for name in threats().values():
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        marked = [f for f in functions for mark in f.decorator_list if isinstance(mark, ast.Name) and mark.id == "both"]
        assert marked, f"{name} attacks nothing undefended"


def test_every_module_here_is_a_threat() -> None:
    modules = {str(path.relative_to(ROOT)) for path in HERE.glob("test_*.py")} - {str(Path(__file__).relative_to(ROOT))}
    assert modules == set(threats().values())
