"""`mesh keys rotate`: a further key for an agent, with no write lost and no restart."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from mesh.trust import Identity, adopt_next_key, load_authority, load_membership, open_authority, prepare_next_key
from mesh.trust.files import AUTHORITY_KEY, MEMBER_KEY, recover_authority, replace_authority_key
from mesh.trust.rotation import read_request, write_request
from tools.cli.countersign import say_proposed
from tools.cli.enrol import learn_from
from tools.cli.home import Home, dir_option, find_home
from tools.cli.output import json_option, print_json
from tools.control import Client, ControlError, NotRunning

ADOPTED_WITHIN_S: Final = 5.0
"""Guess: the node hears of it through its own control socket, at once."""


@click.command()
@click.option("--request", metavar="LINE", help="What `mesh keys rotate` printed for an agent elsewhere; - reads standard input.")
@click.option("--authority", is_flag=True, help="Replace the authority's key instead, where it is; it is overwritten.")
@dir_option
@json_option
def rotate(request: str | None, authority: bool, directory: Path | None, as_json: bool) -> None:
    """Give this agent a new key. Nothing that it wrote is lost, and a running node goes on.

    Where the authority's key is elsewhere, this prints a line: take it there, and run `mesh keys rotate --request LINE`.
    """
    home = find_home(directory)
    if authority:
        _tell_all(home, lambda known: replace_authority_key(home.keys, known), as_json)
        return
    if request is not None:
        line = sys.stdin.read() if request == "-" else request
        put = _put_into_force(home, line, as_json)
        if put is None:
            return
        name, public_key = put
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
    put = _put_into_force(home, line, as_json)
    if put is None:
        return
    name, public_key = put
    running = _adopted(home, following)
    if as_json:
        print_json({"rotated": name, "public_key": public_key, "running": running})
    else:
        click.echo(f"{name} signs with a new key now{'' if running else ' (from its next start on)'}; the former one is closed.")


@click.command()
@click.argument("recovery", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--new-recovery", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Where to put the next recovery key."
)
@click.option(
    "--until-serial",
    type=click.IntRange(1),
    metavar="N",
    help="The last serial of `mesh keys show` that the authority itself gave: what a thief of its key signed later is void.",
)
@dir_option
@json_option
def recover(recovery: Path, new_recovery: Path, until_serial: int | None, directory: Path | None, as_json: bool) -> None:
    """Replace a lost or stolen authority key, by the file RECOVERY of `mesh init --recovery`. This node gets the new one.

    It outranks whatever the former key signed. The used recovery key is worth nothing afterwards: keep the new one instead.
    """
    home = find_home(directory)
    _tell_all(home, lambda known: recover_authority(home.keys, recovery, new_recovery, known, until_serial=until_serial), as_json)


def _tell_all(home: Home, replace: Callable[[list[bytes]], list[bytes]], as_json: bool) -> None:
    try:
        with Client(home.data_dir) as node:
            statements = replace([base64.b64decode(each) for each in node.stream("statements")])
            for statement in statements:
                node.ask("tell", statement=base64.b64encode(statement).decode())
    except NotRunning:
        replace([])
    public_key = load_authority(home.keys).identity.public_key.hex()
    if as_json:
        print_json({"authority": public_key})
    else:
        where = home.keys / AUTHORITY_KEY
        click.echo(f"The authority's key is {public_key[:16]} now, in {where}: destroy copies of the former one.")


def _put_into_force(home: Home, line: str, as_json: bool) -> tuple[str, str] | None:
    """The authority's part. Gives the agent's name, and its new public key in hex; None when others must sign first."""
    try:
        with Client(home.data_dir) as node:
            with open_authority(home.keys) as authority:
                learn_from(node, authority)
                asked = read_request(line, authority.directory)
                statement = authority.rotate(asked.replica, asked.public_key)
            if say_proposed(home, authority, as_json):
                return None
            node.ask("tell", statement=base64.b64encode(statement).decode())
    except NotRunning:
        with open_authority(home.keys) as authority:
            asked = read_request(line, authority.directory)
            authority.rotate(asked.replica, asked.public_key)
        if say_proposed(home, authority, as_json):
            return None
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
