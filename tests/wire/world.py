"""Transports linked by a network in virtual time: late, lost, twice, out of order, recorded."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heappop, heappush
from math import inf
from typing import Any

from crdt.ids import ReplicaId
from mesh.effects import Address, Now, Transmit
from mesh.wire.crypto import LIBSODIUM
from mesh.wire.frames import Frame, Lane
from mesh.wire.transport import Received, SessionOpened, Transport, TransportEvent, TransportLimits

MESH_ID = b"mesh id, 16 byte"
WIDE_OPEN = TransportLimits(rate_bytes_per_s=1e12, burst_bytes=1e12)


def key_id(public_key: bytes) -> ReplicaId:
    return ReplicaId(blake2b(public_key, digest_size=8).digest())


@dataclass
class Seed:
    seed: bytes


class Side:
    """One start of one agent. Its credential is `member` and its number; `revoked` numbers are refused."""

    def __init__(self, world: World, number: int, address: Address, **options: Any) -> None:
        self.world = world
        self.number = number
        self.address = address
        self.public_key = LIBSODIUM.keypair(bytes((number,)) * 32)[0]
        self.id = key_id(self.public_key)
        world.starts += 1
        secrets = random.Random(1000 * world.starts + number)
        settings = dict[str, Any](
            identity=Seed(bytes((number,)) * 32),
            mesh_id=MESH_ID,
            boot_id=secrets.randbytes(16),
            credential=b"member %d" % number,
            admit=self._admit,
            rng=random.Random(world.starts),
            entropy=secrets.randbytes,
        )
        self.transport = Transport(**(settings | options))
        self.got: list[Received] = []
        self.events: list[TransportEvent] = []
        self.admitted = 0

    def _admit(self, public_key: bytes, credential: bytes, _now: Now) -> ReplicaId | None:
        self.admitted += 1
        if not credential.startswith(b"member ") or int(credential[7:]) in self.world.revoked:
            return None
        return key_id(public_key)

    def send(self, to: Side, payload: bytes, lane: Lane = Lane.FRESH, kind: Frame = Frame.DELTA) -> None:
        self.transport.send(to.id, lane, kind, payload)

    def receive(self, datagram: bytes, source: Address) -> list[Received]:
        received = self.transport.receive_untrusted(datagram, source, self.world.now)
        self.got += received
        return received

    def contact(self, other: Side) -> None:
        self.transport.contact(other.address, self.world.now)

    def route(self, other: Side) -> None:
        self.transport.route(other.id, other.public_key, other.address)

    @property
    def payloads(self) -> list[bytes]:
        return [received.payload for received in self.got]

    @property
    def opened(self) -> list[ReplicaId]:
        return [event.peer for event in self.events if isinstance(event, SessionOpened)]


@dataclass(order=True)
class Flight:
    at: float
    number: int
    source: Address = field(compare=False)
    target: Address = field(compare=False)
    datagram: bytes = field(compare=False)
    arrived: bool = field(default=False, compare=False)


class World:
    def __init__(
        self, seed: int = 0, *, loss: float = 0.0, twice: float = 0.0, delay: tuple[float, float] = (0.001, 0.001)
    ) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.twice = twice
        self.delay = delay
        self.time = 100.0
        self.sides: dict[Address, Side] = {}
        self.revoked: set[int] = set()
        self.starts = 0
        self.flights: list[Flight] = []
        self.recorded: list[Flight] = []
        """Everything that was ever sent, lost or not."""

    @property
    def now(self) -> Now:
        return Now(self.time, int(self.time * 1e6))

    def start(self, number: int, port: int | None = None, **options: Any) -> Side:
        """A (re)start: whoever had the address is gone."""
        address = ("10.0.0.1", port or number)
        self.sides[address] = side = Side(self, number, address, **options)
        return side

    def pair(self, **options: Any) -> tuple[Side, Side]:
        """Two sides with an open session."""
        a, b = self.start(1, **options), self.start(2, **options)
        a.contact(b)
        self.run(1.0)
        assert a.opened == [b.id]
        assert b.opened == [a.id]
        return a, b

    def stop(self, side: Side) -> None:
        del self.sides[side.address]

    def move(self, side: Side, address: Address) -> None:
        """It has another address, and sends from there."""
        self.stop(side)
        side.address = address
        self.sides[address] = side

    def flush(self, side: Side) -> list[Transmit]:
        transmits = side.transport.flush(self.now)
        for transmit in transmits:
            self._launch(side.address, transmit.address, transmit.datagram)
        side.events += side.transport.take_events()
        return transmits

    def _launch(self, source: Address, target: Address, datagram: bytes) -> None:
        for _ in range(1 + (self.random.random() < self.twice)):
            flight = Flight(self.time + self.random.uniform(*self.delay), len(self.recorded), source, target, datagram)
            self.recorded.append(flight)
            if self.random.random() >= self.loss:
                heappush(self.flights, flight)

    def run(self, seconds: float) -> None:
        """Virtual time: everything due is delivered, every deadline kept."""
        end = self.time + seconds
        while True:
            for side in list(self.sides.values()):
                self.flush(side)
            deadline = min((side.transport.deadline for side in self.sides.values()), default=inf)
            arrival = self.flights[0].at if self.flights else inf
            if min(deadline, arrival) > end:
                break
            self.time = max(self.time, min(deadline, arrival))
            if arrival <= deadline:
                flight = heappop(self.flights)
                flight.arrived = flight.target in self.sides
                if flight.arrived:
                    self.sides[flight.target].receive(flight.datagram, flight.source)
            else:
                for side in list(self.sides.values()):
                    side.transport.tick(self.now)
        self.time = end

    def sent_by(self, side: Side, type_byte: int) -> list[bytes]:
        return [flight.datagram for flight in self.recorded if flight.source == side.address and flight.datagram[0] == type_byte]
