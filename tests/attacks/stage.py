"""What attackers have: a place on the network, a member's keys, a session. A mesh of honest agents around them, on virtual time.

Every module beside this one is a threat of SECURITY.md. Its attacks are run twice, `defended` and not: with the one defence
that is to stop it switched off, an attack must succeed, or it proves nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest import mock

import pytest

import crdt
from crdt.types import type_named
from mesh.effects import Address
from mesh.testing import Mesh
from mesh.testing.apart import replica_apart
from mesh.wire.delta import delta_bytes
from mesh.wire.frames import Frame, Lane

NOBODY: Final[Address] = ("203.0.113.9", 4000)
"""An outsider's address; the simulated network leads nowhere from there, as a spoofed one would."""
REGISTER: Final = type_named("register").code

both = pytest.mark.parametrize(
    "defended",
    [pytest.param(True, id="defended"), pytest.param(False, id="undefended", marks=pytest.mark.interpreted)],
)


@contextmanager
def without(defended: bool, owner: Any, name: str, broken: Any) -> Iterator[None]:
    """Switch one defence off, unless it is to hold."""
    if defended:
        yield
    else:
        with mock.patch.object(owner, name, broken):
            yield


def say(mesh: Mesh, liar: int, victim: int, kind: Frame, *payloads: bytes) -> None:
    """A member's frames, sealed in its session: what it says is up to it."""
    for payload in payloads:
        mesh.peer(liar).transport.send(mesh.memberships[victim].replica_id, Lane.FRESH, kind, payload)
    mesh.hosts[liar].wake()


def say_at_once(mesh: Mesh, liar: int, victim: int, kind: Frame, payload: bytes) -> None:
    """The same without a network: the victim has opened the datagram and looks at one frame."""
    peer, host = mesh.peer(victim), mesh.hosts[victim]
    peer.sync.handle_untrusted(mesh.memberships[liar].replica_id, kind, payload, host.now()) or peer.swim.handle_untrusted(
        mesh.memberships[liar].replica_id, kind, payload, host.now()
    )


def throw(mesh: Mesh, victim: int, datagram: bytes, address: Address = NOBODY) -> None:
    """A datagram from anywhere."""
    mesh.hosts[victim].deliver(datagram, address)


def record(mesh: Mesh) -> list[tuple[int, Address, bytes]]:
    """(sender, target, datagram) of everything that is sent from now on, by whoever is on the path."""
    heard: list[tuple[int, Address, bytes]] = []
    mesh.world.tap = lambda source, address, datagram: heard.append((source.number, address, datagram))
    return heard


class Author:
    """A shelf of a member, written by a program of its own: it checks nothing before it signs."""

    def __init__(self, mesh: Mesh, host: int, birth: int, **options: Any) -> None:
        """`options`: of its `crdt.Replica`."""
        self._mesh, self._host = mesh, host
        identity, directory = mesh.memberships[host].identity, mesh.peer(host).directory
        self.replica = replica_apart(identity, directory, birth, **options)

    @property
    def shelf(self) -> crdt.ShelfId:
        return self.replica.shelf

    def write(self, path: str, value: crdt.Value, *, wall: int = 1_800_000_000_000_000) -> bytes:
        """The next delta, as it travels."""
        return delta_bytes(self.replica.write(REGISTER, tuple(path.split("/")), value, now_wall=wall))

    def write_large(self, path: str, value: crdt.Value, *, wall: int = 1_800_000_000_000_000) -> list[bytes]:
        """All deltas of a value that fits no single one."""
        self.replica.draft(REGISTER, tuple(path.split("/")), value, now_wall=wall)
        return [delta_bytes(delta) for delta in self.replica.seal()]

    def tell(self, victim: int, *raws: bytes) -> None:
        say(self._mesh, self._host, victim, Frame.DELTA, *raws)


def honest(mesh: Mesh, *liars: int) -> list[int]:
    return [number for number in mesh.running if number not in liars]


def shows(mesh: Mesh, number: int, path: str) -> Any:
    """The value of a register there."""
    return mesh.node(number).register(path).value


def told(mesh: Mesh, number: int, kind: type) -> list[Any]:
    return [event for event in mesh.node(number).told if isinstance(event, kind)]


def alive_at(mesh: Mesh, number: int) -> int:
    return len(mesh.peer(number).swim.alive())


def wrapped(function: Callable[..., Any], change: Callable[..., Any]) -> Callable[..., Any]:
    """`change(result, *arguments)` in place of what the function gives."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        return change(function(*arguments, **keywords), *arguments)

    return wrapper
