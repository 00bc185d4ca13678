"""The same on real UDP: what an outsider throws at a living node, with a recording of what its members said."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

import mesh
from mesh.effects import Address
from mesh.net.udp import UdpSocket
from mesh.wire import transport as transport_module
from mesh.wire.handshake import INIT_BYTES, Init, encode_init, init_untrusted, mesh_tag
from mesh.wire.session import DATA, Session
from tests.attacks.stage import both, without
from tests.node.agents import PATIENCE_S as WAIT

THREAT = "floods, replays and amplification on real sockets"


class Outsider:
    """A socket of its own on loopback."""

    def __init__(self, target: Address) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._target = target
        self.sent = self.back = 0

    async def throw(self, datagrams: list[bytes]) -> None:
        """In portions, so that the socket of the victim holds them."""
        for at in range(0, len(datagrams), 50):
            for datagram in datagrams[at : at + 50]:
                self._socket.sendto(datagram, self._target)
                self.sent += len(datagram)
            await trio.sleep(0.005)
        await trio.sleep(0.1)
        while True:
            try:
                self.back += len(self._socket.recv(2048))
            except OSError:
                return

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[mesh.Node, mesh.Node]]:
    authority = mesh.Authority.generate()
    members = [authority.enrol(mesh.Identity.generate(), name=name, may_write=["**"]) for name in ("one", "two")]
    async with mesh.open_node(mesh.NodeConfig(membership=members[0], bind="127.0.0.1:0")) as one:
        seeds = ["{}:{}".format(*one.address)]
        async with mesh.open_node(mesh.NodeConfig(membership=members[1], bind="127.0.0.1:0", seeds=seeds)) as two:
            with trio.fail_after(WAIT):
                one.register("warm").set(1)
                await one.replicated(copies=1)
            yield one, two


def sizes(node: mesh.Node) -> list[int]:
    transport = node._peer.transport
    tables = (transport._peers.by_id, transport._by_tag, transport._peers.by_key, transport._attempts._by_address)
    return [len(table) for table in tables]


async def test_garbage_and_first_contacts() -> None:
    async with two_nodes() as (one, two):
        outsider, rng, before = Outsider(one.address), random.Random(1), sizes(one)
        tag = mesh_tag(one._peer.directory.mesh_id)
        garbage = [bytes((DATA,)) + rng.randbytes(rng.choice((9, 40, 1_000))) for _ in range(2_000)]
        contacts = [encode_init(tag, Init(os.urandom(16), os.urandom(32))) for _ in range(500)]
        await outsider.throw(garbage + contacts)
        outsider.close()
        assert 0 < outsider.back <= outsider.sent
        assert sizes(one) == before
        with trio.fail_after(WAIT):
            two.register("key").set("through")
            await two.replicated(copies=1)
        assert one.register("key").value == "through"
        assert one._peer.transport.drops["unknown_session"] >= 1_000


@both
async def test_short_questions_are_answered_by_no_more(defended: bool) -> None:
    def unpadded(datagram: bytes, tag: bytes) -> Init | str:
        return init_untrusted(datagram.ljust(INIT_BYTES, b"\0"), tag)

    async with two_nodes() as (one, _):
        with without(defended, transport_module, "init_untrusted", unpadded):
            outsider = Outsider(one.address)
            tag = mesh_tag(one._peer.directory.mesh_id)
            await outsider.throw([encode_init(tag, Init(os.urandom(16), bytes(32))).rstrip(b"\0") for _ in range(100)])
            outsider.close()
        assert (outsider.back > outsider.sent) == (not defended)


@both
async def test_recorded_datagrams(defended: bool) -> None:
    recorded: list[bytes] = []
    send = UdpSocket.send

    def tapped(self: UdpSocket, datagram: bytes, address: Address) -> bool:
        recorded.append(datagram)
        return send(self, datagram, address)

    async with two_nodes() as (one, two):
        with without(False, UdpSocket, "send", tapped):
            with trio.fail_after(WAIT):
                for number in range(20):
                    two.register("key").set(number)
                    await two.replicated(copies=1)
        with without(defended, Session, "is_replay", lambda *_: False):
            before = one._peer.transport.drops["replay"], one._peer.transport.counters.sealed_received
            outsider = Outsider(one.address)
            await outsider.throw([each for each in recorded if each[0] == DATA] * 3)
            outsider.close()
            replays = one._peer.transport.drops["replay"] - before[0]
            opened = one._peer.transport.counters.sealed_received - before[1]
        assert (replays >= 20) == defended
        assert (opened > 40) == (not defended)
        assert one._peer.transport.address_of(two.replica_id) == two.address
