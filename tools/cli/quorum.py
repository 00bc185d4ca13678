"""`mesh quorum` and `mesh verify`: who decides, what was decided, and the proof of it."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mesh.control.json_values import to_json
from mesh.critical.proof import NotProven, Report, verify_untrusted
from mesh.errors import ConfigError
from mesh.trust import Directory, open_authority
from mesh.wire.cose import signed_part
from tools.cli.countersign import known_at, say_proposed
from tools.cli.enrol import learn_from
from tools.cli.home import dir_option, find_home
from tools.cli.keys import bearer_of
from tools.cli.look import show_time, why_nobody_leads
from tools.cli.output import json_option, print_json, print_pairs, print_table, show_value
from tools.cli.voters import appoint, dismiss
from tools.control import Client, ControlError


@click.group()
def quorum() -> None:
    """Show who decides about critical writes, and keep what was decided."""


@quorum.command()
@dir_option
@json_option
def show(directory: Path | None, as_json: bool) -> None:
    """Show leader, voters, rules, and who refused what."""
    with Client(find_home(directory).data_dir) as node:
        found = node.ask("quorum")
    if as_json:
        print_json(found)
        return
    if not found["voters"]:
        raise ControlError("this mesh has no quorum: the first agent enrolled as a voter begins one")
    print_pairs(
        [
            ("leader", found["leader"] or why_nobody_leads(found["voters"])),
            ("term", str(found["term"])),
            ("epoch", str(found["epoch"])),
            ("agreed", f"up to index {found['commit_index']}, proven here up to {found['proven_index']}"),
        ]
    )
    if found["awaited_index"]:
        click.echo(
            f"This agent takes nothing before it has the history up to block {found['awaited_index']}, which its token names: "
            "some member that it can reach should have that.",
            err=True,
        )
    rows = [(v["name"], v["state"], "demoted" if v["demoted"] else f"score {v['score']}", v["replica"]) for v in found["voters"]]
    print_table(("VOTER", "STATE", "RANK", "REPLICA"), rows)
    print_table(("RULE", "EFFECT", "BECAUSE"), [(rule["name"], rule["effect"], rule["because"]) for rule in found["rules"]])
    refused = [(each["voter"], each["author"], each["rule"], str(each["term"])) for each in found["refusals"]]
    if refused:
        print_table(("REFUSED BY", "ASKED BY", "RULE", "TERM"), refused)


@quorum.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--index", type=int, help="Only this block: what a receipt names.")
@dir_option
@json_option
def export(file: Path, index: int | None, directory: Path | None, as_json: bool) -> None:
    """Write all decisions that the local node keeps, with their proof, into FILE. `mesh verify FILE` reads it, anywhere."""
    with Client(find_home(directory).data_dir) as node:
        raw = b"".join(base64.b64decode(piece) for piece in node.stream("ledger", **({} if index is None else {"index": index})))
    if not file.parent.is_dir():
        raise ControlError(f"{file}: there is no directory {file.parent}")
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_bytes(raw)
    beside.replace(file)
    report = _verified(raw, file)
    if as_json:
        print_json({"file": str(file), "bytes": len(raw), "first": report.first, "last": report.last})
    else:
        click.echo(f"{file}: blocks {report.first} to {report.last}, {len(report.decisions)} decisions, {len(raw)} bytes")


@quorum.command()
@click.option("--voter", metavar="NAME", help="Who begins, alone, with the critical values that it has.  [default: this agent]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@dir_option
@json_option
def reset(voter: str | None, yes: bool, directory: Path | None, as_json: bool) -> None:
    """Begin a new quorum when a majority of the voters is lost for ever. Needs the authority's key.

    Whatever the lost majority agreed on and this voter had not heard is gone. Leases end; fencing tokens go on growing. If the
    old majority lives after all, what it agrees on from now on counts nowhere that has heard of the reset.
    """
    home = find_home(directory)
    with Client(home.data_dir) as node, open_authority(home.keys) as authority:
        learn_from(node, authority)
        replica = bytes.fromhex(node.ask("status")["replica"]) if voter is None else bearer_of(authority, voter)
        key = None if replica is None else authority.directory.public_key(replica)  # type: ignore[arg-type]  # 8 bytes
        if replica is None or key is None:
            raise ConfigError(f"no member is called {voter}: see `mesh keys show`")
        grant = authority.directory.credential(replica)  # type: ignore[arg-type]
        if grant is None or not grant.terms.voter:
            raise ConfigError(f"{voter or 'this agent'} is not enrolled as a voter: name one that is")
        if not yes:
            click.confirm("Is a majority of the voters lost for ever?", abort=True)
        statement = authority.begin_quorum(key)
        if not authority.proposed:
            node.ask("tell", statement=base64.b64encode(statement).decode())
        name = authority.directory.name(replica)  # type: ignore[arg-type]
        genesis = authority.directory.genesis()
    if say_proposed(home, authority, as_json):
        return
    epoch = genesis[1].epoch if genesis is not None else 0
    if as_json:
        print_json({"epoch": epoch, "voter": name})
    else:
        click.echo(f"Epoch {epoch} begins with {name}. What the former voters agreed on and {name} had not heard is lost.")


quorum.add_command(appoint)
quorum.add_command(dismiss)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--authority",
    "authorities",
    multiple=True,
    metavar="HEX",
    help="The public key that the mesh began with, or all of several.  [default: those of the node's directory]",
)
@dir_option
@json_option
def verify(file: Path, authorities: tuple[str, ...], directory: Path | None, as_json: bool) -> None:
    """Check a FILE of `mesh quorum export`, without any node: who wanted, endorsed and refused what, and why.

    Exits 0 when everything in it is proven, 1 when something is not. A node's directory (--dir) knows when the authority's key
    was replaced; with --authority only the file tells.
    """
    mine = None if authorities else _mine(directory)
    report = _verified(file.read_bytes(), file, [] if mine is None else mine.statements())
    # All of it: a forger can name others' keys beside its own, or fewer of them that must sign.
    other = mine is not None and signed_part(report.charter) != signed_part(mine.root)
    if other or (authorities and set(report.authorities) != _keys(authorities)):
        raise ControlError(f"{file} is of another authority, {_hex(report.authorities)}: it proves nothing about this mesh")
    trusted = bool(authorities) or mine is not None
    unsigned = sum(not each.signed for each in report.decisions)
    if as_json:
        print_json(_plain(report, trusted))
    else:
        _print(report, trusted)
    if unsigned:
        raise ControlError(f"{unsigned} entries do not bear the signature of who they say they are from: a leader lied")


def _verified(raw: bytes, file: Path, known: Sequence[bytes] = ()) -> Report:
    try:
        return verify_untrusted(raw, known)
    except NotProven as error:
        raise ControlError(f"{file} proves nothing: {error}") from error


def _keys(authorities: tuple[str, ...]) -> set[bytes]:
    try:
        return set(map(bytes.fromhex, authorities))
    except ValueError:
        raise click.UsageError("--authority is a public key in hexadecimal.", click.get_current_context()) from None


def _hex(keys: tuple[bytes, ...]) -> str:
    return ", ".join(key.hex() for key in keys)


def _mine(directory: Path | None) -> Directory | None:
    """What the node's directory knows of its mesh; None when there is none to compare with."""
    try:
        return known_at(find_home(directory))
    except ConfigError:
        if directory is not None:
            raise
        return None


def _plain(report: Report, trusted: bool) -> dict[str, Any]:
    found = asdict(report)
    del found["charter"]
    found["mesh"], found["authorities"] = report.mesh.hex(), [key.hex() for key in report.authorities]
    found["in_force"] = [key.hex() for key in report.in_force]
    found["authority_known"] = trusted
    for row in found["decisions"]:
        row["value"] = to_json(row["value"])
    return found


def _print(report: Report, trusted: bool) -> None:
    known = "the one you trust" if trusted else "compare it yourself: no node's directory is here"
    if report.threshold > 1:
        known = f"{report.threshold} of them; {known}"
    if report.in_force != report.authorities:
        known = f"{known}; replaced by {_hex(report.in_force)}"
    print_pairs(
        [
            ("proven", f"blocks {report.first} to {report.last} of epoch {report.epoch}"),
            ("authority", f"{_hex(report.authorities)} ({known})"),
            ("voters", ", ".join(report.voters)),
        ]
    )
    changes = []
    for change in report.changes:
        went = [f"{name} ({'countersigned' if name in change.countersigned else 'by the voters alone'})" for name in change.went]
        changes.append((str(change.index), show_time(change.time), ", ".join(change.came), ", ".join(went)))
    if changes:
        print_table(("INDEX", "TIME", "NOW VOTES", "NO LONGER VOTES"), changes)
    rows = []
    for each in report.decisions:
        if each.author:
            what = f"{each.kind} {each.path} {show_value(to_json(each.value)) if each.value is not None else ''}".strip()
            endorsed = ", ".join(each.endorsed_by) if each.dangerous else ""
            why = " / ".join(part for part in (each.intent, each.rationale) if part)
            rows.append((str(each.index), show_time(each.time), each.author, what, each.outcome, endorsed, why))
    print_table(("INDEX", "TIME", "WANTED BY", "WHAT", "OUTCOME", "ENDORSED BY", "WHY"), rows)
    noes = [(each.voter, each.author, f"{each.kind} {each.path}", each.rule, each.rationale) for each in report.refusals]
    if noes:
        print_table(("REFUSED BY", "WANTED BY", "WHAT", "RULE OR REASON", "WHY IT WAS WANTED"), noes)
