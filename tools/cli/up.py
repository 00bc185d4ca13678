"""`mesh up`: run a node until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import trio

import mesh
from mesh.config import format_endpoint
from mesh.errors import ConfigError, MeshError
from mesh.events import (
    CatchingUp,
    Event,
    IdentityInUse,
    InviteReused,
    KeyReplaced,
    LeaderDemoted,
    MemberCut,
    MemberDown,
    MemberRevoked,
    NotAdmitted,
    QuorumFault,
    QuorumLost,
    RelayLied,
    SerialReused,
    ShelfFault,
    ShelfForked,
    StatementIgnored,
    StorageFailing,
)
from mesh.net import systemd
from mesh.nursery import open_plain_nursery
from mesh.trust import adopt_next_key, load_membership
from tools.cli.home import Home, dir_option, find_home, load_home
from tools.cli.output import escape
from tools.garbage import collect_rarely

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ENDINGS: Final = (MemberCut, RelayLied, ShelfForked)
log: Final = logging.getLogger("mesh.up")

UNIT_NAME: Final = "gossipmesh@.service"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""sd-daemon(3): how a line says its level to the journal."""


_LEVELS: Final[dict[type[Event], int]] = {
    CatchingUp: logging.DEBUG,
    **dict.fromkeys(
        (
            *(MemberDown, IdentityInUse, InviteReused, NotAdmitted, SerialReused, ShelfFault, StatementIgnored, StorageFailing),
            *(LeaderDemoted, QuorumFault, QuorumLost),
            *ENDINGS,
        ),
        logging.WARNING,
    ),
}


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="A mesh.toml.  [default: that of the node's directory]"
)
@click.option("--bind", metavar="HOST:PORT", help="Listen there instead of where mesh.toml says.")
@click.option("--seed", "seeds", multiple=True, metavar="HOST:PORT", help="One more member to start with; repeatable.")
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True)
@click.option("--print-unit", is_flag=True, help="Print the systemd unit for this machine, and do nothing else.")
@dir_option
def up(
    config: Path | None, bind: str | None, seeds: tuple[str, ...], log_level: str, print_unit: bool, directory: Path | None
) -> None:
    """Run a node until Ctrl-C or SIGTERM.

    Then it says goodbye, so that the others need not wait for it; a second signal stops it at once.
    """
    if print_unit:
        click.echo(unit(), nl=False)
        return
    if config is not None and directory is not None and os.environ.get("MESH_DIR") is None:
        raise click.UsageError("--config and --dir both say which node: give one.", click.get_current_context())
    home = load_home(config) if config is not None else find_home(directory)
    start_logging(log_level)
    node = node_config(home, bind, seeds)
    collect_rarely()
    trio.run(run, node, home)


def node_config(home: Home, bind: str | None = None, seeds: tuple[str, ...] = ()) -> mesh.NodeConfig:
    """Raises ConfigError."""
    settings = home.settings
    membership = load_membership(home.keys)
    try:
        config = mesh.NodeConfig(
            membership=membership,
            bind=settings.bind,
            advertise=settings.advertise,
            seeds=tuple(settings.seeds),
            preset=settings.preset,
            coalesce_ms=settings.coalesce_ms,
            data_dir=home.data_dir,
        )
    except ConfigError as error:
        raise ConfigError(f"{home.config}: {error}") from error
    return replace(config, bind=bind or config.bind, seeds=(*config.seeds, *seeds))


async def run(config: mesh.NodeConfig, home: Home) -> None:
    """A node, its log and its service manager, until a signal. A second signal stops without waiting for the farewell."""
    stopping = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: goes on when its terminal closes
        stopping.append(signal.SIGHUP)
    with trio.open_signal_receiver(*stopping) as signals:
        async with open_plain_nursery() as nursery:
            stop = _Stop(nursery.cancel_scope)
            nursery.start_soon(stop.follow, signals)
            async with mesh.open_node(config) as node:
                with stop.running(node):
                    _greet(node, home)
                    systemd.notify(systemd.READY, f"STATUS=member {config.membership.name} at {format_endpoint(node.address)}")
                    async with open_plain_nursery() as watching:
                        watching.start_soon(systemd.watchdog)
                        watching.start_soon(_log_events, node, home)
                systemd.notify(systemd.STOPPING)
            nursery.cancel_scope.cancel()
    log.info("stopped")


class _Stop:
    """What a signal does: it ends the start, or the run, or the wait for the others to hear the farewell."""

    def __init__(self, start: trio.CancelScope) -> None:
        self._start = start
        self._run = trio.CancelScope()
        self._node: mesh.Node | None = None

    def running(self, node: mesh.Node) -> trio.CancelScope:
        self._node = node
        return self._run

    async def follow(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            name = signal.Signals(number).name
            if self._node is None:
                log.info("%s: stopping before the node is up", name)
                self._start.cancel()
            elif not self._run.cancel_called:
                log.info("%s: leaving the mesh", name)
                self._run.cancel()
            else:
                log.info("%s again: not waiting for the others", name)
                self._node.hurry()


async def _log_events(node: mesh.Node, home: Home) -> None:
    async with node.events() as events:
        _rekey(node, home)  # what was put into force while this node was away
        async for event in events:
            log.log(_LEVELS.get(type(event), logging.INFO), "%s", describe(event))
            if isinstance(event, KeyReplaced) and event.replica == node.replica_id:
                _rekey(node, home)
            if isinstance(event, MemberRevoked) and event.replica == node.replica_id:
                log.warning("that is this agent: the others take nothing from it any more; let it join again with a new token")


def _rekey(node: mesh.Node, home: Home) -> None:
    """Go on with the key that `mesh keys rotate` prepared, once the authority has put it into force."""
    try:
        membership = adopt_next_key(home.keys, node.statements())
        if membership is not None:
            node.rekey(membership)
            log.info("this agent signs with a new key, %s; the former one is closed", membership.identity.public_key.hex()[:16])
    except MeshError as error:
        log.error("the key could not be replaced: %s", error)


def describe(event: Event) -> str:
    """An event as one line: its name as words, then its fields."""
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in type(event).__name__).strip()
    fields = ((name, getattr(event, name)) for name in type(event).__dataclass_fields__)
    return " ".join((words, *(f"{name}={_shown(value)}" for name, value in fields if value not in (None, ()))))


def _shown(value: Any) -> str:
    match value:
        case bytes():
            return value.hex()
        case (str(), int()):
            return format_endpoint(value)
        case tuple() | list():
            return ",".join(map(_shown, value))
        case _:
            return escape(str(value))


def _greet(node: mesh.Node, home: Home) -> None:
    """Tell a person at a terminal what runs and what to do next; a log gets one line."""
    name, address = node.name, format_endpoint(node.address)
    log.info("%s is up: replica %s at %s, data in %s", name, node.replica_id.hex(), address, home.data_dir)
    if sys.stdout.isatty():
        here = "" if home.directory == Path.cwd() else f" --dir {os.path.relpath(home.directory)}"
        click.echo(f"{click.style(name, bold=True)} is up at {address}. In another terminal:")
        click.echo(f"  mesh put hello world{here}     mesh watch /{here}")
        if (home.keys / "authority.key").exists():
            click.echo(f"  mesh invite --name NAME{here}   lets another machine in")
        click.echo("Ctrl-C leaves the mesh.")


def start_logging(level: str) -> None:
    """To stderr. Under systemd the journal adds time and process, and takes the level from a prefix."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JournalFormatter() if "JOURNAL_STREAM" in os.environ else logging.Formatter(TERMINAL_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])


TERMINAL_FORMAT: Final = "%(asctime)s %(levelname)-7s %(message)s"


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def unit() -> str:
    """The shipped unit file with the path of this very command."""
    text = resources.files("tools").joinpath("systemd", UNIT_NAME).read_text(encoding="utf-8")
    called, beside = Path(sys.argv[0]), Path(sys.executable).with_name("mesh")
    command = called.absolute() if called.name == "mesh" else beside
    return text.replace("ExecStart=mesh ", f"ExecStart={command} ")
