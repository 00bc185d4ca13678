"""What one replica may do, as far as the statements say: a plain value, computed from them by `Directory`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from crdt.ids import ShelfId, birth_of
from mesh.effects import Now
from mesh.trust.matching import PathPatterns
from mesh.trust.statements import Honoured, KeyId, StatementId, Terms

SECOND: int = 1_000_000
"""Microseconds, the unit of `Now.wall`; statements count seconds."""


class Admission(Enum):
    """Whether sessions with a replica may be open."""

    MEMBER = "member"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    """No statement speaks for it, or it redeemed an invite that is another's."""


class Verdict(Enum):
    """Whether a delta counts, by the rights and the place that it claims."""

    HONOURED = "honoured"
    VOID = "void"
    """Its ops count as dropped, on every replica that has these statements."""
    UNKNOWN = "unknown"
    """A statement that it refers to is not here: it may still come."""


class Grant(NamedTuple):
    """One credential, whether the authority made it directly or by way of an invite."""

    serial: int
    name: str
    terms: Terms
    patterns: PathPatterns
    statement: StatementId
    """The credential or the enrolment."""
    invite: KeyId | None
    """The invite's key, when there was one."""
    chosen_name: bool
    """The agent named itself: names given by the authority go first."""
    public_key: bytes = b""
    """What signs under this serial."""


class Narrowing(NamedTuple):
    """From `serial` on, deltas under older serials count only up to what `honoured` lists."""

    serial: int
    honoured: dict[int, int]
    """Last seq that counts, by birth."""

    @classmethod
    def of(cls, serial: int, honoured: Honoured) -> Narrowing:
        return cls(serial, dict(honoured))


@dataclass(frozen=True, slots=True)
class Standing:
    public_key: bytes
    """The newest: all that is signed from now on is signed with it."""
    grants: dict[int, Grant]
    """By serial. Older ones are needed to judge what was written under them."""
    narrowings: tuple[Narrowing, ...]
    newest: Grant
    revoked: bool
    """By a revocation newer than every grant."""
    imposed: tuple[int, ...] = ()
    """Serials of the narrowings that others made, not the replica itself: they end what it delegated before."""

    def honours(self, shelf: ShelfId, seq: int, serial: int) -> bool:
        """Whether delta `seq` of this replica's `shelf`, written under `serial`, counts."""
        if not self.narrowings:
            return True
        birth = birth_of(shelf)
        return all(seq <= each.honoured.get(birth, 0) for each in self.narrowings if each.serial > serial)

    @property
    def keys(self) -> list[bytes]:
        """All that this replica ever signed with, the newest first."""
        return list(dict.fromkeys(self.grants[serial].public_key for serial in sorted(self.grants, reverse=True)))

    @property
    def open_keys(self) -> list[bytes]:
        """The newest, and those that no narrowing has closed yet."""
        return [key for key in self.keys if key == self.public_key or self.open_serial(key) is not None]

    def may_sign(self, public_key: bytes, shelf: ShelfId, seq: int) -> bool:
        """Whether this key speaks for the replica there: the newest anywhere, an earlier one up to where it was closed.

        Until it is closed it speaks everywhere, so a rotation costs nothing that was written meanwhile.
        """
        if public_key == self.public_key:
            return True
        serials = [serial for serial, grant in self.grants.items() if grant.public_key == public_key]
        return bool(serials) and self.honours(shelf, seq, max(serials))

    def open_serial(self, public_key: bytes) -> int | None:
        """The newest serial under which this key may go on; None when it is closed or none of this replica's."""
        if public_key == self.public_key and not self.narrowings:  # nearly always, and asked at each write
            return self.newest.serial
        serials = [serial for serial, grant in self.grants.items() if grant.public_key == public_key]
        if not serials or any(each.serial > max(serials) for each in self.narrowings):
            return None
        return max(serials)

    def admission(self, now: Now) -> Admission:
        if self.revoked:
            return Admission.REVOKED
        expires = self.newest.terms.expires
        if expires is not None and now.wall >= expires * SECOND:
            return Admission.EXPIRED
        return Admission.MEMBER


class Before(NamedTuple):
    """What a statement may change that is worth telling."""

    chosen: bytes | None
    contested: bool
    charter: int
    key: bytes | None
