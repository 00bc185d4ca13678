"""What an agent does most often, as pieces of work that can be counted one by one: deterministic, real crypto, no sockets."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import blake2b
from math import inf
from typing import Final

from consensus_escalation.block import Entry, Kind
from consensus_escalation.core import Genesis
from consensus_escalation.core import Restored as RestoredVoter
from consensus_escalation.effects import Effect, Persist, Persisted, Received, Send, SendAtOnce, Submit, Tick
from consensus_escalation.messages import Message
from consensus_escalation.quorum import Config
from consensus_escalation.raft import Raft
from consensus_escalation.sessions import NAMED
from consensus_escalation.types import Keys, Purpose, Role, Voter
from crdt.types import type_named
from mesh.effects import Address, Now, Transmit
from mesh.peer import Peer, PeerConfig
from mesh.store.rows import Restored
from mesh.trust import Authority, Identity
from mesh.wire.crypto import LIBSODIUM
from mesh.wire.delta import delta_bytes
from tools.measure.micro import Author, sealed_singles

Work = Callable[[], object]

WALL: Final = 1_760_000_000_000_000
AGENTS: Final = 8
COALESCE_SECONDS: Final = 0.006
"""More than writes wait after a delta, housekeeping's too, before they are sealed."""
KEYS: Final = 100
"""Registers written in turn: most writes of an agent replace what it wrote before."""


class Hall:
    """Agents on virtual time, in one room: every datagram arrives at once."""

    def __init__(self, agents: int) -> None:
        rng = random.Random(1)
        authority = Authority.generate(entropy=rng.randbytes(48))
        members = [
            authority.enrol(Identity.generate(rng.randbytes(32)), name=f"agent-{number}", may_write=["**"])
            for number in range(agents)
        ]
        self._time = 100.0
        self._addresses: list[Address] = [("127.0.0.1", 7000 + number) for number in range(agents)]
        self._inbox: deque[tuple[Address, Transmit]] = deque()
        self.peers = {
            address: Peer(
                PeerConfig(
                    membership=membership,
                    address=address,
                    birth=rng.getrandbits(32),
                    boot_id=rng.randbytes(16),
                    entropy=random.Random(address[1]).randbytes,
                    seeds=(self._addresses[0],) if address != self._addresses[0] else (),
                ),
                Restored(),
                random.Random(address[1]),
                self.now(),
            )
            for address, membership in zip(self._addresses, members, strict=True)
        }

    def now(self) -> Now:
        return Now(self._time, WALL + int(self._time * 1e6))

    def run(self, seconds: float) -> None:
        end = self._time + seconds
        while True:
            due = min(self.peers.values(), key=lambda peer: peer.deadline)
            if due.deadline > end:
                self._time = end + COALESCE_SECONDS  # so that the next write need not wait for company
                return
            self._time = max(self._time, due.deadline)
            self._turn(due, self._address_of(due))
            self.deliver()

    def deliver(self) -> None:
        """All that is on its way, and what that brings about."""
        while self._inbox:
            source, transmit = self._inbox.popleft()
            peer = self.peers.get(transmit.address)
            if peer is not None:
                peer.handle_untrusted(transmit.datagram, source, self.now())
                self._turn(peer, transmit.address)

    def write(self, address: Address, number: int) -> None:
        """One write, sealed and sent. The datagrams wait in the inbox."""
        peer = self.peers[address]
        path = ("robots", "r7", f"value-{number % KEYS:03}")
        peer.draft(type_named("register").code, path, number * 0.5, now=self.now())
        self._turn(peer, address)

    def take(self) -> tuple[Address, Transmit]:
        """The next datagram that waits."""
        return self._inbox.popleft()

    def settle(self, address: Address) -> None:
        """What a driver does after it has received."""
        self._turn(self.peers[address], address)

    def _turn(self, peer: Peer, address: Address) -> None:
        now = self.now()
        peer.tick(now)
        self._inbox.extend((address, transmit) for transmit in peer.transmits(now))
        peer.batch()
        peer.changes()
        peer.events()

    def _address_of(self, peer: Peer) -> Address:
        return next(address for address, other in self.peers.items() if other is peer)


def _met() -> Hall:
    hall = Hall(AGENTS)
    hall.run(20.0)
    first = next(iter(hall.peers.values()))
    if len(first.swim.alive()) != AGENTS - 1:
        raise AssertionError("the agents did not meet")
    return hall


def write_and_push() -> Iterator[Work]:
    """One local write: drafted, sealed, signed, and sent to seven others."""
    hall = _met()
    (author, *_) = hall.peers
    number = 0
    while True:
        number += 1
        yield partial(hall.write, author, number)
        hall.deliver()
        hall.run(0.2)


def receive_datagram() -> Iterator[Work]:
    """One datagram with a delta of one op: opened, read, verified, merged, and the turn after it."""
    hall = _met()
    (author, *_) = hall.peers
    number = 0
    while True:
        number += 1
        hall.write(author, number)
        source, transmit = hall.take()
        yield partial(_receive, hall, source, transmit)
        hall.deliver()
        hall.run(0.2)


def _receive(hall: Hall, source: Address, transmit: Transmit) -> None:
    hall.peers[transmit.address].handle_untrusted(transmit.datagram, source, hall.now())
    hall.settle(transmit.address)


def apply_delta() -> Iterator[Work]:
    """One signed delta of one op, from its bytes: read, verified, merged."""
    author = Author()
    replica = author.receiver()
    for raw in sealed_singles(author, random.Random(1)):
        yield partial(author.apply, replica, raw)


def apply_full_delta() -> Iterator[Work]:
    """One full delta of about 37 ops on new keys."""
    author = Author()
    rng = random.Random(1)
    for number in range(16_000):
        author.register(("robots", f"r{number // 30}", f"value-{number:05}"), rng.random(), number)
    replica = author.receiver()
    for delta in author.replica.seal():
        yield partial(author.apply, replica, delta_bytes(delta))


def build_delta() -> Iterator[Work]:
    """One write of a replica alone: drafted, sealed, signed."""
    author = Author()
    number = 0
    while True:
        number += 1
        yield partial(_build, author, number)


def _build(author: Author, number: int) -> None:
    author.register(("robots", "r7", f"value-{number % KEYS:03}"), number * 0.5, WALL + number)
    author.replica.seal()


def quiet_second() -> Iterator[Work]:
    """One second of eight agents that have nothing to say: probes, claims, digests, and all their answers."""
    hall = _met()
    while True:
        yield partial(hall.run, 1.0)


def append_entry() -> Iterator[Work]:
    """One entry of Agent-Raft, from its submission until three voters have stored and acknowledged it."""
    voters = _Voters(3)
    number = 0
    while True:
        number += 1
        yield partial(voters.submit, number)


class _Voters:
    """Three voters with disks that are done at once; signatures are real."""

    def __init__(self, count: int) -> None:
        rng = random.Random(1)
        self._identities = {
            identity.replica_id: identity for identity in (Identity.generate(rng.randbytes(32)) for _ in range(count))
        }
        self._time = 1.0
        self._inbox: deque[tuple[Voter, Voter, Message]] = deque()
        names = tuple(Voter(name) for name in sorted(self._identities))
        genesis = Genesis(1, Config(names), bytes(16), WALL)
        self._rafts = {
            name: Raft(name, self._keys(name), random.Random(name), RestoredVoter(genesis), self._now()) for name in names
        }
        while not any(raft.role is Role.LEADER for raft in self._rafts.values()):
            due = min(self._rafts.values(), key=lambda raft: raft.deadline)
            if due.deadline == inf:
                raise AssertionError("nobody wants to lead")
            self._time = max(self._time, due.deadline)
            self._carry_out(due, due.step(Tick(), self._now()))
            self._deliver()
        self._leader = next(raft for raft in self._rafts.values() if raft.role is Role.LEADER)

    def submit(self, number: int) -> None:
        committed = self._leader.commit
        entry = Entry(Kind.COMMAND, b"client", WALL, NAMED | number, b"robots/r7=%d" % number)
        self._carry_out(self._leader, self._leader.step(Submit(entry), self._now()))
        self._deliver()
        if self._leader.commit <= committed:
            raise AssertionError("an entry was not committed")

    def _deliver(self) -> None:
        while self._inbox:
            sender, to, message = self._inbox.popleft()
            self._carry_out(self._rafts[to], self._rafts[to].step(Received(sender, message), self._now()))

    def _carry_out(self, raft: Raft, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send | SendAtOnce):
                self._inbox.append((raft.me, effect.to, effect.message))
            elif isinstance(effect, Persist):
                self._carry_out(raft, raft.step(Persisted(effect.number), self._now()))

    def _now(self) -> Now:
        return Now(self._time, WALL + int(self._time * 1e6))

    def _keys(self, me: Voter) -> Keys:
        identity = self._identities[me]

        def verify(signer: Voter, purpose: Purpose, raw: bytes, signature: bytes) -> bool:
            return LIBSODIUM.verify(self._identities[signer].public_key, purpose.value + raw, signature)

        return Keys(
            hash=lambda raw: blake2b(raw, digest_size=16).digest(),
            sign=lambda purpose, raw: identity.sign(purpose.value + raw),
            verify=verify,
        )


PATHS: Final = (write_and_push, receive_datagram, apply_delta, apply_full_delta, build_delta, quiet_second, append_entry)
