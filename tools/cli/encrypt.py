"""`mesh keys encrypt`: who can read what is below a prefix."""

from __future__ import annotations

from pathlib import Path

import click

from tools.cli.home import dir_option, find_home
from tools.cli.output import json_option, print_json, print_table
from tools.control import Client


@click.command()
@click.argument("pattern", required=False)
@click.option(
    "--reader", "readers", multiple=True, metavar="NAME", help="A member that can read it, besides this agent; repeatable."
)
@dir_option
@json_option
def encrypt(pattern: str | None, readers: tuple[str, ...], directory: Path | None, as_json: bool) -> None:
    """Let only some members read what is written below PATTERN (secret/**) from now on. Without PATTERN: list what is encrypted.

    Run again, it changes the readers: who is not named any more reads nothing that is written later. Paths stay visible to all
    members, and what was written before stays as it is. Takes a credential with $keys/PATTERN (mesh invite --may-write).
    """
    with Client(find_home(directory).data_dir) as node:
        if pattern is None:
            found: dict[str, list[str]] = node.ask("encrypted")
            if as_json:
                print_json(found)
            else:
                print_table(("PATTERN", "READERS"), ((each, " ".join(found[each])) for each in sorted(found)))
            return
        told = node.ask("encrypt", pattern=pattern, readers=list(readers))
    if as_json:
        print_json(told)
    else:
        click.echo(f"{pattern} is readable for {', '.join(told['readers'])}; key {told['epoch']}.")
