"""Statements: everything that anybody says about keys, one COSE_Sign1 each (COSE_Sign where the charter has a threshold).

They live in one grow-only set per mesh; what a key may do is a function of that set (`mesh.trust.directory`). Payloads are
CBOR arrays

    [format, kind, fields...]

    charter     serial, mesh id, [authority key...], [critical pattern...], {limit: value}, recovery      by the authority
    credential  serial, public key, TERMS, honoured or null, replica or null                                   by the authority
    invite      serial, invite key, TERMS, redeem by                                                           by the authority
    enrolment   public key, name or null                                                                      by an invite's key
    revocation  serial, key id, honoured                                                                       by the authority
    delegation  serial, invite key, TERMS, redeem by, delegator, proof                                         by a member
    witness     key id of the invite, public key                                                               by a member
    closing     serial, honoured, [invite...]                                                                  by a member
    genesis     serial, epoch, public key, base                                                                by the authority
    cut, fork   what ends shelves: see `mesh.trust.endings`

A charter of several keys ends with its threshold.
TERMS are: name or null, [pattern...], voter, score, expires, delegates. `replica`: whose further key this is (a rotation); null:
the key makes the replica id.
`honoured`: [[birth, seq]...], the last deltas of each shelf that still count; null: all that was written before still counts.
Times are seconds since 1970. The `kid` of the signature names the issuer's key. All kinds share one purpose, the kind being
inside what is signed: so a replica that does not know a kind yet can still check that the authority made it, keep it and pass
it on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple, NewType, TypeAlias, TypeVar

from crdt.delta import Head
from crdt.ids import ReplicaId, ShelfId, birth_of, replica_of
from mesh.errors import ConfigError, Malformed
from mesh.trust.endings import FORK, Cut, Fork, cut_untrusted, fork_bytes, fork_untrusted
from mesh.trust.identity import Identity, key_id
from mesh.trust.limits import SERIAL_MAX, Limits
from mesh.trust.matching import PathPatterns
from mesh.trust.patterns import compile_patterns
from mesh.wire import cbor, cose
from mesh.wire.crypto import LIBSODIUM, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, Crypto

T = TypeVar("T")

FORMAT: Final = 1
PURPOSE: Final = b"gossipmesh statement"
STATEMENT_BYTES_MAX: Final = 1024
"""So that one travels in one datagram of 1,200 bytes, whatever its kind."""
STATEMENT_ID_BYTES: Final = 8
"""Of BLAKE2b over the whole statement. Two statements of one id can be made with 2**32 signatures, by who may sign (the
holder of an invite: two enrolments of himself); half of the mesh would then know the one and half the other, to his own
damage only. More bytes here close that, too."""
SCORE_MAX: Final = 15
"""DESIGN section 7: certified scores are 0 to 15."""
NAME_BYTES_MAX: Final = 64
ROLL_HASH_BYTES: Final = 12
"""Finding another statement with a listed hash takes 2**96 / (statements listed) signatures."""
ROLL_PAGE_HASHES: Final = 64
ROLL_PAGES_MAX: Final = 48
"""3,072 statements of the authority carried over: two for each of 1,500 members. A handover of 48 pages has 800 bytes."""
DELEGATES_MAX: Final = 3
"""Levels of delegation below a credential. Guess: a robot, its arm, the arm's gripper."""
DELEGATIONS_MAX: Final = 32
"""Invites of one delegator that count: those with the lowest ids. More would be a way to flood the set."""
AUTHORITIES_MAX: Final = 8
HONOURED_MAX: Final = 56
"""Shelves in one list: 8 to 14 bytes each. A replica has one that it writes, and as many former ones as starts of which
something lives on as it was written then."""
EPOCH_LIMIT: Final = 1 << 31
"""Of the quorum: a fencing token is a positive number of 64 bits, the epoch above the log index."""
BASE_BYTES: Final = 16

FORK_START: Final = b"\x84"
"""Array of 4: all other statements begin with a tag."""

StatementId = NewType("StatementId", bytes)
KeyId: TypeAlias = bytes
"""8 bytes, `key_id` of a public key: of a replica (then it is its ReplicaId), an invite or an authority."""
Honoured: TypeAlias = tuple[tuple[int, int], ...]
"""(birth, last seq that counts), ascending by birth."""


class Kind(IntEnum):
    CHARTER = 1
    CREDENTIAL = 2
    INVITE = 3
    ENROLMENT = 4
    REVOCATION = 5
    CUT = 6
    WITNESS = 7
    CLOSING = 8
    GENESIS = 16
    FORK = FORK
    DELEGATION = 11
    HANDOVER = 12
    ROLL = 13


class Terms(NamedTuple):
    """What a credential grants, or an invite to whoever redeems it."""

    name: str | None
    may_write: tuple[str, ...]
    """Patterns, see `mesh.trust.patterns`."""
    voter: bool
    score: int
    """0 to 15: Agent-Raft's election weight."""
    expires: int | None
    """Seconds since 1970; then receivers open no more sessions, by their own clocks. What was written stays."""
    delegates: int = 0
    """How many levels of others it may let in below itself: 0 none, 1 tools, 2 tools that may let tools in."""

    @property
    def patterns(self) -> PathPatterns:
        return compile_patterns(self.may_write)


class Charter(NamedTuple):
    serial: int
    mesh_id: bytes
    authorities: tuple[bytes, ...]
    """Public keys; a statement by any `threshold` of them is the authority's."""
    critical: tuple[str, ...]
    limits: Limits
    recovery: bytes | None = None
    """Public key that may replace the authority's. Only that of the first charter counts."""
    threshold: int = 1
    """How many of the authority's keys must sign what it says (`mesh.trust.countersigning`). Only that of the first charter
    counts. On the wire only when it is more than 1."""


class Credential(NamedTuple):
    serial: int
    public_key: bytes
    terms: Terms
    honoured: Honoured | None
    """Not None: narrows. Deltas of older serials count only up to here."""
    replica: ReplicaId | None = None
    """Not None: a rotation. This replica signs with `public_key` from now on."""

    @property
    def subject(self) -> ReplicaId:
        return key_id(self.public_key) if self.replica is None else self.replica


class Invite(NamedTuple):
    serial: int
    """Becomes the serial of the credential of whoever redeems it."""
    invite_key: bytes
    terms: Terms
    redeem_by: int | None
    """Seconds since 1970: from then on nobody lets a new key in by it."""
    delegator: ReplicaId | None = None
    """Not None: a delegation. This member lets somebody in below its own rights of the same serial."""
    proof: bytes = b""
    """Of a delegation: signature of the invite's key, so that nobody delegates by a key that is another's."""


class Enrolment(NamedTuple):
    public_key: bytes
    name: str | None
    """Chosen by the agent; only when the invite names none."""


class Revocation(NamedTuple):
    serial: int
    subject: KeyId
    """A replica, or an invite: then whoever redeemed it."""
    honoured: Honoured


class Witness(NamedTuple):
    """ "I knew the enrolment of this key long before any other of this invite": see `mesh.trust.contest`."""

    invite: KeyId
    public_key: bytes


class Closing(NamedTuple):
    """ "I sign with the key of this credential now": what this replica's earlier keys signed counts up to here. By that key."""

    serial: int
    """Of the credential that brought the key."""
    honoured: Honoured
    delegated: tuple[KeyId, ...] = ()
    """Invites by which earlier keys let others in, and that still count."""


class Genesis(NamedTuple):
    """Where the quorum's log of one epoch begins: only this voter may write its first block."""

    serial: int
    epoch: int
    """The highest counts: the authority begins a new one when a majority of the voters is lost for ever."""
    public_key: bytes
    """Of the only voter at first."""
    base: bytes
    """Hash of the state that the epoch begins with; zeros: an empty one."""


class Handover(NamedTuple):
    """ "This is the authority's key from now on": see `mesh.trust.succession`."""

    serial: int
    previous: bytes
    """The seat that hands over: the mesh id, or the hash of a handover."""
    public_key: bytes
    recovery: bytes | None
    """The recovery key from now on. Only the recovery key itself can name another."""
    roll: tuple[bytes, ...]
    """Hashes of the pages that list what former keys signed and still counts."""


class Roll(NamedTuple):
    """One such page."""

    hashes: tuple[bytes, ...]


class Opaque(NamedTuple):
    """By the authority, and of a format or kind that this version does not know."""

    format: int
    kind: int


Content: TypeAlias = (
    Charter | Credential | Invite | Enrolment | Revocation | Witness | Closing | Genesis | Cut | Fork | Handover | Roll | Opaque
)


STATEMENTS_READ_MAX: Final = 4096
"""Statements remembered as they were read, about 4 MB. Guess: the members of a large mesh."""


class Statement(NamedTuple):
    id: StatementId
    raw: bytes
    """As it travels."""
    issuer: KeyId
    """Of several signers the first."""
    content: Content
    signed: cose.Sign1 | cose.Sign


def statement_id(raw: bytes) -> StatementId:
    """Of several signers' statement whichever of them signed: one statement, not as many as there are choices of signers."""
    return StatementId(hashlib.blake2b(cose.signed_part(raw), digest_size=STATEMENT_ID_BYTES).digest())


def issue(content: Content, issuer: Identity, mesh_id: bytes) -> bytes:
    """A statement, signed. Raises ConfigError when it does not fit into a datagram."""
    raw = cose.sign1(issuer.sign, payload_of(content), kid=key_id(issuer.public_key), purpose=PURPOSE, mesh_id=mesh_id)
    check_size(content, len(raw))
    return raw


def payload_of(content: Content) -> bytes:
    """What is signed."""
    return cbor.encode(_encode(content))


def check_size(content: Content, size: int) -> None:
    """Raises ConfigError for a statement that is too long with all its signatures."""
    if size > STATEMENT_BYTES_MAX:
        what = f"{type(content).__name__.lower()} has {size} bytes"
        raise ConfigError(f"the {what}, at most {STATEMENT_BYTES_MAX} fit into a datagram: fewer or shorter patterns")


@lru_cache(maxsize=STATEMENTS_READ_MAX)
def statement_from_bytes_untrusted(raw: bytes) -> Statement:
    """What these bytes say, not verified. Raises Malformed. One object for the same bytes: they come from peers and from disk."""
    if len(raw) > STATEMENT_BYTES_MAX:
        raise Malformed(f"a statement of {len(raw)} bytes: at most {STATEMENT_BYTES_MAX}")
    if raw[:1] == FORK_START:
        return _fork_statement_untrusted(raw)
    if not raw.startswith(cose.SEVERAL_START):
        signed = cose.open1_untrusted(raw)
        return Statement(statement_id(raw), raw, signed.kid, content_untrusted(signed.payload), signed)
    several = cose.open_several_untrusted(raw)
    if len(several.signatures) < 2:
        raise Malformed("a statement that several sign has two signatures or more")
    return Statement(statement_id(raw), raw, several.signatures[0][0], content_untrusted(several.payload), several)


def content_untrusted(payload: bytes) -> Content:
    """What a signed payload says. Raises Malformed."""
    fields = cbor.decode_untrusted(payload)
    if not isinstance(fields, tuple) or len(fields) < 2:
        raise Malformed("a statement is an array that begins with format and kind")
    form, kind = _serial(fields[0]), _serial(fields[1])
    decode = _DECODERS.get(kind) if form == FORMAT else None
    return Opaque(form, kind) if decode is None else decode(fields[2:])


def needed_keys(statement: Statement) -> set[KeyId]:
    """Keys without which a statement cannot be judged."""
    content = statement.content
    return {statement.issuer, content.invite} if isinstance(content, Witness) else {statement.issuer}


def fork_statement(one: Head, other: Head) -> bytes:
    """What two signed headers prove (`crdt.delta.is_fork`), as a statement."""
    return fork_bytes(FORMAT, one, other)


def _fork_statement_untrusted(raw: bytes) -> Statement:
    form, kind, *heads = _tuple(cbor.decode_untrusted(raw))
    if (form, kind) != (FORMAT, FORK):
        raise Malformed("not a statement")
    fork = fork_untrusted(tuple(heads))
    return Statement(statement_id(raw), raw, replica_of(fork.shelf), fork, cose.open1_untrusted(heads[0]))


def charter_from_bytes(raw: bytes, crypto: Crypto = LIBSODIUM) -> Charter:
    """A charter out of an own file or token, signed by an authority that it names itself. Raises ConfigError."""
    try:
        statement = statement_from_bytes_untrusted(raw)
    except Malformed as error:
        raise ConfigError(f"not a charter: {error}") from None
    charter = statement.content
    if not isinstance(charter, Charter):
        raise ConfigError(f"not a charter but a statement of another kind: {type(charter).__name__.lower()}")
    if not is_signed_by(statement, {key_id(key): key for key in charter.authorities}, charter, crypto):
        raise ConfigError("the charter is damaged: its signature does not fit")
    return charter


def is_signed_by(statement: Statement, keys: Mapping[KeyId, bytes], charter: Charter, crypto: Crypto = LIBSODIUM) -> bool:
    """Whether as many of these keys as the charter asks for signed it."""
    signed = statement.signed
    if isinstance(signed, cose.Sign):
        complete = len(signed.signatures) == charter.threshold
        return complete and cose.verify_several(signed, keys, PURPOSE, charter.mesh_id, crypto.verify)
    key = keys.get(statement.issuer)
    single = charter.threshold == 1 and key is not None
    return single and cose.verify1(signed, key, PURPOSE, charter.mesh_id, crypto.verify)  # type: ignore[arg-type]


def check_name(name: str) -> str:
    """A name fit for file names of logs and for terminals. Raises ConfigError."""
    if not isinstance(name, str) or not name or not name.isprintable() or name != name.strip() or "/" in name:
        raise ConfigError(f"name {name!r}: printable text without a / and without spaces at its ends")
    if len(name.encode()) > NAME_BYTES_MAX:
        raise ConfigError(f"name {name!r} has {len(name.encode())} bytes: at most {NAME_BYTES_MAX}")
    return name


def check_terms(terms: Terms) -> Terms:
    """Raises ConfigError, which names what is wrong."""
    if terms.name is not None:
        check_name(terms.name)
    compile_patterns(terms.may_write)
    if type(terms.voter) is not bool:
        raise ConfigError(f"voter is {terms.voter!r}: True or False")
    if type(terms.score) is not int or not 0 <= terms.score <= SCORE_MAX:
        raise ConfigError(f"score is {terms.score!r}: an integer from 0 to {SCORE_MAX}")
    if type(terms.delegates) is not int or not 0 <= terms.delegates <= DELEGATES_MAX:
        raise ConfigError(f"delegates is {terms.delegates!r}: an integer from 0 to {DELEGATES_MAX}")
    if terms.expires is not None and (type(terms.expires) is not int or not 1 <= terms.expires <= SERIAL_MAX):
        raise ConfigError(f"expires is {terms.expires!r}: whole seconds since 1970, or None")
    return terms


def check_honoured(pairs: Sequence[tuple[int, int]]) -> Honoured:
    """(birth, seq) pairs in their order on the wire. Raises ConfigError."""
    try:
        honoured = tuple(sorted((birth, seq) for birth, seq in pairs))
    except (TypeError, ValueError):
        raise ConfigError(f"honoured={pairs!r:.80}: a list of (birth, seq), such as node.written_by(replica)") from None
    if len(honoured) > HONOURED_MAX:
        raise ConfigError(f"{len(honoured)} shelves are honoured: at most {HONOURED_MAX}")
    for birth, seq in honoured:
        if type(birth) is not int or type(seq) is not int or not 0 <= birth < 1 << 32 or not 1 <= seq <= SERIAL_MAX:
            raise ConfigError(f"honoured {(birth, seq)!r}: a birth is a u32, a seq counts from 1")
    if len({birth for birth, _ in honoured}) != len(honoured):
        raise ConfigError("honoured names one birth twice")
    return honoured


def honoured_of(written: Mapping[ShelfId, int]) -> list[tuple[int, int]]:
    """What a statement honours of a replica, as (birth, seq): `crdt.Replica.written_by`, in its order."""
    return [(birth_of(shelf), seq) for shelf, seq in written.items()]


# --- payloads


def _encode(content: Content) -> list[object]:
    match content:
        case Charter(serial, mesh_id, authorities, critical, limits, recovery, threshold):
            several = [threshold] if threshold > 1 else []
            return [FORMAT, Kind.CHARTER.value, serial, mesh_id, authorities, critical, limits.to_map(), recovery, *several]
        case Handover():
            return [FORMAT, Kind.HANDOVER.value, *content]
        case Roll(hashes):
            return [FORMAT, Kind.ROLL.value, hashes]
        case Credential(serial, public_key, terms, honoured, replica):
            return [FORMAT, Kind.CREDENTIAL.value, serial, public_key, *terms, honoured, replica]
        case Invite(serial, invite_key, terms, redeem_by, delegator, proof) if delegator is not None:
            return [FORMAT, Kind.DELEGATION.value, serial, invite_key, *terms, redeem_by, delegator, proof]
        case Invite(serial, invite_key, terms, redeem_by):
            return [FORMAT, Kind.INVITE.value, serial, invite_key, *terms, redeem_by]
        case Enrolment(public_key, name):
            return [FORMAT, Kind.ENROLMENT.value, public_key, name]
        case Revocation(serial, subject, honoured):
            return [FORMAT, Kind.REVOCATION.value, serial, subject, honoured]
        case Witness(invite, public_key):
            return [FORMAT, Kind.WITNESS.value, invite, public_key]
        case Closing(serial, honoured, delegated):
            return [FORMAT, Kind.CLOSING.value, serial, honoured, delegated]
        case Genesis(serial, epoch, public_key, base):
            return [FORMAT, Kind.GENESIS.value, serial, epoch, public_key, base]
        case Cut(serial, replica, host):
            return [FORMAT, Kind.CUT.value, serial, replica, host]
        case Fork() | Opaque():
            raise ValueError("this version does not issue what it does not know")


def _charter(fields: tuple[Any, ...]) -> Charter:
    several = fields[6:7]
    serial, mesh_id, authorities, critical, limits, recovery = _exactly(fields[:6] + fields[7:], 6)
    keys = tuple(_bytes(each, PUBLIC_KEY_BYTES) for each in _tuple(authorities))
    if not 1 <= len(keys) <= AUTHORITIES_MAX or len({key_id(each) for each in keys}) != len(keys):
        raise Malformed(f"a charter names 1 to {AUTHORITIES_MAX} different authority keys")
    if several and not 2 <= _serial(several[0]) <= len(keys):
        raise Malformed("a threshold is 2 or more, and not more than there are keys")
    if not isinstance(limits, Mapping) or "value_bytes_max" not in limits or not all(type(name) is str for name in limits):
        raise Malformed("limits of a charter are a map of text to numbers, value_bytes_max among them")
    own = {name: value for name, value in limits.items() if name in ("value_bytes_max", "shelf_bytes_max", "shelf_ops_max")}
    others = {name: value for name, value in limits.items() if name not in own}
    return Charter(
        _serial(serial),
        _bytes(mesh_id, cose.MESH_ID_BYTES),
        keys,
        _patterns(critical),
        _checked(lambda: Limits(**own, others=others)),
        None if recovery is None else _bytes(recovery, PUBLIC_KEY_BYTES),
        *several,
    )


def _credential(fields: tuple[Any, ...]) -> Credential:
    serial, public_key, *terms, honoured, replica = _exactly(fields, 10)
    checked = _terms(terms)
    if checked.name is None:
        raise Malformed("a credential names its subject")
    return Credential(
        _serial(serial),
        _bytes(public_key, PUBLIC_KEY_BYTES),
        checked,
        None if honoured is None else _honoured(honoured),
        None if replica is None else ReplicaId(_bytes(replica, cose.KID_BYTES)),
    )


def _invite(fields: tuple[Any, ...]) -> Invite:
    serial, invite_key, *terms, redeem_by = _exactly(fields, 9)
    return Invite(
        _serial(serial), _bytes(invite_key, PUBLIC_KEY_BYTES), _terms(terms), None if redeem_by is None else _serial(redeem_by)
    )


def _delegation(fields: tuple[Any, ...]) -> Invite:
    *invite, delegator, proof = _exactly(fields, 11)
    signature = _bytes(proof, SIGNATURE_BYTES)
    return _invite(tuple(invite))._replace(delegator=ReplicaId(_bytes(delegator, cose.KID_BYTES)), proof=signature)


def _enrolment(fields: tuple[Any, ...]) -> Enrolment:
    public_key, name = _exactly(fields, 2)
    return Enrolment(_bytes(public_key, PUBLIC_KEY_BYTES), None if name is None else _checked(lambda: check_name(name)))


def _revocation(fields: tuple[Any, ...]) -> Revocation:
    serial, subject, honoured = _exactly(fields, 3)
    return Revocation(_serial(serial), _bytes(subject, cose.KID_BYTES), _honoured(honoured))


def _witness(fields: tuple[Any, ...]) -> Witness:
    invite, public_key = _exactly(fields, 2)
    return Witness(_bytes(invite, cose.KID_BYTES), _bytes(public_key, PUBLIC_KEY_BYTES))


def _handover(fields: tuple[Any, ...]) -> Handover:
    serial, previous, public_key, recovery, roll = _exactly(fields, 5)
    pages = tuple(_bytes(each, ROLL_HASH_BYTES) for each in _tuple(roll))
    if len(pages) > ROLL_PAGES_MAX:
        raise Malformed(f"a roll has at most {ROLL_PAGES_MAX} pages")
    next_recovery = None if recovery is None else _bytes(recovery, PUBLIC_KEY_BYTES)
    return Handover(_serial(serial), _bytes(previous, 16), _bytes(public_key, PUBLIC_KEY_BYTES), next_recovery, pages)


def _roll(fields: tuple[Any, ...]) -> Roll:
    (hashes,) = _exactly(fields, 1)
    found = tuple(_bytes(each, ROLL_HASH_BYTES) for each in _tuple(hashes))
    if not found or list(found) != sorted(set(found)):
        raise Malformed("a page of a roll lists hashes, ascending")
    return Roll(found)


def _closing(fields: tuple[Any, ...]) -> Closing:
    serial, honoured, delegated = _exactly(fields, 3)
    invites = tuple(_bytes(each, cose.KID_BYTES) for each in _tuple(delegated))
    if list(invites) != sorted(set(invites)) or len(invites) > DELEGATIONS_MAX:
        raise Malformed(f"a closing lists at most {DELEGATIONS_MAX} invites, ascending")
    return Closing(_serial(serial), _honoured(honoured), invites)


def _genesis(fields: tuple[Any, ...]) -> Genesis:
    serial, epoch, public_key, base = _exactly(fields, 4)
    if _serial(epoch) >= EPOCH_LIMIT:
        raise Malformed("an epoch has 31 bits")
    return Genesis(_serial(serial), epoch, _bytes(public_key, PUBLIC_KEY_BYTES), _bytes(base, BASE_BYTES))


_DECODERS: Final[dict[int, Callable[[tuple[Any, ...]], Content]]] = {
    Kind.CHARTER: _charter,
    Kind.CREDENTIAL: _credential,
    Kind.INVITE: _invite,
    Kind.ENROLMENT: _enrolment,
    Kind.REVOCATION: _revocation,
    Kind.WITNESS: _witness,
    Kind.CUT: lambda fields: cut_untrusted((_serial(_exactly(fields, 3)[0]), *fields[1:])),
    Kind.CLOSING: _closing,
    Kind.DELEGATION: _delegation,
    Kind.HANDOVER: _handover,
    Kind.ROLL: _roll,
    Kind.GENESIS: _genesis,
}


# --- fields from outside: each raises Malformed


def _exactly(fields: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    if len(fields) != count:
        raise Malformed(f"a statement of this kind has {count + 2} fields, not {len(fields) + 2}")
    return fields


def _serial(value: object) -> int:
    if type(value) is not int or not 1 <= value <= SERIAL_MAX:
        raise Malformed(f"expected a positive integer, not {value!r:.40}")
    return value


def _bytes(value: object, length: int) -> bytes:
    if type(value) is not bytes or len(value) != length:
        raise Malformed(f"expected {length} bytes")
    return value


def _tuple(value: object) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise Malformed("expected an array")
    return value


def _patterns(value: object) -> tuple[str, ...]:
    texts = _tuple(value)
    if not all(type(text) is str for text in texts):
        raise Malformed("patterns are text")
    return _checked(lambda: compile_patterns(texts)).texts


def _terms(fields: Sequence[Any]) -> Terms:
    name, may_write, voter, score, expires, delegates = fields
    return _checked(lambda: check_terms(Terms(name, _patterns(may_write), voter, score, expires, delegates)))


def _honoured(value: object) -> Honoured:
    pairs = _tuple(value)
    if not all(isinstance(pair, tuple) and len(pair) == 2 and all(type(each) is int for each in pair) for pair in pairs):
        raise Malformed("honoured shelves are pairs of birth and seq")
    if _checked(lambda: check_honoured(pairs)) != pairs:
        raise Malformed("honoured shelves are not in order")
    return pairs


def _checked(check: Callable[[], T]) -> T:
    """The same checks as for our own user, whose error is then the sender's."""
    try:
        return check()
    except ConfigError as error:
        raise Malformed(str(error)) from None
