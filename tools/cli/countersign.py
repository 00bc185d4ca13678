"""`mesh keys sign` and `mesh keys import`: an authority of several keys, some of which must agree."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from crdt.ids import ReplicaId
from mesh.errors import ConfigError
from mesh.trust import Directory, Identity, load_membership
from mesh.trust.countersigning import describe, missing, says, signers
from mesh.trust.files import authority_keys_of, import_proposal, load_authority_key
from mesh.trust.identity import key_id
from mesh.trust.proposals import load, path_of
from mesh.trust.proposals import sign as sign_file
from mesh.trust.statements import KeyId, charter_from_bytes
from tools.cli.home import Home, dir_option, find_home
from tools.cli.output import json_option, print_json
from tools.control import Client, ControlError, NotRunning

if TYPE_CHECKING:
    from mesh.trust import Authority

ANSWER_S: Final = 2.0
"""Guess: a node that lives answers within milliseconds."""

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))


def say_proposed(home: Home, authority: Authority, as_json: bool) -> bool:
    """Whether what was issued lacks signatures of other keys: then it says what to do next."""
    if not authority.proposed:
        return False
    path = path_of(home.keys, authority.proposed)
    lacking = missing(authority.proposed[0], charter_from_bytes(authority.charter))
    if as_json:
        print_json({"proposal": str(path), "missing": lacking})
        return True
    click.echo(f"{path} lacks {lacking} of {authority.threshold} signatures; nothing is in force yet. Take it to who has a key:")
    click.echo("  mesh keys sign FILE --key KEYFILE     and, when all have signed, here:     mesh keys import FILE")
    return True


@click.command()
@_FILE
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="One of the authority's.  [default: one that is here]",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@dir_option
@json_option
def sign(file: Path, key_file: Path | None, yes: bool, directory: Path | None, as_json: bool) -> None:
    """Sign what another holder of a key of the authority proposes, in FILE. Shows what it says, and asks.

    Needs no network, and no node either where --key is given; a member's directory (--dir) tells the names of members.
    """
    proposal = load(file)
    home = _home(directory, needed=key_file is None)
    charter = charter_from_bytes(proposal.charter)
    known = None if home is None else known_at(home)
    for raw in proposal.statements:
        click.echo(describe(says(raw), lambda key: _name(known, key)), err=True)
    key = load_authority_key(key_file) if key_file is not None else _key_here(home, proposal.statements[0])
    if not yes:
        click.confirm("Sign this?", abort=True, err=True)
    signed = sign_file(file, proposal, key)
    lacking = max(missing(raw, charter) for raw in signed.statements)
    if as_json:
        print_json({"signed": key_id(key.public_key).hex(), "missing": lacking})
    elif lacking:
        click.echo(f"{file} lacks {lacking} more.")
    else:
        click.echo(f"{file} is complete. Where a member runs:  mesh keys import FILE")


@click.command("import")
@_FILE
@dir_option
@json_option
def take(file: Path, directory: Path | None, as_json: bool) -> None:
    """Put into force what FILE says, once it has all its signatures. Any member can do that.

    Prints the token, when it was proposed here to let somebody in.
    """
    home = find_home(directory)
    proposal = load(file)
    try:
        with Client(home.data_dir) as node:
            tokens = import_proposal(home.keys, proposal, [base64.b64decode(each) for each in node.stream("statements")])
            for statement in proposal.statements:
                node.ask("tell", statement=base64.b64encode(statement).decode())
        told = True
    except NotRunning:
        tokens, told = import_proposal(home.keys, proposal, ()), False
    if as_json:
        print_json({"statements": len(proposal.statements), "told": told, "tokens": tokens})
        return
    for token in tokens:
        click.echo(token)
    where = "members that can be reached know within a second" if told else "the others hear of it when this node runs (mesh up)"
    click.echo(f"It is in force: {where}.", err=bool(tokens))


def _home(directory: Path | None, *, needed: bool) -> Home | None:
    try:
        return find_home(directory)
    except ConfigError:
        if needed or directory is not None:
            raise
        return None


def known_at(home: Home) -> Directory:
    """What the running node knows, and the files; only these when it does not answer."""
    membership = load_membership(home.keys)
    known = Directory(membership.charter)
    known.restore(membership.statements)
    try:
        with Client(home.data_dir, timeout=ANSWER_S) as node:
            node.ask("status")  # a stream waits for ever for a node that hangs
            known.restore([base64.b64decode(each) for each in node.stream("statements")])
    except NotRunning:
        pass
    except ControlError as error:
        click.echo(f"Without what the node has learned since its start: {error}.", err=True)
    return known


def _name(known: Directory | None, key: KeyId) -> str | None:
    return known.name(ReplicaId(key)) if known is not None and key in known.replicas() else None


def _key_here(home: Home | None, raw: bytes) -> Identity:
    keys = () if home is None else authority_keys_of(home.keys)
    found = next((each for each in keys if key_id(each.public_key) not in signers(raw)), None)
    if found is None:
        raise ConfigError("no key of the authority that could sign this is here: name one with --key KEYFILE")
    return found
