"""`mesh put`: write one value through the local node."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from mesh.control.protocol import UNKNOWN
from tools.cli.home import dir_option, find_home
from tools.cli.output import json_option, print_json
from tools.control import Client, ControlError


class Seconds(click.FloatRange):
    """A finite number in a range: `nan` is in none, but is not out of it either."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


TIMEOUT: Final = Seconds(min=0, min_open=True, max=366 * 24 * 3600)
"""What a socket can wait for ends somewhere; nobody waits for a year (guess)."""


@click.command(context_settings={"ignore_unknown_options": True})  # so that -1 is a value
@click.argument("path")
@click.argument("value", required=False)
@click.option("--type", "type_name", metavar="TYPE", help="What to write to.  [default: what is there, else register]")
@click.option("--remove", is_flag=True, help="Clear the path; with VALUE, take that element or key out of a set or map.")
@click.option("--copies", type=click.IntRange(min=1), metavar="N", help="Wait until N other members have it too.")
@click.option("--timeout", type=TIMEOUT, default=10.0, show_default=True, help="Seconds to wait for that.")
@dir_option
@json_option
def put(
    path: str,
    value: str | None,
    type_name: str | None,
    remove: bool,
    copies: int | None,
    timeout: float,
    directory: Path | None,
    as_json: bool,
) -> None:
    """Write VALUE at PATH.

    Done when it is on this machine's disk. VALUE is JSON, or else taken as a string; `-` reads it from standard input.
    What it does depends on the type: a register or multi_value is set; a counter or bounded_counter counts by it; maximum and
    minimum compare with it; a set gains it; a list or log gets it at its end; a map gets the keys of the object; a flag becomes
    true or false.
    """
    if value is None and not remove:
        raise click.UsageError("What should be written? Give a VALUE, or --remove.", click.get_current_context())
    request: dict[str, Any] = {"path": path, "type": type_name, "remove": remove, "copies": copies, "timeout": timeout}
    if value is not None:
        request["value"] = parse_value(sys.stdin.read() if value == "-" else value)
    with Client(find_home(directory).data_dir, timeout=30 + timeout) as node:
        try:
            written = node.ask("put", **request)
        except KeyboardInterrupt:
            raise ControlError("interrupted: whether it was written is unknown, `mesh get` tells", UNKNOWN) from None
    if as_json:
        print_json(written)


def parse_value(text: str) -> Any:
    """JSON when it is JSON, else the text itself."""
    try:
        return json.loads(text, parse_constant=_not_json, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise click.UsageError(f"{digits} is too large for a number: write it as text, in quotes.", click.get_current_context())
    return number


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")  # NaN and Infinity are words then
