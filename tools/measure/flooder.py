"""A process that floods one agent: as an outsider, or as a member with a session. It obeys lines on standard input:

flood KIND RATE SECONDS     datagrams a second, 0: as many as it can; answers what it sent and what came back
leave
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, Final

from crdt.ids import ReplicaId, ShelfId
from crdt.types import type_named
from mesh.effects import Address, Now
from mesh.sync.buckets import BUCKET_HASH_BYTES, BUCKETS
from mesh.sync.messages import Digest, Floor, WantListing
from mesh.testing.apart import replica_apart
from mesh.trust import Directory, Membership
from mesh.trust.files import load_membership
from mesh.wire import cbor, cose
from mesh.wire.delta import delta_bytes
from mesh.wire.frames import Frame
from mesh.wire.handshake import Init, encode_init, mesh_tag
from mesh.wire.packer import encode_frame
from mesh.wire.session import DATA
from mesh.wire.transport import SessionOpened, Transport
from tools.fleet import add_arguments
from tools.measure.notebook import say

OUTSIDER: Final = ("garbage", "init", "replay")
MEMBER: Final = ("deltas", "digests", "statements", "listings")
KEYS: Final = 64
"""That the deltas write, over and over: memory that they take must not grow with their number."""
TICK_SECONDS: Final = 0.001
AT_ONCE_MAX: Final = 256
HANDSHAKE_SECONDS: Final = 10.0
RECORDED: Final = 512
"""Datagrams that are replayed, all of them opened by the victim once."""


class Flooder:
    def __init__(self, membership: Membership, target: Address) -> None:
        self._membership, self._target = membership, target
        self._rng = random.Random(1)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._transport: Transport | None = None
        self._victim = ReplicaId(bytes(8))
        self._shelf = ShelfId(bytes(12))

    # ---- a member's session

    def _connect(self) -> None:
        """Shake hands with the victim, as any member does."""
        directory = Directory(self._membership.charter)
        directory.restore(self._membership.statements)
        transport = self._transport = Transport(
            identity=self._membership.identity,
            mesh_id=self._membership.mesh_id,
            boot_id=os.urandom(16),
            credential=self._membership.presentation,
            admit=directory.admit,
            rng=self._rng,
            entropy=os.urandom,
        )
        transport.contact(self._target, _now())
        end = time.monotonic() + HANDSHAKE_SECONDS
        while time.monotonic() < end:
            transport.tick(_now())
            for transmit in transport.flush(_now()):
                self._socket.sendto(transmit.datagram, transmit.address)
            for datagram, address in self._arrived():
                transport.receive_untrusted(datagram, address, _now())
            for event in transport.take_events():
                if isinstance(event, SessionOpened):
                    self._victim = event.peer
                    return
            time.sleep(TICK_SECONDS)
        raise SystemExit("the victim opens no session")

    def _seal(self, kind: Frame, payload: bytes) -> bytes:
        """Reaches into the transport, whose budgets are made for honest members."""
        if self._transport is None:
            self._connect()
        assert self._transport is not None
        return self._transport._peers.by_id[self._victim].sessions[0].session.seal(encode_frame(kind, payload))

    def _arrived(self) -> Iterator[tuple[bytes, Address]]:
        while True:
            try:
                yield self._socket.recvfrom(2048)
            except OSError:
                return

    # ---- what is thrown

    def source(self, kind: str) -> Callable[[], bytes]:
        rng, membership = self._rng, self._membership
        match kind:
            case "garbage":
                body = rng.randbytes(1_100)
                return lambda: bytes((DATA,)) + rng.randbytes(8) + body[: rng.choice((40, 200, 1_000))]
            case "init":
                tag = mesh_tag(membership.mesh_id)
                return lambda: encode_init(tag, Init(rng.randbytes(16), rng.randbytes(32)))
            case "replay":
                recorded = [self._seal(Frame.NACK, cbor.encode([number])) for number in range(RECORDED)]
                for datagram in recorded:
                    self._socket.sendto(datagram, self._target)
                    time.sleep(TICK_SECONDS)
                return cycle(recorded).__next__
            case "deltas":
                return self._deltas()
            case "digests":
                nothing = Floor(ShelfId(bytes(12)), 0, b"")
                ask = Digest(True, nothing, bytes(8), bytes(BUCKETS * BUCKET_HASH_BYTES), ()).encode()
                return lambda: self._seal(Frame.DIGEST, ask)
            case "statements":
                charter = cose.open1_untrusted(membership.charter)
                forged = charter._replace(payload=bytes(300))
                return lambda: self._seal(Frame.TRUST, _forged_statement(forged, rng))
            case "listings":
                deltas = self._deltas()
                for _ in range(200):
                    self._socket.sendto(deltas(), self._target)
                    time.sleep(TICK_SECONDS)
                return lambda: self._seal(Frame.WANT_LISTING, WantListing(self._shelf, rng.randrange(150), 0, 0).encode())
            case "outsider" | "member":
                turn = cycle([self.source(each) for each in (OUTSIDER if kind == "outsider" else MEMBER)])
                return lambda: next(turn)()
        raise SystemExit(f"there is no flood of {kind}")

    def _deltas(self) -> Callable[[], bytes]:
        """New, signed and within its rights, each overwriting one of a few keys."""
        directory = Directory(self._membership.charter)
        directory.restore(self._membership.statements)
        replica = replica_apart(self._membership.identity, directory, self._rng.getrandbits(32))
        self._shelf = replica.shelf
        register, numbers = type_named("register").code, iter(range(1 << 40))

        def next_delta() -> bytes:
            number = next(numbers)
            delta = replica.write(register, ("flood", str(number % KEYS)), number, now_wall=time.time_ns() // 1000)
            replica.take_changes()
            replica.take_journal()
            return self._seal(Frame.DELTA, delta_bytes(delta))

        return next_delta

    # ---- the flood

    def flood(self, kind: str, rate: float, seconds: float) -> dict[str, Any]:
        make = self.source(kind)
        sent = bytes_out = bytes_in = refused = 0
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < seconds:
            due = AT_ONCE_MAX if not rate else min(int(rate * elapsed) - sent, AT_ONCE_MAX)
            for _ in range(due):
                datagram = make()
                try:
                    self._socket.sendto(datagram, self._target)
                except OSError:
                    refused += 1
                    continue
                sent += 1
                bytes_out += len(datagram)
            bytes_in += sum(len(datagram) for datagram, _ in self._arrived())
            if rate and due < AT_ONCE_MAX:
                time.sleep(TICK_SECONDS)
        elapsed = time.monotonic() - start
        return {"sent": sent, "refused": refused, "seconds": elapsed, "bytes_out": bytes_out, "bytes_back": bytes_in}


def _forged_statement(forged: cose.Sign1, rng: random.Random) -> bytes:
    """Of the authority, as its kid says; each another one, so that each is verified."""
    serial = rng.randrange(1 << 60) + 1
    payload = cbor.encode([1, 5, serial, bytes(8), ()])
    return cose.assemble(forged._replace(payload=payload, signature=rng.randbytes(64)))


def _now() -> Now:
    return Now(time.monotonic(), time.time_ns() // 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--target", required=True, help="host:port of the agent to flood.")
    arguments = parser.parse_args()
    host, _, port = arguments.target.rpartition(":")
    flooder = Flooder(load_membership(arguments.dir), (host, int(port)))
    say({"ready": arguments.name})
    for line in sys.stdin:
        match line.split():
            case ["flood", kind, rate, seconds]:
                say({"flooded": flooder.flood(kind, float(rate), float(seconds))})
            case ["leave"]:
                return


if __name__ == "__main__":
    main()
