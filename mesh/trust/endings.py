"""What ends shelves: proofs of forking, and cuts. Both are statements of the one set, so they reach everybody, and stay.

    cut    [format, 6, serial, replica id, host]       by the authority: nothing more of this replica is taken, `host` takes over
    fork   [format, 9, signed header, signed header]   by the author itself, who signed two headers that cannot both be its own

A proof of forking needs no issuer: whoever has the two headers makes the same bytes of them, under 400. Of several proofs about
one shelf the one with the lowest id is kept, and of one replica at most `FORKS_MAX` and one more: who has forked more often than
that is ended as a whole, so nobody can fill the set with proofs against itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from crdt.delta import Head, is_fork
from crdt.ids import REPLICA_ID_BYTES, ReplicaId, ShelfId, replica_of
from mesh.errors import Malformed, Refused
from mesh.wire import cbor
from mesh.wire.cose import open1_untrusted
from mesh.wire.delta import Verify, head_bytes, head_from_parts_untrusted, verify_header

FORKS_MAX: Final = 8
"""Forked shelves of one replica that are ended one by one. Guess: a machine that is cloned running more often than that is not
looked after."""
FORK: Final = 9
"""Kind of the statement."""


class Cut(NamedTuple):
    serial: int
    subject: ReplicaId
    host: ReplicaId
    """Takes over what members hold of it."""


class Fork(NamedTuple):
    """Two headers of one shelf by its author, in the order of their bytes."""

    one: Head
    other: Head

    @property
    def shelf(self) -> ShelfId:
        return self.one.header.shelf


def fork_bytes(form: int, one: Head, other: Head) -> bytes:
    """The statement that these two prove. The same whoever makes it."""
    heads = sorted((head_bytes(one), head_bytes(other)))
    return cbor.encode([form, FORK, *heads])


def fork_untrusted(fields: tuple[Any, ...]) -> Fork:
    """Raises Malformed, also where the two headers prove nothing."""
    if len(fields) != 2 or not all(type(each) is bytes for each in fields) or fields[0] >= fields[1]:
        raise Malformed("a proof of forking holds two signed headers, in order")
    one, other = (_head_untrusted(each) for each in fields)
    if not is_fork(one, other):
        raise Malformed("two headers that can both be their author's prove no fork")
    return Fork(one, other)


def _head_untrusted(raw: bytes) -> Head:
    signed = open1_untrusted(raw)
    shelf = signed.kid + _birth_untrusted(signed.payload)
    return head_from_parts_untrusted(ShelfId(shelf), signed.payload, signed.signature)


def _birth_untrusted(header: bytes) -> bytes:
    fields = cbor.decode_untrusted(header)
    birth = fields[1] if isinstance(fields, tuple) and len(fields) > 1 else None
    if type(birth) is not int or not 0 <= birth < 1 << 32:
        raise Malformed("a signed header names its birth")
    return birth.to_bytes(4, "big")


def is_signed(fork: Fork, keys: Sequence[bytes], mesh_id: bytes, verify: Verify) -> bool:
    """Whether both headers are by one of the author's keys; False when none is known yet. Raises Refused."""
    for head in (fork.one, fork.other) if keys else ():
        if not any(verify_header(head.header_bytes, head.signature, key, mesh_id, verify) for key in keys):
            raise Refused("not signed by the author whose fork it is said to prove")
    return bool(keys)


class Endings:
    """What follows from all cuts and proofs of the set. A function of them, never of their order."""

    def __init__(self) -> None:
        self.cuts: dict[ReplicaId, dict[bytes, Cut]] = {}
        """By replica, then by the id of the statement."""
        self.forks: dict[ReplicaId, dict[bytes, ShelfId]] = {}
        """By replica, then by the id of the proof."""

    def copy(self) -> Endings:
        other = Endings()
        other.cuts = {replica: dict(cuts) for replica, cuts in self.cuts.items()}
        other.forks = {replica: dict(proofs) for replica, proofs in self.forks.items()}
        return other

    def add_cut(self, identifier: bytes, cut: Cut) -> None:
        self.cuts.setdefault(cut.subject, {})[identifier] = cut

    def add_fork(self, identifier: bytes, fork: Fork) -> list[bytes]:
        """Ids that leave the set for it, its own when it adds nothing."""
        proofs = self.forks.setdefault(replica_of(fork.shelf), {})
        proofs[identifier] = fork.shelf
        kept: dict[ShelfId, bytes] = {}
        for each in sorted(proofs):
            if len(kept) <= FORKS_MAX:
                kept.setdefault(proofs[each], each)
        gone = [each for each in proofs if kept.get(proofs[each]) != each]
        for each in gone:
            del proofs[each]
        return gone

    def is_cut(self, replica: ReplicaId) -> bool:
        return replica in self.cuts

    def forked(self) -> list[ShelfId]:
        """Shelves that are proved to have forked, ascending."""
        return sorted(shelf for proofs in self.forks.values() for shelf in proofs.values())

    def ended_replicas(self) -> list[ReplicaId]:
        """Cut, or forked too often. Ascending."""
        often = (replica for replica, proofs in self.forks.items() if len(proofs) > FORKS_MAX)
        return sorted({*self.cuts, *often})

    def host(self, replica: ReplicaId) -> ReplicaId | None:
        """Who takes over: by the newest cut; where that host was cut itself, by the cut of that one."""
        seen: set[ReplicaId] = set()
        while replica in self.cuts and replica not in seen:
            seen.add(replica)
            cuts = self.cuts[replica]
            replica = cuts[max(cuts, key=lambda each: (cuts[each].serial, each))].host
        return replica if seen and replica not in seen else None

    def may_host(self, replica: ReplicaId, host: ReplicaId) -> bool:
        """Whether some cut, the newest or an earlier one, or the cut of a host, lets `host` speak for `replica`: what it did
        stays, whatever is decided later."""
        found, growing = {replica}, [replica]
        while growing:
            hosts = {cut.host for cut in self.cuts.get(growing.pop(), {}).values()} - found
            found |= hosts
            growing += sorted(hosts)
        return host != replica and host in found

    def hosts_of(self, replica: ReplicaId) -> list[ReplicaId]:
        return sorted({cut.host for cut in self.cuts.get(replica, {}).values()})

    def hosted_by(self, host: ReplicaId) -> list[ReplicaId]:
        """The replicas that `host` is to take over now, ascending."""
        return [replica for replica in sorted(self.cuts) if self.host(replica) == host]


def cut_untrusted(fields: Iterable[Any]) -> Cut:
    """Raises Malformed."""
    serial, subject, host = fields
    if type(subject) is not bytes or type(host) is not bytes or len(subject) != REPLICA_ID_BYTES or len(host) != len(subject):
        raise Malformed("a cut names two replicas")
    if subject == host:
        raise Malformed("a replica that is cut cannot take over")
    return Cut(serial, ReplicaId(subject), ReplicaId(host))
