"""`mesh propose`: a critical write from the shell, agreed on by a majority of the voters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mesh.control.protocol import UNKNOWN
from tools.cli.home import dir_option, find_home
from tools.cli.output import json_option, print_json
from tools.cli.put import TIMEOUT, parse_value
from tools.control import Client, ControlError


@click.command(context_settings={"ignore_unknown_options": True})  # so that -1 is a value
@click.argument("path")
@click.argument("value", required=False)
@click.option("--expect", metavar="VALUE", help="Only if this is there now; null means nothing.")
@click.option("--remove", is_flag=True, help="Remove what is there.")
@click.option("--intent", default="", help="What is to happen, as the rules know it: valve.open, shell.run ...")
@click.option("--argument", "arguments", metavar="JSON", help="What the intent needs.")
@click.option("--why", "rationale", default="", help="Why, for judges and auditors.")
@click.option("--trace", default="", help="An id of yours, for auditors.")
@click.option("--dangerous", is_flag=True, help="Have it endorsed before it is written, whatever the rules say.")
@click.option("--key", help="Idempotency key: the same key is the same write, for 24 hours.")
@click.option(
    "--timeout",
    type=TIMEOUT,
    default=10.0,
    show_default=True,
    help="Seconds to wait for a majority.",
)
@dir_option
@json_option
def propose(
    path: str,
    value: str | None,
    expect: str | None,
    remove: bool,
    intent: str,
    arguments: str | None,
    rationale: str,
    trace: str,
    dangerous: bool,
    key: str | None,
    timeout: float,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Write VALUE at a critical PATH, once a majority of the voters agrees.

    VALUE is JSON, or else taken as a string. Exits 0 with the index of the log that holds it, 1 when it is definitely not done (a
    rule refused it, something else was there), 3 when that is not known: then ask again with the same --key.
    """
    if (value is None) is not remove:
        raise click.UsageError("What should be written? Give a VALUE, or --remove.", click.get_current_context())
    request: dict[str, Any] = {"path": path, "intent": intent, "rationale": rationale, "trace": trace, "dangerous": dangerous}
    request |= {"remove": remove, "idempotency_key": key, "timeout": timeout}
    if value is not None:
        request["value"] = parse_value(value)
    if arguments is not None:
        request["arguments"] = parse_value(arguments)
    if expect is not None:
        request["expected"] = parse_value(expect)
    with Client(find_home(directory).data_dir, timeout=30 + timeout) as node:
        try:
            receipt = node.ask("propose", **request)
        except KeyboardInterrupt:
            raise ControlError("interrupted: whether it was done is unknown, `mesh get` tells", UNKNOWN) from None
    if as_json:
        print_json(receipt)
    else:
        names = ", ".join(receipt["acknowledged_by"])
        click.echo(f"agreed at index {receipt['index']} in term {receipt['term']}, acknowledged by {names}")
