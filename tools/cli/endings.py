"""`mesh keys cut` and `mesh keys retire`: end an agent for good, and name who takes over what is known of it."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from mesh.errors import ConfigError
from mesh.trust import open_authority
from tools.cli.countersign import say_proposed
from tools.cli.enrol import learn_from
from tools.cli.home import dir_option, find_home
from tools.cli.output import json_option, print_json
from tools.control import Client

WITHIN = (
    "Members that can be reached know within a second, the others when they return. {host} collects what they hold of it and "
    "speaks for it."
)


@click.command()
@click.argument("name")
@click.option("--host", required=True, metavar="OTHER", help="The member that takes over what is known of it.")
@dir_option
@json_option
def cut(name: str, host: str, directory: Path | None, as_json: bool) -> None:
    """End NAME, alive or not: its rights are gone at once and nothing more of it is taken.

    For an agent that lies. Its key is of no use any more; `mesh invite` lets the machine in again, under a new one.
    """
    if _end(name, host, directory, as_json, alive=True) is None:
        return
    if as_json:
        print_json({"cut": name, "host": host})
    else:
        click.echo(f"{name} is cut. {WITHIN.format(host=host)}")


@click.command()
@click.argument("name")
@click.option("--host", metavar="OTHER", help="The member that takes over what is known of it.  [default: this one]")
@dir_option
@json_option
def retire(name: str, host: str | None, directory: Path | None, as_json: bool) -> None:
    """End NAME, an agent that is gone for good, so that what it leaves behind can be tidied away.

    Everything that it wrote stays as it is. What can be replaced or removed is then tidied by the member that takes over.
    """
    host = _end(name, host, directory, as_json, alive=False)
    if host is None:
        return
    if as_json:
        print_json({"retired": name, "host": host})
    else:
        click.echo(f"{name} is retired. {WITHIN.format(host=host)}")


def _end(name: str, host: str | None, directory: Path | None, as_json: bool, *, alive: bool) -> str | None:
    """Gives the host's name; None when others must sign first. Raises ConfigError."""
    home = find_home(directory)
    with Client(home.data_dir) as node:
        me = node.ask("status")
        with open_authority(home.keys) as authority:
            learn_from(node, authority)
            host = me["name"] if host is None else host
            states = {member["name"]: member["state"] for member in node.ask("members")}
            if name == me["name"]:
                raise ConfigError(
                    f"{name} is this very agent, which could not tell the others: run this where another member runs"
                )
            if not alive and states.get(name) == "alive":
                raise ConfigError(
                    f"{name} is alive: stop it first, or end it all the same with `mesh keys cut {name} --host {host}`"
                )
            statement = authority.cut(name, host=host)
        if say_proposed(home, authority, as_json):
            return None
        node.ask("tell", statement=base64.b64encode(statement).decode())
    return str(host)
