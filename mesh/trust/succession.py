"""Which keys are the authority's: a chain of handovers from the charter's key to the one that is in force.

A *handover* names the next key. The key in force signs it, or the recovery key, which the charter names and which is used for
nothing else. Of two that follow the same key the one by the recovery key counts, then the lowest (serial, id): so whoever stole
the key in force, or kept a copy of a former one, can be put out with the recovery key, whatever he signed meanwhile. (Without a
recovery key a former key that was not destroyed can contest its own handover.)

What a former key signed counts as far as the *roll* of the newest handover lists it: pages of hashes, which the handover names by
their own. Until all pages are here, all of it counts. So a stolen key makes nothing valid any more, not even with old serials.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from crdt.native import mypyc_attr
from mesh.trust.identity import key_id
from mesh.trust.statements import ROLL_HASH_BYTES, Charter, Handover, KeyId, Roll, Statement, StatementId
from mesh.wire import cose

SEAT_BYTES: Final = 16


class Seat(NamedTuple):
    """Who is the authority at one place of the chain."""

    id: bytes
    keys: dict[KeyId, bytes]
    recovery: bytes | None
    roll: tuple[bytes, ...] = ()
    threshold: int = 1
    """How many of the keys must sign."""

    def speaks(self, signers: Collection[KeyId]) -> bool:
        """Whether what these signed is the authority's word."""
        return len(signers) == self.threshold and all(each in self.keys for each in signers)


class Step(NamedTuple):
    statement: StatementId
    rank: tuple[bool, int, StatementId]
    seat: Seat


@mypyc_attr(allow_interpreted_subclasses=True)  # for copy.copy: an object without a call of __init__
class Succession:
    def __init__(self, charter: Charter) -> None:
        keys: dict[KeyId, bytes] = {key_id(key): key for key in charter.authorities}
        self.root = Seat(charter.mesh_id, keys, charter.recovery, threshold=charter.threshold)
        self._next: dict[bytes, Step] = {}
        """By the seat that hands over."""
        self._pages: dict[bytes, tuple[StatementId, Roll]] = {}

    def copy(self) -> Succession:
        other = copy.copy(self)
        other._next, other._pages = dict(self._next), dict(self._pages)
        return other

    def chain(self) -> list[Seat]:
        """The charter's seat first, the one in force last."""
        seats = [self.root]
        while (step := self._next.get(seats[-1].id)) is not None:
            seats.append(step.seat)
        return seats

    def steps(self) -> list[StatementId]:
        """The handovers in force, in order."""
        return [self._next[seat.id].statement for seat in self.chain()[:-1]]

    def keys(self) -> dict[KeyId, bytes]:
        """Of the whole chain, recovery keys too: whose signatures can be checked."""
        found: dict[KeyId, bytes] = {}
        for seat in self.chain():
            found.update(seat.keys)
            if seat.recovery is not None:
                found[key_id(seat.recovery)] = seat.recovery
        return found

    def may_hand_over(self, issuer: KeyId, handover: Handover) -> bytes | None:
        """The public key that must have signed it; None: the seat is not known, or that key has no such right."""
        seat = next((each for each in self.chain() if each.id == handover.previous), None)
        if seat is None:
            return None
        if seat.recovery is not None and issuer == key_id(seat.recovery):
            return seat.recovery
        if seat.threshold > 1:
            return None  # one of several keys hands nothing over: the recovery key replaces them all
        return seat.keys.get(issuer) if handover.recovery == seat.recovery else None

    def is_known(self, seat: bytes) -> bool:
        return any(each.id == seat for each in self.chain())

    def add_handover(self, statement: Statement, handover: Handover) -> tuple[list[StatementId], bool]:
        """Ids that leave the set for it, and whether another key is in force. Verified by the caller."""
        before = next(each for each in self.chain() if each.id == handover.previous)
        by_recovery = before.recovery is not None and statement.issuer == key_id(before.recovery)
        rank = (not by_recovery, handover.serial, statement.id)
        seat = Seat(seat_id(statement.raw), {key_id(handover.public_key): handover.public_key}, handover.recovery, handover.roll)
        former = self._next.get(handover.previous)
        if former is not None and former.rank <= rank:
            return [statement.id] if former.statement != statement.id else [], False
        gone = self._forget(handover.previous)
        self._next[handover.previous] = Step(statement.id, rank, seat)
        return gone, True

    def add_roll(self, statement: Statement, roll: Roll) -> bool:
        """Whether the roll in force is complete by it."""
        self._pages[page_id(roll)] = (statement.id, roll)
        return self.roll() is not None and page_id(roll) in self.chain()[-1].roll

    def wants(self, roll: Roll) -> bool:
        return any(page_id(roll) in seat.roll for seat in self.chain())

    def roll(self) -> frozenset[bytes] | None:
        """Hashes of what former keys signed and still counts; None while it is not complete: then all of it does."""
        wanted = self.chain()[-1].roll
        if not all(page in self._pages for page in wanted):
            return None
        return frozenset(each for page in wanted for each in self._pages[page][1].hashes)

    def counts(self, statement: Statement) -> bool:
        """Whether what is signed by a key of the chain is the authority's word today."""
        seats, signers = self.chain(), signers_of(statement)
        if seats[-1].speaks(signers):
            return True
        if not any(seat.speaks(signers) for seat in seats):
            return False
        roll = self.roll()
        return roll is None or roll_hash(statement.raw) in roll

    def _forget(self, seat: bytes) -> list[StatementId]:
        gone = []
        while (step := self._next.pop(seat, None)) is not None:
            gone.append(step.statement)
            seat = step.seat.id
        return gone


def seat_id(handover: bytes) -> bytes:
    return hashlib.blake2b(handover, digest_size=SEAT_BYTES, person=b"mesh authority").digest()


def signers_of(statement: Statement) -> tuple[KeyId, ...]:
    signed = statement.signed
    return tuple(kid for kid, _ in signed.signatures) if isinstance(signed, cose.Sign) else (statement.issuer,)


def roll_hash(statement: bytes) -> bytes:
    return hashlib.blake2b(cose.signed_part(statement), digest_size=ROLL_HASH_BYTES, person=b"mesh roll").digest()


def page_id(roll: Roll) -> bytes:
    return hashlib.blake2b(b"".join(roll.hashes), digest_size=ROLL_HASH_BYTES, person=b"mesh roll page").digest()


def pages_of(statements: Iterable[bytes], size: int) -> list[Roll]:
    """The roll that lists these, in pages."""
    hashes: Sequence[bytes] = sorted(map(roll_hash, statements))
    return [Roll(tuple(hashes[start : start + size])) for start in range(0, len(hashes), size)]
