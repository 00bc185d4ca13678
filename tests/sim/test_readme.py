"""What the README tells users to write runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tools.sim.cli import command

README = Path(__file__).parents[2] / "README.md"


def section(title: str) -> str:
    return README.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_test_in_the_readme_passes() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", section("Try it before you build it"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, str(README), "exec"), names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    test()


def test_its_commands_are_understood() -> None:
    for words in re.findall(r"`mesh sim ([^`]+)`", section("Try it before you build it")):
        small = (
            ["--nodes", "3", "--seconds", "1s"]
            if "--seeds" not in words
            else ["--seeds", "0", "1", "--nodes", "3", "--seconds", "1s"]
        )
        result = CliRunner().invoke(command, [*words.split(), *small])
        assert result.exit_code == 0, f"mesh sim {words}: {result.output}"
