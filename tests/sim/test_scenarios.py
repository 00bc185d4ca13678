"""Recorded scenarios: what the mesh did when somebody last looked is what it does. See tests.sim.scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.scenarios import files, played


@pytest.mark.parametrize("file", files(), ids=lambda file: file.stem)
def test_scenario(file: Path) -> None:
    recorded = file.read_text(encoding="utf-8")
    assert played(recorded) == recorded, "if the new output is right: python -m tests.sim.scenarios --rewrite"
