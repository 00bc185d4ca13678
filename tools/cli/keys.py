"""`mesh keys`: who may do what, and taking it away."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import Any, Final

import click

from mesh.control.verbs import key_row
from mesh.effects import Now
from mesh.errors import ConfigError
from mesh.trust import Authority, Directory, list_key_files, load_membership, open_authority
from mesh.trust.proposals import PROPOSALS
from mesh.trust.statements import HONOURED_MAX
from tools.cli.countersign import say_proposed, sign, take
from tools.cli.encrypt import encrypt
from tools.cli.endings import cut, retire
from tools.cli.enrol import learn_from
from tools.cli.home import dir_option, find_home
from tools.cli.output import json_option, print_json, print_table
from tools.cli.rotate import recover, rotate
from tools.control import Client, NotRunning

_KEY_ID: Final = re.compile("[0-9a-f]{16}")


@click.group()
def keys() -> None:
    """Show who may do what, and take rights away."""


@keys.command()
@dir_option
@json_option
def show(directory: Path | None, as_json: bool) -> None:
    """List every key of the mesh: members, open invites, revoked ones."""
    home = find_home(directory)
    ended: list[dict[str, Any]] = []
    try:
        with Client(home.data_dir) as node:
            found = node.ask("keys")
            ended = node.ask("status")["statistics"]["ended"]
            if any(home.keys.glob("authority*.key")) or (home.keys / PROPOSALS).exists():
                found += _issued_here(home.keys, [base64.b64decode(each) for each in node.stream("statements")], found)
    except NotRunning:
        found = [key_row(key) for key in list_key_files(home.keys, _now())]
    if as_json:
        print_json(found)
        return
    for each in ended:
        click.echo(each["told"], err=True)
    print_table(
        ("NAME", "STATE", "MAY WRITE", "VOTER", "SERIAL", "EXPIRES", "KEY"),
        (
            (
                key["name"],
                key["state"],
                " ".join(key["may_write"]),
                "yes" if key["voter"] else "no",
                str(key["serial"]),
                "never" if key["expires"] is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(key["expires"])),
                key["key"],
            )
            for key in found
        ),
    )


def _issued_here(keys_dir: Path, known: list[bytes], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keys of the authority's files that the running node has not heard of: invites, open or revoked, with which nobody came."""
    membership = load_membership(keys_dir)
    directory = Directory(membership.charter)
    directory.restore([*membership.statements, *known])
    told = {row["key"] for row in found}
    return [row for row in map(key_row, directory.keys(_now())) if row["key"] not in told]


def _now() -> Now:
    return Now(time.monotonic(), time.time_ns() // 1000)


@keys.command()
@click.argument("name")
@dir_option
@json_option
def revoke(name: str, directory: Path | None, as_json: bool) -> None:
    """Take all rights from NAME (or a key id of `mesh keys show`). What it wrote until now still counts, nothing later does."""
    home = find_home(directory)
    with Client(home.data_dir) as node:
        with open_authority(home.keys) as authority:
            learn_from(node, authority)
            bearer = bearer_of(authority, name)
            if bearer is not None and bearer.hex() == node.ask("status")["replica"]:
                raise ConfigError(
                    f"{name} is this very agent, which could not tell the others: run this where another member runs"
                )
            below = [] if bearer is None else node.ask("below", replica=bearer.hex())
            # Whom it let in goes with it, and first: so that what they wrote until now still counts.
            taken = [(each, _revoke(node, authority, each)) for each in below]
            taken.append((name, _revoke(node, authority, name, bearer)))
        if say_proposed(home, authority, as_json):
            return
        for _, (statement, _) in taken:
            node.ask("tell", statement=base64.b64encode(statement).decode())
    left_out = sum(starts for _, (_, starts) in taken)
    if as_json:
        print_json(
            {"revoked": name, "key": None if bearer is None else bearer.hex(), "below": below, "starts_left_out": left_out}
        )
    else:
        click.echo(f"{name} is revoked: members that can be reached know within a second, the others when they return.")
        if left_out:
            click.echo(
                f"What is left of {left_out} of its former starts does not count any more: too many for one list.", err=True
            )


keys.add_command(rotate)
keys.add_command(recover)
keys.add_command(encrypt)
keys.add_command(cut)
keys.add_command(retire)
keys.add_command(sign)
keys.add_command(take)


def _revoke(node: Client, authority: Authority, subject: str, bearer: bytes | None = None) -> tuple[bytes, int]:
    """The statement, and how many former starts did not fit into it."""
    bearer = bytes.fromhex(subject) if bearer is None and _KEY_ID.fullmatch(subject) else bearer
    written = [] if bearer is None else node.ask("shelves", replica=bearer.hex())
    statement = authority.revoke(subject, honoured=[(birth, seq) for birth, seq in written[:HONOURED_MAX]])
    return statement, max(0, len(written) - HONOURED_MAX)


def bearer_of(authority: Authority, name: str) -> bytes | None:
    """Whom a name or an id in hex means; None for an invite that nobody redeemed."""
    bearers = authority.directory.named(name)
    if bearers:
        return next((each for each in bearers if not authority.directory.revoked(each)), bearers[0])
    return bytes.fromhex(name) if _KEY_ID.fullmatch(name) else None
