"""Proof that a block is committed, for anyone who knows the voters: signed acknowledgements of a quorum.

A voter signs `ACK{epoch, block hash}` when it has stored a block of its leader's own term (`replication.may_sign_ack`). It signs
the newest block of what it stored at once, so an acknowledgement may be for a descendant of the block in question; then the
headers between go along; it may be of a later term than the block, for what is committed commits all before it, but all
acknowledgements must be for one term: of different terms they add up to nothing (paper 5.4.2). The configuration that decides is
the one before the block, so a change of voters is certified by the set that it ends, and a `Trail` of such blocks leads from the
genesis to today's voters.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from consensus_escalation.block import Block, Header, config_of, header_from_bytes_untrusted
from consensus_escalation.log import Log
from consensus_escalation.quorum import CONFIG_SIZE_MAX, Config, has_quorum
from consensus_escalation.types import Keys, Purpose, Voter
from crdt.errors import Malformed

HEADERS_MAX: Final = 512
"""Headers in a certificate, about 120 bytes each: two windows. Nearly all have one or two."""
ACKS_HELD_MAX: Final = 1024
"""Of one voter, at the leader: four windows."""


class Ack(NamedTuple):
    voter: Voter
    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    signature: bytes


class Certificate(NamedTuple):
    headers: tuple[bytes, ...]
    """Of the certified block, then of its descendants up to the furthest one that was acknowledged."""
    acks: tuple[Ack, ...]
    """Sorted by voter, each once."""


class NotCertified(ValueError):
    """It proves nothing; says why."""


def ack_bytes(epoch: int, block_hash: bytes) -> bytes:
    return epoch.to_bytes(8, "big") + block_hash


def verify_certificate_untrusted(certificate: Certificate, config: Config, epoch: int, keys: Keys) -> Header:
    """The header of the certified block, under `config`, which the caller knows to be the one before it. Raises NotCertified."""
    if not 1 <= len(certificate.headers) <= HEADERS_MAX or len(certificate.acks) > 2 * CONFIG_SIZE_MAX:
        raise NotCertified("too many headers or acknowledgements")
    try:
        headers = [header_from_bytes_untrusted(raw, keys) for raw in certificate.headers]
    except Malformed as error:
        raise NotCertified(str(error)) from error
    hashes = [keys.hash(raw) for raw in certificate.headers]
    first = headers[0]
    if first.epoch != epoch:
        raise NotCertified("of another epoch")
    for (before, header), digest in zip(pairwise(headers), hashes, strict=False):
        if header.prev != digest or header.index != before.index + 1 or header.epoch != epoch:
            raise NotCertified("headers do not follow on each other")
    if [ack.voter for ack in certificate.acks] != sorted({ack.voter for ack in certificate.acks}):
        raise NotCertified("acknowledgements are sorted, one of each voter")
    electorate = config.electorate
    for ack in certificate.acks:
        if ack.voter not in electorate or not 0 <= ack.index - first.index < len(hashes):
            raise NotCertified("an acknowledgement that does not count")
        if headers[ack.index - first.index].term != headers[-1].term:
            raise NotCertified("acknowledgements of different terms")
        if not keys.verify(ack.voter, Purpose.ACK, ack_bytes(epoch, hashes[ack.index - first.index]), ack.signature):
            raise NotCertified("a signature is wrong")
    if not has_quorum(config, {ack.voter for ack in certificate.acks}):
        raise NotCertified("no quorum")
    return first


class Trail:
    """From the genesis to the voters of today, each step certified by those before it."""

    def __init__(self, genesis: Config, epoch: int, keys: Keys) -> None:
        self._epoch, self._keys = epoch, keys
        self._configs: dict[int, Config] = {0: genesis}

    @property
    def newest(self) -> tuple[int, Config]:
        return max(self._configs.items())

    def knows(self, config_index: int) -> bool:
        return config_index in self._configs

    def verify_untrusted(self, certificate: Certificate) -> Header:
        """Raises NotCertified, also when the configuration that decides is not known yet."""
        if not certificate.headers:
            raise NotCertified("empty")
        try:
            named = header_from_bytes_untrusted(certificate.headers[0], self._keys).config_index
        except Malformed as error:
            raise NotCertified(str(error)) from error
        config = self._configs.get(named)
        if config is None:
            raise NotCertified(f"the voters of block {named} are not known")
        header = verify_certificate_untrusted(certificate, config, self._epoch, self._keys)
        if any(named < index < header.index for index in self._configs):
            raise NotCertified("names a configuration that had ended")
        return header

    def extend_untrusted(self, block: Block, certificate: Certificate) -> None:
        """A certified change of voters. Raises NotCertified."""
        header = self.verify_untrusted(certificate)
        try:
            config = config_of(block, self._keys)
        except Malformed as error:
            raise NotCertified(str(error)) from error
        if config is None or self._keys.hash(certificate.headers[0]) != block.hash:
            raise NotCertified("certifies no change of voters")
        self._configs[header.index] = config


class Collector:
    """The leader's: acknowledgements of its term, and certificates out of them."""

    def __init__(self, epoch: int, keys: Keys) -> None:
        self._epoch, self._keys = epoch, keys
        self._acks: dict[Voter, list[tuple[int, bytes]]] = {}
        self._wanted: list[int] = []

    def add(self, voter: Voter, index: int, signature: bytes) -> None:
        held = self._acks.setdefault(voter, [])
        place = bisect_left(held, (index, b""))
        if signature and (place == len(held) or held[place][0] != index):
            held.insert(place, (index, signature))
            del held[:-ACKS_HELD_MAX]

    def committed(self, indexes: list[int]) -> None:
        """These need a certificate each; the newest stands for the blocks between."""
        self._wanted = [*self._wanted[-ACKS_HELD_MAX:], *indexes]

    @property
    def wants(self) -> bool:
        """Whether `take` has something to look for."""
        return bool(self._wanted)

    def take(self, log: Log, is_needed: Callable[[int], bool]) -> list[Certificate]:
        """What can be certified now. A wanted block whose proof is overtaken by a later one is given up unless `is_needed`."""
        found: list[Certificate] = []
        left: list[int] = []
        for index in reversed(self._wanted):
            if index <= log.base.index or (found and not is_needed(index)):
                continue  # cut off meanwhile, or proven by what follows
            certificate = self._certify(index, log)
            if certificate is None:
                if self._is_possible(index, log):
                    left.insert(0, index)
            else:
                found.insert(0, certificate)
        if found:
            self._forget(min([*left, log.last_index + 1]))
        self._wanted = left
        return found

    def _is_possible(self, index: int, log: Log) -> bool:
        """Whether those to whom the log goes, and those who acknowledged it before they left, could prove it. Of a change by
        voters who have left since, a former leader made the proof, or nobody can."""
        there = {*log.config.everyone, *(voter for voter, held in self._acks.items() if held and held[-1][0] >= index)}
        return has_quorum(log.config_before(index)[1], there)

    def _forget(self, below: int) -> None:
        for held in self._acks.values():
            del held[: max(0, bisect_left(held, (below, b"")) - 1)]

    def _certify(self, index: int, log: Log) -> Certificate | None:
        config, acks = log.config_before(index)[1], []
        for voter in config.electorate:
            held = self._acks.get(voter, [])
            place = bisect_left(held, (index, b""))
            if place < len(held) and held[place][0] - index < HEADERS_MAX:
                acks.append(Ack(voter, *held[place]))
        acks.sort(key=lambda ack: ack.index)  # near ones first: fewer headers
        chosen: list[Ack] = []
        for ack in acks:
            if has_quorum(config, {one.voter for one in chosen}):
                break
            digest = log.hash_at(ack.index)
            if digest and self._keys.verify(ack.voter, Purpose.ACK, ack_bytes(self._epoch, digest), ack.signature):
                chosen.append(ack)
        if not has_quorum(config, {one.voter for one in chosen}):
            return None
        furthest = max(ack.index for ack in chosen)
        headers = tuple([block.header_bytes for block in log.between(index, furthest)])
        return Certificate(headers, tuple(sorted(chosen)))
