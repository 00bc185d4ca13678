"""A bar on the terminal while a simulation runs; nothing where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Tell: TypeAlias = Callable[[float, float, str], None]
"""(done, of how much, what is going on)"""


@contextmanager
def bar(*, quiet: bool, unit: str = "virtual s") -> Iterator[Tell]:
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        TextColumn(f"{{task.completed:.0f}}/{{task.total:.0f}} {unit}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as shown:
        task = shown.add_task("", total=1.0)
        yield lambda done, total, text: shown.update(task, completed=min(done, total), total=total, description=text)
