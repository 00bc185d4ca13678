"""How much the simulator checked in this test run, for the summary at its end."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest

from tools.sim.checks import Inspector

COUNTED: Final[list[Counter[str]]] = []
"""Of every inspector that was made, those of runs that were meant to fail too."""
FOUND: Final[dict[str, str]] = {}
"""Bugs that were put in on purpose, and what found each."""


def watch() -> None:
    """From now on every inspector's counts are kept."""
    honest = Inspector.__init__

    def noted(self: Inspector, *args: Any, **options: Any) -> None:
        honest(self, *args, **options)
        COUNTED.append(self.counts)

    Inspector.__init__ = noted  # type: ignore[method-assign]  # for the length of the test run


def tell(reporter: pytest.TerminalReporter) -> None:
    total = sum(COUNTED, Counter[str]())
    if total["transitions"]:
        looked = ", ".join(f"{name} {count:,}" for name, count in sorted(total.items()) if name != "transitions")
        reporter.section("simulator")
        reporter.line(f"{len(COUNTED)} simulated meshes, {total['transitions']:,} transitions checked")
        reporter.line(looked)
    if FOUND:
        reporter.line(
            f"{len(FOUND)} bugs put in on purpose were found: " + ", ".join(f"{bug} by {by}" for bug, by in FOUND.items())
        )
