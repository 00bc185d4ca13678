"""`mesh doctor`: what is wrong with this node and its surroundings, and how to mend it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from mesh.effects import Address
from mesh.errors import ConfigError
from mesh.net.endpoint import parse_endpoint
from mesh.trust import Membership, load_membership
from tools.cli import checks
from tools.cli.checks import Finding, State
from tools.cli.home import Home, dir_option, find_home
from tools.cli.output import escape, is_terminal, json_option, print_json
from tools.control import Client, ControlError

PEERS_MAX: Final = 8
"""Members asked besides the seeds: each that is silent costs two seconds."""
_COLOURS: Final = {State.OK: "green", State.NOTE: "yellow", State.BAD: "red"}


@click.command()
@dir_option
@json_option
def doctor(directory: Path | None, as_json: bool) -> None:
    """Find out what is wrong, and how to mend it.

    Looks at keys, clock, disk, sockets, blocked UDP, MTU, and whether another agent uses this one's key. Exit status 1 when
    something is wrong.
    """
    bad = False
    for finding in examine(directory):
        bad |= finding.state is State.BAD
        if as_json:
            print_json({"what": finding.what, "state": finding.state.value, "found": finding.found, "mend": finding.mend})
        else:
            _print(finding)
    click.get_current_context().exit(1 if bad else 0)


def examine(directory: Path | None) -> Iterator[Finding]:
    """Everything, cheapest first, so that the first lines are there at once."""
    yield checks.check_open_files()
    try:
        home = find_home(directory)
    except ConfigError as error:
        yield checks.config_error("configuration", error)
        yield checks.check_buffers(checks.kernel_rmem_max(), None)
        yield checks.check_clock(None, time.time())
        return
    yield Finding("configuration", State.OK, str(home.config))
    yield from checks.check_key_files(sorted(home.keys.glob("*.key")))
    yield from filter(None, [checks.check_rotation(home.keys)])
    membership = None
    try:
        membership = load_membership(home.keys)
        yield Finding("membership", State.OK, f"{membership.name}, replica {membership.identity.replica_id.hex()}")
    except ConfigError as error:
        yield checks.config_error("membership", error)
    yield from checks.check_disk(home.data_dir)
    yield from _examine_node(home)
    if membership is not None:
        yield from _examine_network(home, membership)


def _examine_node(home: Home) -> Iterator[Finding]:
    """The node itself, when one runs; else what it will need."""
    found = _ask(home, "status")
    if found is None:
        yield Finding("node", State.NOTE, f"none is running in {home.directory}", "mesh up")
        yield checks.check_clock(None, time.time())
        yield checks.check_buffers(checks.kernel_rmem_max(), None)
        yield from filter(
            None, [checks.check_database(path) for path in (home.data_dir / "quorum.db", home.data_dir / "state.db")]
        )
        yield checks.check_bind(_resolved(home.settings.bind))
        return
    statistics = found["statistics"]
    state = State.OK if found["synced"] else State.NOTE
    yield Finding("node", state, f"{found['name']} is up at {found['address']}, {'' if found['synced'] else 'not yet '}in step")
    for key in _ask(home, "keys") or ():
        if key["key"] == found["replica"]:
            yield from filter(None, (checks.check_standing(key["state"]), checks.check_expiry(key["expires"], time.time())))
    yield checks.check_identity(found["identity_in_use"])
    yield checks.check_clock(found["clock_offset_s"], time.time())
    yield checks.check_buffers(checks.kernel_rmem_max(), statistics.get("kernel_drops"))
    yield from checks.check_statistics(statistics)
    yield from checks.check_ended(statistics.get("ended", ()))


def _examine_network(home: Home, membership: Membership) -> Iterator[Finding]:
    """Every seed, and the members that the node knows."""
    targets: dict[Address, str] = {}
    for seed in home.settings.seeds:
        try:
            targets[_resolved(seed)] = f"seed {seed}"
        except OSError as error:
            yield Finding(
                f"seed {seed}", State.BAD, f"cannot be resolved: {error}", "mend the name in mesh.toml, or the name server"
            )
    others = [member for member in _ask(home, "members") or () if not member["me"] and member["state"] != "left"]
    for member in others[:PEERS_MAX]:
        targets.setdefault(_resolved(member["address"]), member["name"])
    if not targets:
        yield Finding("reach", State.NOTE, "no seeds and no other member yet", "let one in: mesh invite")
    answering: list[str] = []
    for address, name in targets.items():
        for finding in checks.check_reach(name, address, membership):
            if finding.what.startswith("reach") and finding.state is State.OK:
                answering.append(name)
            yield finding
    if status := _ask(home, "status"):
        admission = checks.check_admission(answering, status["members"].get("alive", 0), status["uptime_s"])
        yield from filter(None, [admission])


def _ask(home: Home, what: str) -> Any:
    try:
        with Client(home.data_dir, timeout=5.0) as node:
            return node.ask(what)
    except ControlError:
        return None


def _resolved(endpoint: str) -> Address:
    host, port = parse_endpoint(endpoint)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4]
    return str(found[0]), int(found[1])


def _print(finding: Finding) -> None:
    if not is_terminal():
        click.echo("\t".join((finding.state.value, finding.what, escape(finding.found), escape(finding.mend))))
        return
    click.echo(
        f"{click.style(finding.state.value.ljust(4), fg=_COLOURS[finding.state])}  {finding.what}: {escape(finding.found)}"
    )
    if finding.mend and finding.state is not State.OK:
        click.echo(f"      -> {escape(finding.mend)}")
