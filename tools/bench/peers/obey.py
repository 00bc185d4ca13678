"""The loop of a peer's process: the lines that `tools.measure.agent` obeys, for programs without trio."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tools.measure.notebook import Notebook, say


def obey(notebook: Notebook, *, write: Callable[[int], object], alive: Callable[[], int]) -> None:
    """Until `leave` or the end of standard input. `alive`: how many members this one knows, itself included."""
    say({"ready": notebook.name})
    for line in sys.stdin:
        match line.split():
            case ["write", number]:
                notebook.writes(int(number))
                write(int(number))
            case ["alive"]:
                say({"alive": alive()})
            case ["report"]:
                say({"report": notebook.report()})
            case ["leave"]:
                return
