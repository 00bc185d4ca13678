"""The smallest real gossip: a grow-only set of facts, pushed when new and compared with a random peer every 100 ms.

It exists so that the engine is tested by itself: its datagrams are readable, its timing is exact.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from mesh.effects import Address, Now, Transmit
from mesh.testing import Boot, Clock, Disk, Host, Link, World, host_address, stream

ROUND_SECONDS = 0.1


class Notebook:
    """The disk image: facts in the order of their commits."""

    def __init__(self, facts: Sequence[bytes] = ()) -> None:
        self.facts = list(facts)

    def apply(self, batch: list[bytes]) -> None:
        self.facts += batch

    def copy(self) -> Notebook:
        return Notebook(self.facts)

    def restored(self) -> list[bytes]:
        return list(self.facts)


class Toy:
    """PUSH = b"+" fact; OFFER = b"?" facts; the answer to an offer is a push of what it lacks."""

    unsettled: Now | None = None

    def __init__(self, boot: Boot, peers: Sequence[Address]) -> None:
        self.facts: set[bytes] = set(boot.restored or ())
        self.heard: list[tuple[float, bytes]] = []
        self.ticks = self.news = 0
        self._peers = [peer for peer in peers if peer != boot.address]
        self._rng: random.Random = boot.rng
        self._out: list[Transmit] = []
        self._new: list[bytes] = []
        self._changed: list[bytes] = []
        self._next_round = boot.now.monotonic + ROUND_SECONDS * self._rng.random() if peers else math.inf

    def may_rest(self) -> bool:
        return False

    def put_off(self, now: Now) -> bool:
        self.news += 1
        return False

    def came_at(self) -> Now | None:
        return self.unsettled

    def write(self, fact: bytes) -> None:
        self._add(fact)
        self._out += [Transmit(peer, b"+" + fact) for peer in self._peers]

    def _add(self, fact: bytes) -> None:
        if fact not in self.facts:
            self.facts.add(fact)
            self._new.append(fact)
            self._changed.append(fact)

    @property
    def deadline(self) -> float:
        return self._next_round

    def handle_untrusted(self, datagram: bytes, address: Address, now: Now) -> None:
        self.heard.append((now.monotonic, datagram))
        if datagram[:1] == b"+":
            self._add(datagram[1:])
        elif datagram[:1] == b"?":
            theirs = set(datagram[1:].split(b","))
            self._out += [Transmit(address, b"+" + fact) for fact in sorted(self.facts - theirs)]

    def push(self, now: Now) -> bool:
        return False

    def tick(self, now: Now) -> None:
        self.ticks += 1
        self._next_round = now.monotonic + ROUND_SECONDS
        if self._peers:
            self._out.append(Transmit(self._rng.choice(self._peers), b"?" + b",".join(sorted(self.facts))))

    def transmits(self, now: Now) -> list[Transmit]:
        out, self._out = self._out, []
        return out

    def events(self) -> list[str]:
        return []

    def changes(self) -> list[bytes]:
        changed, self._changed = self._changed, []
        return changed

    def batch(self) -> list[bytes] | None:
        new, self._new = self._new, []
        return new or None

    def urgent(self, now: Now) -> None:
        return None

    def urgent_written(self, now: Now) -> None:
        """There is nothing to get ready."""

    def urgent_committed(self, ticket: int, now: Now) -> bool:
        raise AssertionError("nothing was urgent")


def toy_world(hosts: int, *, seed: int = 1, link: Link | None = None, started: bool = True, quiet: bool = False) -> World[Toy]:
    """`quiet`: without rounds, so that only what the test does is on the wire."""
    world: World[Toy] = World(seed, link=link)
    addresses = [] if quiet else [host_address(number) for number in range(hosts)]
    for number in range(hosts):
        disk = Disk(Notebook, stream(seed, "disk", number), world.at)
        world.add_host(lambda boot: Toy(boot, addresses), disk=disk, clock=Clock(start=100.0 * number))
    if started:
        for host in world.hosts:
            host.start()
    return world


def core(host: Host[Toy]) -> Toy:
    assert host.core is not None
    return host.core


def write(host: Host[Toy], fact: bytes) -> None:
    core(host).write(fact)
    host.wake()


def facts(world: World[Toy]) -> list[set[bytes]]:
    return [core(host).facts for host in world.hosts if host.running]
