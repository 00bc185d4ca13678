"""Names of places: "host:port" as people write it, and what it means as numeric addresses.

Only addresses that this machine's operator wrote down (seeds, the address to bind) are ever resolved by name. An address that
came from another member is numeric or useless: see `mesh.net.udp`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final

import trio

from mesh.effects import Address
from mesh.errors import ConfigError

log: Final = logging.getLogger("mesh.net.endpoint")

RESOLVE_AGAIN_MIN: Final = 1.0
"""Seconds until the first repetition (guess: a name server that starts together with us)."""
RESOLVE_AGAIN_MAX: Final = 60.0
"""Seconds between repetitions at rest (guess: the usual lifetime of a record of a moving host)."""


def parse_endpoint(text: str) -> Address:
    """ "host:port" or "[v6 host]:port" -> (host, port), nothing resolved. ConfigError says what is wrong with it."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 0xFFFF:
        raise ConfigError(f"{text!r} is not an endpoint: write host:port, for example 192.0.2.7:7946 or [2001:db8::7]:7946")
    if host[:1] == "[" and host[-1:] == "]":
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{text!r} is not an endpoint: put an IPv6 address in brackets, [{host}]:{port}")
    if not host:
        raise ConfigError(f"{text!r} names no host: write 0.0.0.0:{port} for every interface, or the address of one")
    return host, int(port)


async def resolve(text: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[Address]:
    """Every numeric address of an endpoint, in the resolver's order of preference.

    Raises ConfigError when it is no endpoint, OSError (`socket.gaierror`) when the name has no address now.
    """
    host, port = parse_endpoint(text)
    try:
        found = await trio.socket.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    except UnicodeError as error:
        raise ConfigError(f"{text!r} is not an endpoint: no host can have that name ({error})") from error
    return list(dict.fromkeys((str(sockaddr[0]), int(sockaddr[1])) for *_, sockaddr in found))


async def resolve_seeds(
    seeds: Sequence[str],
    found: Callable[[Address], None],
    *,
    family: socket.AddressFamily = socket.AF_UNSPEC,
    needed: Callable[[], bool] = lambda: True,
) -> None:
    """Resolve the seeds now and again for as long as this task runs, and hand each address that is new to `found`.

    A seed whose name has no address yet, or another one tomorrow, is found all the same; the core itself retries the
    addresses that it knows. `needed` is asked before each round, so that a node with members around it leaves the name server
    in peace. A name that cannot be resolved is logged when its trouble changes; nothing but ConfigError is raised, and that
    in the first round.
    """
    for seed in seeds:
        parse_endpoint(seed)
    known: dict[str, list[Address]] = {}
    trouble: dict[str, str] = {}
    pause = RESOLVE_AGAIN_MIN
    while seeds:
        for seed in seeds if needed() else ():
            try:
                addresses = await resolve(seed, family)
            except OSError as error:
                if trouble.get(seed) != str(error):
                    log.warning("seed %s cannot be resolved, will try again: %s", seed, error)
                trouble[seed] = str(error)
                continue
            trouble.pop(seed, None)
            for address in addresses:
                if address not in known.get(seed, ()):
                    found(address)
            known[seed] = addresses
        await trio.sleep(pause)
        pause = min(pause * 2, RESOLVE_AGAIN_MAX)
    await trio.lowlevel.checkpoint()
