"""A run is a function of its seed, see tests.sim.digests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.sim import digests

OTHER_PYTHONS = [path for path in os.environ.get("GOSSIPMESH_PYTHONS", "").split(os.pathsep) if path]
"""Interpreters that have the dependencies, to compare with this one."""


def test_the_engine_and_the_draw_are_what_they_were() -> None:
    assert digests.recorded() == digests.FILE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("python", [sys.executable, *OTHER_PYTHONS])
def test_another_interpreter_plays_the_same_run(python: str) -> None:
    program = "from tests.sim import digests; print(*digests.recorded(), *digests.cores(), sep='\\n')"
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    found = subprocess.run([python, "-c", program], env=environment, check=True, capture_output=True, text=True).stdout
    assert found.splitlines() == [*digests.recorded(), *digests.cores()]
