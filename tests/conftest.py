"""Settings for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests import ledger

# No test passes or fails by the speed of a machine. A failing example prints the line that replays it. A run of the tests is a
# function of the code: the same examples each time. `make hunt` draws other ones.
settings.register_profile("gossipmesh", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("hunt", deadline=None, print_blob=True)
settings.load_profile("gossipmesh")


def pytest_configure() -> None:
    ledger.watch()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ledger.tell(terminalreporter)
