"""Measurements of one core: applying deltas, their size. In this process, no sockets."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import crdt
from crdt.digest import SetHash
from crdt.ids import shelf_id
from crdt.types import type_named
from crdt.types.local import Local
from mesh.effects import Now
from mesh.trust import Authority, Directory, Identity
from mesh.trust.identity import key_id
from mesh.wire import cbor
from mesh.wire.delta import BODY_BYTES_MAX, delta_bytes, delta_from_bytes_untrusted, sign_header, verify_delta
from mesh.wire.frames import Frame, Lane
from mesh.wire.handshake import Init, encode_init, mesh_tag
from mesh.wire.transport import Transport
from tools.garbage import THRESHOLDS

Figures = dict[str, Any]
PATH_TWENTY = ("robots", "r7", "battery_v")
"""20 bytes as a user writes it: robots/r7/battery_v."""


class Author:
    """A replica whose deltas are signed and written under a real credential."""

    def __init__(self) -> None:
        authority = Authority.generate()
        membership = authority.enrol(Identity.generate(), name="author", may_write=["**"])
        self.identity = membership.identity
        self.directory = Directory(membership.charter)
        self.directory.restore(membership.statements)
        self.replica = self._replica(1)
        rights = self.directory.rights(self.identity.replica_id)
        assert rights is not None
        self.replica.rights = rights

    def _replica(self, birth: int) -> Local:
        mesh_id = self.directory.mesh_id
        return Local(
            shelf_id(self.identity.replica_id, birth),
            sign=lambda header: sign_header(self.identity.sign, header, mesh_id),
            encode=cbor.encode,
            decode=cbor.decode_untrusted,
            void_ops=self.directory.void_ops,
            body_bytes_max=BODY_BYTES_MAX,
        )

    def receiver(self) -> Local:
        return self._replica(2)

    def register(self, path: tuple[str, ...], value: float, wall: int) -> None:
        self.replica.draft(type_named("register").code, path, value, now_wall=wall)

    def apply(self, replica: crdt.Replica, raw: bytes) -> None:
        """What a node does with a delta that came: read, verify, merge."""
        delta = delta_from_bytes_untrusted(raw)
        if not verify_delta(delta, self.identity.public_key, self.directory.mesh_id):
            raise AssertionError("a genuine delta did not verify")
        replica.receive(delta)


def _timed(author: Author, raws: Sequence[bytes], rounds: int) -> list[float]:
    """Seconds per round; each round starts from an empty replica and ends with its digest up to date."""
    seconds = []
    thresholds = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)  # as in an agent
    gc.collect()
    gc.freeze()  # what the author holds is here for the measurement only: a receiver's collector would not walk it
    for _ in range(rounds):
        gc.collect()
        replica = author.receiver()
        start = time.process_time()  # of one core, whatever else the machine does
        for raw in raws:
            author.apply(replica, raw)
        replica.digest(author.replica.shelf)
        seconds.append(time.process_time() - start)
        replica.take_changes()
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    return seconds


def apply_rates(rounds: int = 5) -> Figures:
    """Deltas of one op, then full deltas: read from bytes, verified and merged per second, on one core."""
    rng = random.Random(1)
    single, full = Author(), Author()
    for number in range(30_000):
        full.register(("robots", f"r{number // 30}", f"value-{number:05}"), rng.random(), number)
    singles, fulls = sealed_singles(single, rng), [delta_bytes(delta) for delta in full.replica.seal()]
    ops = sum(len(delta_from_bytes_untrusted(raw).ops) for raw in fulls)
    one, many = sorted(_timed(single, singles, rounds)), sorted(_timed(full, fulls, rounds))
    return {
        "single_op_deltas_per_second": round(len(singles) / one[rounds // 2]),
        "ops_in_full_deltas_per_second": round(ops / many[rounds // 2]),
        "ops_per_full_delta": round(ops / len(fulls), 1),
        "rounds": rounds,
    }


def sealed_singles(author: Author, rng: random.Random) -> list[bytes]:
    """3,000 deltas of one op over 500 keys, as they go over the wire."""
    raws = []
    for number in range(3000):
        author.register((*PATH_TWENTY[:2], f"value-{number % 500}"), rng.random(), 10_000 + number)
        raws += [delta_bytes(delta) for delta in author.replica.seal()]
    return raws


def costs(repeats: int = 20_000) -> Figures:
    """Microseconds of what a node does most often, and of what strangers can make it do."""
    rng = random.Random(1)
    hashes, mesh_id = SetHash(), rng.randbytes(16)
    identity = Identity.generate(rng.randbytes(32))
    transport = Transport(
        identity=identity,
        mesh_id=mesh_id,
        boot_id=rng.randbytes(16),
        credential=b"",
        admit=lambda _key, _credential, _now: None,
        rng=rng,
        entropy=rng.randbytes,
    )
    shelf, body_hash, now = shelf_id(identity.replica_id, 1), rng.randbytes(16), Now(1.0, 1)
    garbage = b"\x01" + rng.randbytes(1000)
    source = ("127.0.0.1", 9)
    init = encode_init(mesh_tag(mesh_id), Init(rng.randbytes(16), rng.randbytes(32)))
    member = Identity.generate(rng.randbytes(32))
    transport.route(member.replica_id, member.public_key, source)
    borrowed = encode_init(mesh_tag(mesh_id), Init(rng.randbytes(16), member.public_key)) + rng.randbytes(300)
    replayed, forged, victim = _recorded(rng)
    seconds = count(1)

    def answer() -> None:
        transport.receive_untrusted(init, source, now)
        transport.flush(now)

    def answer_a_member() -> None:
        """What it says is sealed is garbage; looked at as often as the rate allows."""
        later = Now(float(next(seconds)), 1)
        transport.receive_untrusted(borrowed, source, later)
        transport.flush(later)

    return {
        "digest_one_body_us": microseconds(lambda: hashes.add(1, shelf, 1, body_hash, 1), repeats),
        "garbage_from_outside_us": microseconds(lambda: transport.receive_untrusted(garbage, source, now), repeats),
        "init_from_outside_and_its_cookie_us": microseconds(answer, repeats),
        "init_with_forged_deltas_in_a_members_name_us": microseconds(answer_a_member, repeats),
        "replayed_datagram_us": microseconds(lambda: victim.receive_untrusted(replayed, source, now), repeats),
        "live_tag_forged_content_us": microseconds(lambda: victim.receive_untrusted(forged, source, now), repeats),
    }


def _recorded(rng: random.Random) -> tuple[bytes, bytes, Transport]:
    """A datagram that was opened before, one with its tag and another content, and who opened it."""
    mesh_id, now = rng.randbytes(16), Now(1.0, 1)

    def side() -> Transport:
        return Transport(
            identity=Identity.generate(rng.randbytes(32)),
            mesh_id=mesh_id,
            boot_id=rng.randbytes(16),
            credential=b"",
            admit=lambda key, _credential, _now: key_id(key),
            rng=rng,
            entropy=rng.randbytes,
        )

    here, there = side(), side()
    places = {("127.0.0.1", 1): here, ("127.0.0.1", 2): there}
    here.contact(("127.0.0.1", 2), now)
    for _ in range(4):
        for address, each in places.items():
            for transmit in each.flush(now):
                places[transmit.address].receive_untrusted(transmit.datagram, address, now)
    (opened,) = here._peers
    here.send(opened.replica, Lane.FRESH, Frame.DELTA, rng.randbytes(300))
    (transmit,) = here.flush(now)
    there.receive_untrusted(transmit.datagram, ("127.0.0.1", 1), now)
    forged = transmit.datagram[:9] + (1 << 20).to_bytes(6, "big") + rng.randbytes(300)
    return transmit.datagram, forged, there


def microseconds(call: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        call()
    return round((time.process_time() - start) / repeats * 1e6, 2)


def delta_size() -> Figures:
    """Bytes of a signed delta with a 20-byte path and a float, alone and per op of a full delta."""
    author = Author()
    wall = 1_770_000_000_000_000
    for number in range(1000):
        author.register((*PATH_TWENTY[:2], f"warm-{number}"), 0.5, wall + number)
        author.replica.seal()
    author.register(PATH_TWENTY, 23.71, wall + 10_000)
    (alone,) = author.replica.seal()
    for number in range(300):
        author.register((*PATH_TWENTY[:2], f"batt_{number:03}"), 23.71 + number, wall + 20_000 + number)
    full = author.replica.seal()[0]
    return {
        "alone_bytes": len(delta_bytes(alone)),
        "per_op_in_full_delta_bytes": round(len(delta_bytes(full)) / len(full.ops), 1),
        "ops_in_full_delta": len(full.ops),
    }
