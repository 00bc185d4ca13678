"""What commands print: tables for people on a terminal, tab-separated lines in a pipe, JSON on request."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def is_terminal() -> bool:
    return sys.stdout.isatty()


def print_json(value: Any) -> None:
    """One line of JSON, flushed, so that a program that reads a stream gets each item when it happens."""
    text = json.dumps(value, ensure_ascii=False)
    click.echo("".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; in a pipe the cells separated by tabs, no header, so that `cut` and `awk` work.

    rich is loaded here: a pipe has no use for it, and it takes longer than the rest of a command.
    """
    if not is_terminal():
        for row in rows:
            click.echo("\t".join(escape(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape(cell)) for cell in row))
    Console().print(table)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """`name  value` lines."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(
            f"{name}\t{escape(value)}" if not is_terminal() else f"{click.style(name.ljust(width), bold=True)}  {escape(value)}"
        )


def show_value(value: Any) -> str:
    """A JSON value for people: a string as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def escape(text: str) -> str:
    """Other agents wrote this: what would steer the terminal or break a line is shown as an escape instead."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text)
