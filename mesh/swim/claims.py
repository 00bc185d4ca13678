"""Claims: the signed sentences that membership is made of, and which of two counts.

    Alive       by the subject     I live here, under this incarnation and birth. Also joins, moves, renames and refutes.
    Left        by the subject     I am gone, on purpose.
    Accusation  by the accuser     I asked this incarnation of the subject, and others asked for me, and no answer came.

Nobody says "dead": that is what a replica concludes from accusations that stay unanswered (`mesh.swim.suspicion`). So nothing
that one member signs can bury another, and what several sign only starts a clock that one word of the subject stops.

A claim is about one *incarnation* of its subject, a number that only the subject raises. An accusation counts only against
exactly the incarnation that we know, as signed by the subject itself: a liar can neither raise it nor accuse the future. To
refute, the subject says Alive with the accusation's incarnation plus one and names the accusation (`over`).

On the wire a claim is the CBOR array [body, signature], the body being a CBOR array by position, its first item the kind.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from enum import Enum, IntEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias

from crdt.ids import REPLICA_ID_BYTES, ReplicaId
from mesh.effects import Address
from mesh.errors import ConfigError, Malformed
from mesh.wire.cbor import decode_untrusted, encode

PURPOSE_CLAIM: Final = b"swim claim"
"""What a claim's signature is for."""
PURPOSE_VOUCH: Final = b"swim vouch"
"""What the signature of a member is for that was pinged on behalf of another one."""

NAME_BYTES_MAX: Final = 64
META_BYTES_MAX: Final = 128
HOST_BYTES_MAX: Final = 45  # an IPv6 address in its longest form
INCARNATION_MAX: Final = 0xFFFF_FFFF
BIRTH_MAX: Final = 0xFFFF_FFFF
CLAIM_ID_BYTES: Final = 8
SIGNATURE_BYTES: Final = 64
CLAIM_BYTES_MAX: Final = 420
"""Largest frame payload of a claim: 64 of signature, names and metadata at their limits, and some air."""


class Reason(IntEnum):
    """What the accuser saw."""

    SILENT = 0
    REFUSED = 1
    """The machine answered that no process listens there (ICMP port unreachable). Unauthenticated, so it only hastens."""


class Alive(NamedTuple):
    subject: ReplicaId
    incarnation: int
    birth: int
    """Of the shelf that this start of the subject writes: two starts of one identity differ in it."""
    address: Address
    name: str
    meta: bytes
    """The user's own few bytes about the member."""
    over: bytes
    """Id of the claim that this one answers: an accusation, or another start's claim. Empty when there is none."""


class Left(NamedTuple):
    subject: ReplicaId
    incarnation: int
    birth: int


class Accusation(NamedTuple):
    subject: ReplicaId
    incarnation: int
    accuser: ReplicaId
    standing: int
    """The accuser's own incarnation. Once it had to refute something itself, it was ill or cut off when it said this."""
    reason: Reason


Claim: TypeAlias = Alive | Left | Accusation


CLAIMS_READ_MAX: Final = 4096
"""Claims remembered as they were read, about 2 MB. Guess: the members of a large mesh."""


class Signed(NamedTuple):
    """A claim as it travels; whether the signature holds is checked by `verified`, once, when the claim would change
    something.
    """

    claim: Claim
    raw: bytes
    body: bytes
    signature: bytes

    @property
    def id(self) -> bytes:
        """Names this claim for ever."""
        return blake2b(self.body, digest_size=CLAIM_ID_BYTES).digest()

    @property
    def signer(self) -> ReplicaId:
        claim = self.claim
        return claim.accuser if isinstance(claim, Accusation) else claim.subject


Sign: TypeAlias = Callable[[bytes, bytes], bytes]
"""(purpose, payload) -> signature of 64 bytes."""
Verify: TypeAlias = Callable[[ReplicaId, bytes, bytes, bytes], bool]
"""(signer, purpose, payload, signature) -> valid, by a member whose credential is known and in force."""

_ALIVE, _LEFT, _ACCUSATION = 1, 2, 3


# ---- which of two counts


class Held(Enum):
    """What we believe of the subject when a claim comes in."""

    LIVING = "alive or suspect"
    DEAD = "dead"
    LEFT = "left"


class Verdict(Enum):
    NEWS = "it changes what we believe"
    KNOWN = "we believe that already"
    STALE = "the subject has said something newer"
    UNPROVEN = "about an incarnation that the subject has not claimed to us"


OLDER, SAME, NEWER = -1, 0, 1

PRECEDENCE: Final[dict[type[Claim], dict[int, dict[Held, Verdict]]]] = {
    # claim      its incarnation against the one we know, then what we hold
    Alive: {
        OLDER: {Held.LIVING: Verdict.STALE, Held.DEAD: Verdict.STALE, Held.LEFT: Verdict.STALE},
        SAME: {Held.LIVING: Verdict.KNOWN, Held.DEAD: Verdict.STALE, Held.LEFT: Verdict.STALE},
        NEWER: {Held.LIVING: Verdict.NEWS, Held.DEAD: Verdict.NEWS, Held.LEFT: Verdict.NEWS},
    },
    Left: {
        OLDER: {Held.LIVING: Verdict.STALE, Held.DEAD: Verdict.STALE, Held.LEFT: Verdict.STALE},
        SAME: {Held.LIVING: Verdict.NEWS, Held.DEAD: Verdict.NEWS, Held.LEFT: Verdict.KNOWN},
        NEWER: {Held.LIVING: Verdict.NEWS, Held.DEAD: Verdict.NEWS, Held.LEFT: Verdict.NEWS},
    },
    Accusation: {
        OLDER: {Held.LIVING: Verdict.STALE, Held.DEAD: Verdict.STALE, Held.LEFT: Verdict.STALE},
        SAME: {Held.LIVING: Verdict.NEWS, Held.DEAD: Verdict.NEWS, Held.LEFT: Verdict.STALE},
        NEWER: {Held.LIVING: Verdict.UNPROVEN, Held.DEAD: Verdict.UNPROVEN, Held.LEFT: Verdict.UNPROVEN},
    },
}
"""Two differing Alive claims of one incarnation (two agents with one identity) are settled by `outranks`, the same everywhere."""


def precedence(claim: Claim, incarnation: int, held: Held) -> Verdict:
    """What a claim means to someone who holds this of its subject."""
    relation = (claim.incarnation > incarnation) - (claim.incarnation < incarnation)
    return PRECEDENCE[type(claim)][relation][held]


def outranks(new: Alive, held: Alive) -> bool:
    """Which of two Alive claims of one incarnation counts: any rule does that everybody applies alike."""
    return new[2:] > held[2:]


# ---- bytes


def seal(claim: Claim, sign: Sign) -> Signed:
    body = encode(_to_array(claim))
    signature = sign(PURPOSE_CLAIM, body)
    return Signed(claim, encode([body, signature]), body, signature)


def verified(signed: Signed, verify: Verify) -> bool:
    return verify(signed.signer, PURPOSE_CLAIM, signed.body, signed.signature)


def check_profile(name: str, meta: bytes) -> None:
    """Raises ConfigError for what would not fit a claim."""
    if len(name.encode()) > NAME_BYTES_MAX:
        raise ConfigError(f"the name {name!r} is longer than {NAME_BYTES_MAX} bytes")
    if len(meta) > META_BYTES_MAX:
        raise ConfigError(f"member metadata of {len(meta)} bytes: at most {META_BYTES_MAX}")


@lru_cache(maxsize=CLAIMS_READ_MAX)
def claim_from_bytes_untrusted(raw: bytes) -> Signed:
    """Read, not verified. Raises Malformed. One object for the same bytes: gossip brings each claim several times."""
    if len(raw) > CLAIM_BYTES_MAX:
        raise Malformed("claim is too long")
    outer = decode_untrusted(raw)
    if not (isinstance(outer, tuple) and len(outer) == 2):
        raise Malformed("claim is not [body, signature]")
    body, signature = outer
    if not (isinstance(body, bytes) and isinstance(signature, bytes) and len(signature) == SIGNATURE_BYTES):
        raise Malformed("claim is not [body, signature]")
    return Signed(_from_array_untrusted(decode_untrusted(body)), raw, body, signature)


def _to_array(claim: Claim) -> list[Any]:
    match claim:
        case Alive(subject, incarnation, birth, (host, port), name, meta, over):
            return [_ALIVE, subject, incarnation, birth, host, port, name, meta, over]
        case Left(subject, incarnation, birth):
            return [_LEFT, subject, incarnation, birth]
        case Accusation(subject, incarnation, accuser, standing, reason):
            return [_ACCUSATION, subject, incarnation, accuser, standing, int(reason)]


def _from_array_untrusted(fields: Any) -> Claim:
    if not isinstance(fields, tuple) or any(isinstance(field, bool) for field in fields):  # True would pass for 1
        raise Malformed("claim of no known kind")
    match fields:
        case (1, bytes(subject), int(incarnation), int(birth), str(host), int(port), str(name), bytes(meta), bytes(over)):
            _check_subject(subject, incarnation)
            _check_birth(birth)
            if len(name.encode()) > NAME_BYTES_MAX or len(meta) > META_BYTES_MAX or len(over) not in (0, CLAIM_ID_BYTES):
                raise Malformed("claim: a field is too long")
            return Alive(ReplicaId(subject), incarnation, birth, _address_untrusted(host, port), name, meta, over)
        case (2, bytes(subject), int(incarnation), int(birth)):
            _check_subject(subject, incarnation)
            _check_birth(birth)
            return Left(ReplicaId(subject), incarnation, birth)
        case (3, bytes(subject), int(incarnation), bytes(accuser), int(standing), int(reason)):
            _check_subject(subject, incarnation)
            _check_subject(accuser, standing)
            if accuser == subject:
                raise Malformed("claim: not an accuser")
            if reason not in (Reason.SILENT, Reason.REFUSED):
                raise Malformed("claim: not a reason")
            return Accusation(ReplicaId(subject), incarnation, ReplicaId(accuser), standing, Reason(reason))
    raise Malformed("claim of no known kind")


def _check_subject(subject: bytes, incarnation: int) -> None:
    if len(subject) != REPLICA_ID_BYTES:
        raise Malformed("claim: not a replica id")
    if not 0 <= incarnation <= INCARNATION_MAX:
        raise Malformed("claim: not an incarnation")


def _check_birth(birth: int) -> None:
    if not 0 <= birth <= BIRTH_MAX:
        raise Malformed("claim: not a birth")


def _address_untrusted(host: str, port: int) -> Address:
    """Numeric, so that nobody can make us ask a name server."""
    if not 0 < port <= 0xFFFF or len(host) > HOST_BYTES_MAX or not _is_numeric(host):
        raise Malformed("claim: not a numeric address")
    return (host, port)


@lru_cache(maxsize=1024)  # each member's claim is read by each other one, and again for each copy that gossip brings
def _is_numeric(host: str) -> bool:
    """A zone ("%eth0") means something on one machine only."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
