"""`mesh keys rotate`: a further key for an agent, with no write lost and no restart."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from typing import Final

import click

from mesh.trust import Identity, adopt_next_key, load_membership, open_authority, prepare_next_key
from mesh.trust.files import AUTHORITY_KEY, MEMBER_KEY
from mesh.trust.rotation import read_request, write_request
from tools.cli.enrol import learn_from
from tools.cli.home import Home, dir_option, find_home
from tools.cli.output import json_option, print_json
from tools.control import Client, ControlError, NotRunning

ADOPTED_WITHIN_S: Final = 5.0
"""Guess: the node hears of it through its own control socket, at once."""


@click.command()
@click.option("--request", metavar="LINE", help="What `mesh keys rotate` printed for an agent elsewhere; - reads standard input.")
@dir_option
@json_option
def rotate(request: str | None, directory: Path | None, as_json: bool) -> None:
    """Give this agent a new key. Nothing that it wrote is lost, and a running node goes on.

    Where the authority's key is elsewhere, this prints a line: take it there, and run `mesh keys rotate --request LINE`.
    """
    home = find_home(directory)
    if request is not None:
        line = sys.stdin.read() if request == "-" else request
        name, public_key = _put_into_force(home, line)
        if as_json:
            print_json({"rotated": name, "public_key": public_key})
        else:
            click.echo(f"{name} has a new key: it goes on with it as soon as it hears of this, and closes the former one.")
        return
    membership = load_membership(home.keys)
    following = prepare_next_key(home.keys)
    line = write_request(membership, following)
    if not (home.keys / AUTHORITY_KEY).exists():
        if as_json:
            print_json({"request": line})
            return
        click.echo(line)
        click.echo("Where the authority's key is:  mesh keys rotate --request LINE", err=True)
        return
    name, public_key = _put_into_force(home, line)
    running = _adopted(home, following)
    if as_json:
        print_json({"rotated": name, "public_key": public_key, "running": running})
    else:
        click.echo(f"{name} signs with a new key now{'' if running else ' (from its next start on)'}; the former one is closed.")


def _put_into_force(home: Home, line: str) -> tuple[str, str]:
    """The authority's part. Gives the agent's name, and its new public key in hex."""
    try:
        with Client(home.data_dir) as node:
            with open_authority(home.keys) as authority:
                learn_from(node, authority)
                asked = read_request(line, authority.directory)
                statement = authority.rotate(asked.replica, asked.public_key)
            node.ask("tell", statement=base64.b64encode(statement).decode())
    except NotRunning:
        with open_authority(home.keys) as authority:
            asked = read_request(line, authority.directory)
            authority.rotate(asked.replica, asked.public_key)
    return authority.directory.name(asked.replica), asked.public_key.hex()


def _adopted(home: Home, following: Identity) -> bool:
    """Waits until the running node uses the key; where none runs, puts it into place. Whether one runs."""
    deadline = time.monotonic() + ADOPTED_WITHIN_S
    while time.monotonic() < deadline:
        if Identity.load(home.keys / MEMBER_KEY) == following:
            return True
        try:
            with Client(home.data_dir) as node:
                node.ask("status")
        except NotRunning:
            adopt_next_key(home.keys, ())
            return False
        time.sleep(0.01)
    raise ControlError(
        "the new key is in force, but the running node has not taken it up: restart it (it is not run by `mesh up`?)", 3
    )
