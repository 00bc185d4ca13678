"""Settings for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

from crdt.native import build
from tests import interrupts, ledger

# No test passes or fails by the speed of a machine. A failing example prints the line that replays it. A run of the tests is a
# function of the code: the same examples each time. `make hunt` draws other ones.
settings.register_profile("gossipmesh", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("hunt", deadline=None, print_blob=True)
settings.load_profile("gossipmesh")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "interpreted: changes the code while it runs, which compiled code takes no notice of")
    interrupts.heed()
    ledger.watch()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if build() == "compiled":
        for item in items:
            if item.get_closest_marker("interpreted"):
                item.add_marker(pytest.mark.skip(reason="changes the code while it runs"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ledger.tell(terminalreporter)
