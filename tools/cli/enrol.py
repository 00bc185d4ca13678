"""`mesh init`, `mesh invite`, `mesh join`: how a mesh begins, and how others get in."""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from consensus_escalation.anchor import Anchor
from mesh.config import DEFAULT_PORT, format_endpoint
from mesh.effects import Address
from mesh.errors import ConfigError
from mesh.net.endpoint import parse_endpoint
from mesh.net.own_address import own_host
from mesh.trust import Identity, init_dir, open_authority, read_token, redeem, save_membership
from mesh.trust.files import AUTHORITY_KEY, AUTHORITY_SEVERAL
from mesh.trust.proposals import keep_token, path_of
from mesh.trust.statements import AUTHORITIES_MAX, DELEGATES_MAX
from tools.cli.countersign import say_proposed
from tools.cli.home import CONFIG_NAME, VARIABLE, Home, Settings, dir_option, find_home, write_config
from tools.cli.output import json_option, print_json
from tools.control import Client, NotRunning

if TYPE_CHECKING:
    from mesh.trust import Authority

PORTS_TRIED: Final = 64
ADDRESSES_IN_TOKEN: Final = 4
"""Members that a newcomer tries: this one, and some others in case this one is away."""
_DURATION: Final = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", required=True, help="What this first member is called.")
@click.option("--critical", multiple=True, metavar="PATTERN", help="Paths that only the quorum may write; repeatable.")
@click.option("--bind", metavar="HOST:PORT", help=f"Where it listens.  [default: 0.0.0.0 and a free port from {DEFAULT_PORT}]")
@click.option(
    "--recovery", type=click.Path(path_type=Path, dir_okay=False), help="Put a key there that can replace the authority's."
)
@click.option(
    "--authority-keys",
    type=click.IntRange(1, AUTHORITIES_MAX),
    default=1,
    show_default=True,
    help="Keys of the authority, each to be kept by somebody else.",
)
@click.option(
    "--threshold", type=click.IntRange(1, AUTHORITIES_MAX), default=1, show_default=True, help="How many of them must sign."
)
@json_option
def init(
    directory: Path,
    name: str,
    critical: tuple[str, ...],
    bind: str | None,
    recovery: Path | None,
    authority_keys: int,
    threshold: int,
    as_json: bool,
) -> None:
    """Make a new mesh and its first member, in DIRECTORY."""
    _check_new(directory)
    settings = Settings(bind=_bind(bind, ()))
    keys_dir = directory / settings.keys_dir
    membership = init_dir(
        keys_dir, name, critical=critical, recovery=recovery, threshold=threshold, authority_keys=authority_keys
    )
    write_config(directory / CONFIG_NAME, name, settings)
    if as_json:
        print_json(
            {"directory": str(directory), "name": name, "replica": membership.replica_id.hex(), "mesh": membership.mesh_id.hex()}
        )
        return
    if authority_keys > 1:
        first = keys_dir / AUTHORITY_SEVERAL.format("1")
        click.echo(
            f"{directory} is the first member, {name}, of a new mesh; what changes it takes {threshold} of {authority_keys} keys."
        )
        click.echo(f"Move them, {first} and so on, to as many people, who keep copies in safe places.")
    else:
        click.echo(f"{directory} is the first member, {name}, of a new mesh. It also holds the authority's key: keep a copy of")
        click.echo(f"{keys_dir / AUTHORITY_KEY} in a safe place.")
    if recovery is not None:
        click.echo(f"{recovery} can replace that key if it is lost or stolen (`mesh keys recover`): keep it elsewhere.")
    click.echo(f"Run it:                  mesh up{_dir_hint(directory)}")
    click.echo(f"Let another machine in:  mesh invite --name NAME{_dir_hint(directory)}")


@click.command()
@click.option("--name", help="What the newcomer is called.  [default: what it calls itself]")
@click.option("--voter", is_flag=True, help="It may vote in the quorum.")
@click.option(
    "--may-write", multiple=True, metavar="PATTERN", default=("**",), show_default=True, help="Paths it may write; repeatable."
)
@click.option(
    "--score", type=click.IntRange(0, 15), default=0, show_default=True, help="How well it is suited to lead the quorum."
)
@click.option(
    "--expires", default="7d", show_default=True, metavar="TIME", help="How long the token can be used: 30m, 12h, 7d, never."
)
@click.option("--below", metavar="PREFIX", help="Without the authority, by this agent itself: it may write PREFIX/** only.")
@click.option(
    "--delegates",
    type=click.IntRange(0, DELEGATES_MAX),
    default=0,
    show_default=True,
    help="Levels of others that it may let in below itself.",
)
@click.option("--address", "addresses", multiple=True, metavar="HOST:PORT", help="Where the newcomer finds the mesh; repeatable.")
@dir_option
@json_option
def invite(
    name: str | None,
    voter: bool,
    may_write: tuple[str, ...],
    score: int,
    expires: str,
    below: str | None,
    delegates: int,
    addresses: tuple[str, ...],
    directory: Path | None,
    as_json: bool,
) -> None:
    """Print a token that lets one other agent in.

    Hand it over as you would a password: whoever has it can use it, once.
    """
    home = find_home(directory)
    until = _until(expires)
    known = tuple(parse_endpoint(address) for address in addresses) or _addresses(home)
    if below is not None:
        if voter or score or may_write != ("**",):
            raise click.UsageError("--below gives no vote, no score and no other paths.", click.get_current_context())
        token = _below(home, below, name, delegates, until, known)
    else:
        with open_authority(home.keys) as authority:
            _learn(home, authority)
            token = authority.invite(
                name,
                may_write=may_write,
                voter=voter,
                score=score,
                expires=until,
                delegates=delegates,
                addresses=known,
                anchor=_anchor(home),
            )
        if authority.proposed:
            keep_token(path_of(home.keys, authority.proposed), token)
            say_proposed(home, authority, as_json)
            return
    places, anchor = [format_endpoint(address) for address in known], read_token(token).anchor
    if as_json:
        print_json({"token": token, "name": name, "expires": until, "addresses": places, "anchor": _block(anchor)})
        return
    click.echo(token)
    if sys.stderr.isatty():
        if anchor is not None:
            click.echo(f"It names block {anchor.index} of the quorum's log: who joins takes no other history.", err=True)
        click.echo(f"On the other machine:  mesh join TOKEN && mesh up   (it will look for {', '.join(places)})", err=True)


@click.command()
@click.argument("token")
@click.option("--name", help="What this agent is called, when the token does not say.")
@click.option("--bind", metavar="HOST:PORT", help=f"Where it listens.  [default: 0.0.0.0 and a free port from {DEFAULT_PORT}]")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=VARIABLE,
    help=f"Where to put it.  [default: ${VARIABLE}, else a new directory called like the agent]",
)
@json_option
def join(token: str, name: str | None, bind: str | None, directory: Path | None, as_json: bool) -> None:
    """Become a member, with a TOKEN from `mesh invite`.

    Needs no network: run `mesh up` afterwards. A TOKEN of - is read from standard input.
    """
    text = sys.stdin.read() if token == "-" else token
    given = read_token(text).invitation.terms.name
    membership = redeem(
        text, Identity.generate(), name=name or (None if given else socket.gethostname()), wall=time.time_ns() // 1000
    )
    if directory is None:
        if membership.name.startswith((".", "-")):  # a token is somebody else's word: no name of theirs leads elsewhere
            raise ConfigError(f"the name {membership.name!r} is no good name for a directory: say where with --dir")
        directory = Path(membership.name)
    _check_new(directory)
    seeds = [format_endpoint(address) for address in membership.seeds]
    settings = Settings(bind=_bind(bind, membership.seeds), seeds=seeds)
    save_membership(directory / settings.keys_dir, membership)
    write_config(directory / CONFIG_NAME, membership.name, settings)
    if as_json:
        found = {"directory": str(directory), "name": membership.name, "replica": membership.replica_id.hex(), "seeds": seeds}
        print_json({**found, "anchor": _block(membership.anchor)})
        return
    click.echo(f"{directory} is {membership.name}, a member of mesh {membership.mesh_id.hex()[:8]}.")
    click.echo(f"Run it:  mesh up{_dir_hint(directory)}")


def _below(home: Home, prefix: str, name: str | None, delegates: int, until: int | None, known: Sequence[Address]) -> str:
    """A delegation is made by the running node: it has the key, and tells the others."""
    with Client(home.data_dir) as node:
        told = node.ask(
            "delegate",
            name=name,
            may_write=[f"{prefix.rstrip('/')}/**"],
            delegates=delegates,
            redeem_by=until,
            addresses=[format_endpoint(each) for each in known],
        )
    return str(told["token"])


def _check_new(directory: Path) -> None:
    if (directory / CONFIG_NAME).exists():
        raise ConfigError(f"{directory} already is a node: choose another directory, or delete it if nobody needs it any more")


def _dir_hint(directory: Path) -> str:
    """What to add to a command so that it finds this directory: nothing when it does anyway."""
    try:
        if find_home(None).directory.resolve() == directory.resolve():
            return ""
    except ConfigError:
        pass
    return f" --dir {directory}"


def _bind(bind: str | None, others: Sequence[Address]) -> str:
    """What was asked for; else the usual port, or the next that is free here and no other's: two on one machine just work."""
    if bind is not None:
        parse_endpoint(bind)
        return bind
    here = ("127.0.0.1", "::1", own_host())
    taken = {port for host, port in others if host in here}
    for port in range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            if port not in taken:
                return f"0.0.0.0:{port}"
    raise ConfigError(f"no UDP port from {DEFAULT_PORT} to {DEFAULT_PORT + PORTS_TRIED - 1} is free: say one with --bind")


def _until(expires: str) -> int | None:
    """Seconds since 1970."""
    if expires == "never":
        return None
    found = _DURATION.fullmatch(expires.strip())
    if not found:
        raise click.UsageError(
            f"--expires {expires!r}: write a number and s, m, h, d or w, or never.", click.get_current_context()
        )
    return int(time.time()) + int(found[1]) * _SECONDS[found[2]]


def _addresses(home: Home) -> tuple[Address, ...]:
    """Where a newcomer finds the mesh: what the running node knows, else what its configuration says."""
    try:
        with Client(home.data_dir) as node:
            members: list[dict[str, Any]] = node.ask("members")
    except NotRunning:
        return (_configured_address(home),)
    living = [member for member in members if member["state"] == "alive"]
    living.sort(key=lambda member: not member["me"])
    return tuple(parse_endpoint(member["address"]) for member in living[:ADDRESSES_IN_TOKEN])


def _configured_address(home: Home) -> Address:
    if home.settings.advertise:
        return parse_endpoint(home.settings.advertise)
    host, port = parse_endpoint(home.settings.bind)
    if port == 0:
        raise ConfigError(
            f"{home.config} binds port 0, a new one at each start: start the node first, or say --address HOST:PORT"
        )
    if host in ("0.0.0.0", "::"):
        host = own_host() or "127.0.0.1"
    return host, port


def _anchor(home: Home) -> Anchor | None:
    """What the running node can prove of the quorum's log; None without it."""
    try:
        with Client(home.data_dir) as node:
            told = node.ask("quorum")["anchor"]
    except NotRunning:
        return None
    if told is None:
        return None
    epoch, index, digest, config_index, config_hash = told
    return Anchor(epoch, index, bytes.fromhex(digest), config_index, bytes.fromhex(config_hash))


def _block(anchor: Anchor | None) -> dict[str, int] | None:
    """Which one it names."""
    return None if anchor is None else {"epoch": anchor.epoch, "index": anchor.index}


def _learn(home: Home, authority: Authority) -> None:
    """What the mesh says about keys meanwhile, so that no name and no serial is given twice."""
    try:
        with Client(home.data_dir) as node:
            learn_from(node, authority)
    except NotRunning:
        return


def learn_from(node: Client, authority: Authority) -> None:
    """Ask a running node for all statements."""
    from base64 import b64decode

    authority.observe_untrusted(b64decode(each) for each in node.stream("statements"))
