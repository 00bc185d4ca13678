"""How a node comes up, and goes: sockets, disk, keys and tasks around the pure core."""

from __future__ import annotations

import ipaddress
import logging
import random
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

import trio

from mesh.config import NodeConfig, format_endpoint
from mesh.control.server import serve
from mesh.critical.predicates import predicates_of
from mesh.effects import Address
from mesh.errors import ConfigError
from mesh.events import Event
from mesh.net.clock import SystemClock
from mesh.net.endpoint import parse_endpoint, resolve, resolve_seeds
from mesh.net.open_udp import open_udp
from mesh.net.own_address import own_host
from mesh.net.udp import UdpSocket
from mesh.node import Node
from mesh.nursery import open_plain_nursery
from mesh.peer import Peer, PeerConfig
from mesh.presets import preset
from mesh.store.journal import open_journal
from mesh.store.sqlite import open_store

log: Final = logging.getLogger("mesh.start")

BOOT_ID_BYTES: Final = 16
OWN_ADDRESS_S: Final = 5.0
"""Between two looks at this machine's own address (guess: a roaming robot waits about as long for its lease)."""
_ANY: Final = ("0.0.0.0", "::")


@asynccontextmanager
async def open_node(config: NodeConfig) -> AsyncIterator[Node]:
    """Run a node for as long as the block lasts, then leave the mesh gracefully.

    Raises ConfigError (an address that cannot be bound, a data directory in use ...), StorageCorrupt and StorageError. What the
    block itself raises comes out as it is.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        tell = _Tell()
        store = await stack.enter_async_context(open_store(config.data_path, notify=tell))
        journal = await stack.enter_async_context(open_journal(config.data_path, notify=tell))
        sock = stack.enter_context(await open_udp(config.bind))
        address = await _advertised(config, sock)
        restored = await store.load()
        rng = random.Random(secrets.randbits(256))
        quorum = replace(journal.restored, anchor=config.membership.anchor)
        peer = Peer(_peer_config(config, address), restored, rng, clock.now(), quorum)
        node = Node(peer, store, journal, sock, clock)
        tell.now_to(node.notify)
        async with open_plain_nursery() as nursery:
            await nursery.start(store.run)
            await nursery.start(node.run)
            nursery.start_soon(_resolve_names, config, sock, node)
            nursery.start_soon(_follow_own_address, config, sock, node)
            if config.judges:
                nursery.start_soon(node.judge, config.judges)
            if config.control and config.data_path is not None:
                await nursery.start(serve, node, config.data_path)
            try:
                yield node
            finally:
                await node.leave()
                nursery.cancel_scope.cancel()


def _peer_config(config: NodeConfig, address: Address) -> PeerConfig:
    return PeerConfig(
        membership=config.membership,
        address=address,
        birth=secrets.randbits(32),
        boot_id=secrets.token_bytes(BOOT_ID_BYTES),
        entropy=secrets.token_bytes,
        seeds=tuple(parse_endpoint(seed) for seed in _seeds(config) if _is_numeric(seed)),
        preset=preset(config.preset),
        predicates=predicates_of(config.predicates),
        coalesce_seconds=config.coalesce_ms / 1e3,
        durable=config.data_path is not None,
    )


def _is_numeric(endpoint: str) -> bool:
    host, _ = parse_endpoint(endpoint)
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def _advertised(config: NodeConfig, sock: UdpSocket) -> Address:
    """Where others reach this node: what the configuration says, or where it is bound, or this machine's own address."""
    if config.advertise is not None:
        try:
            return (await resolve(config.advertise, sock.family))[0]
        except OSError as error:
            raise ConfigError(f"advertise={config.advertise!r} cannot be resolved: {error.strerror or error}") from error
    host, port = sock.address
    if host not in _ANY:
        return host, port
    own = own_host(sock.family)
    if own is None:
        own = "::1" if sock.family == socket.AF_INET6 else "127.0.0.1"
        log.warning("this machine has no route to any network: only programs on it will reach this node, at %s", own)
    return own, port


async def _follow_own_address(config: NodeConfig, sock: UdpSocket, node: Node) -> None:
    """A robot that roams gets another address: a node that listens on every interface says so by itself."""
    host, port = sock.address
    if config.advertise is not None or host not in _ANY:
        return
    while True:
        await trio.sleep(OWN_ADDRESS_S)
        if (own := own_host(sock.family)) is not None:
            node.readdress((own, port))


class _Tell:
    """Keeps what the store says before there is a node to tell it to."""

    def __init__(self) -> None:
        self._early: list[Event] = []
        self._to: Callable[[Event], None] = self._early.append

    def __call__(self, event: Event) -> None:
        self._to(event)

    def now_to(self, notify: Callable[[Event], None]) -> None:
        self._to = notify
        for event in self._early:
            notify(event)


def _seeds(config: NodeConfig) -> list[str]:
    """Those of the configuration and those of the token."""
    return [*config.seeds, *(format_endpoint(address) for address in config.membership.seeds)]


async def _resolve_names(config: NodeConfig, sock: UdpSocket, node: Node) -> None:
    """Seeds with names: found again and again while this node knows nobody alive."""
    names = [seed for seed in _seeds(config) if not _is_numeric(seed)]
    await resolve_seeds(names, node.found, family=sock.family, needed=lambda: node.is_alone)
