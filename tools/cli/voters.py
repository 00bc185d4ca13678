"""`mesh quorum appoint` and `dismiss`: who of the members may vote, by the authority's word."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from crdt.ids import ReplicaId
from mesh.errors import ConfigError
from mesh.trust import open_authority
from tools.cli.countersign import say_proposed
from tools.cli.enrol import learn_from
from tools.cli.home import dir_option, find_home
from tools.cli.keys import bearer_of
from tools.cli.output import json_option, print_json
from tools.control import Client


@click.command()
@click.argument("name")
@click.option("--score", type=click.IntRange(0, 15), help="How well it is suited to lead the quorum.  [default: as it is]")
@dir_option
@json_option
def appoint(name: str, score: int | None, directory: Path | None, as_json: bool) -> None:
    """Let NAME, a member, vote, or change its score. Needs the authority's key.

    Up to five vote; whoever else may, stands by. The new score counts as soon as a majority of the voters has agreed on it.
    """
    _reissue(name, directory, as_json, voter=True, score=score)


@click.command()
@click.argument("name")
@dir_option
@json_option
def dismiss(name: str, directory: Path | None, as_json: bool) -> None:
    """Take the vote from NAME, which stays a member. Needs the authority's key, and a majority of the voters.

    The voters put another in its place, if one stands by, and write the authority's signature beside the change. So does
    `mesh keys revoke`, which takes all rights; a voter that is only away is replaced after 10 minutes, without any key.
    """
    _reissue(name, directory, as_json, voter=False, score=None)


def _reissue(name: str, directory: Path | None, as_json: bool, *, voter: bool, score: int | None) -> None:
    home = find_home(directory)
    with Client(home.data_dir) as node, open_authority(home.keys) as authority:
        learn_from(node, authority)
        bearer = bearer_of(authority, name)
        replica = None if bearer is None else ReplicaId(bearer)
        grant = None if replica is None else authority.directory.credential(replica)
        if replica is None or grant is None or authority.directory.revoked(replica):
            raise ConfigError(f"no member is called {name}: see `mesh keys show`")
        if grant.terms.voter is voter and score in (None, grant.terms.score):
            raise ConfigError(
                f"{name} may vote already, with score {grant.terms.score}" if voter else f"{name} has no vote to take"
            )
        if not voter and [each["replica"] for each in node.ask("quorum")["voters"]] == [replica.hex()]:
            raise ConfigError(f"{name} is the only voter: let another one vote first, or see `mesh quorum reset`")
        statement = authority.reissue(replica, voter=voter, score=score, expires=grant.terms.expires)
        if not authority.proposed:
            node.ask("tell", statement=base64.b64encode(statement).decode())
    if say_proposed(home, authority, as_json):
        return
    if as_json:
        print_json({"name": name, "replica": replica.hex(), "voter": voter})
    elif voter:
        click.echo(f"{name} may vote: `mesh quorum show` tells when it does, or stands by.")
    else:
        click.echo(f"{name} votes no longer as soon as a majority of the voters has agreed on it: see `mesh quorum show`.")
