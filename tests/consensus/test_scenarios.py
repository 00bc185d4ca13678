"""The recorded scenarios still happen as they are written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.consensus.scenario import FOLDER, replay


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    assert replay(path.read_text()) == path.read_text(), "rewrite: python -m tests.consensus.scenario --rewrite"
