"""An authority of several keys: what it says counts when `threshold` of them have signed, each where it is kept.

No single key then lets anybody in or puts anybody out, whoever steals it. A statement that lacks signatures is a COSE_Sign like
the finished one, with fewer signers; it travels from one holder of a key to the next in a *proposal*, one line of text without
secrets: charter and statements. The holders may sign in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from mesh.errors import ConfigError, Malformed
from mesh.trust.armour import armour, unarmour
from mesh.trust.endings import Cut
from mesh.trust.identity import Identity, key_id
from mesh.trust.statements import (
    PURPOSE,
    Charter,
    Content,
    Credential,
    Genesis,
    Invite,
    KeyId,
    Revocation,
    Terms,
    charter_from_bytes,
    check_size,
    content_untrusted,
    payload_of,
)
from mesh.wire import cbor, cose
from mesh.wire.crypto import LIBSODIUM

PREFIX: Final = "meshproposal1-"
STATEMENTS_MAX: Final = 4096
"""In one proposal. Guess: revoking an agent that let thousands in."""


class Proposal(NamedTuple):
    """What the holders of the keys pass around."""

    charter: bytes
    statements: tuple[bytes, ...]
    """Each perhaps without all of its signatures."""


# --- statements


def draft(content: Content, signers: Sequence[Identity], charter: Charter) -> bytes:
    """A statement signed by the first `threshold` of these keys, which may be too few. Raises ConfigError when it is too long."""
    unsigned = cose.Sign(payload_of(content), ())
    check_size(content, len(cose.assemble_several(unsigned)) + charter.threshold * cose.SIGNER_BYTES)
    raw = cose.assemble_several(unsigned)
    for each in signers[: charter.threshold]:
        raw = countersign(raw, each, charter)
    return raw


def countersign(raw: bytes, by: Identity, charter: Charter) -> bytes:
    """With one signature more. Raises ConfigError: not one of the charter's keys, signed by it before, or complete."""
    parts = _read(raw)
    kid = key_id(by.public_key)
    if by.public_key not in charter.authorities:
        raise ConfigError(f"{kid.hex()} is none of the authority's keys")
    if kid in dict(parts.signatures):
        raise ConfigError(f"{kid.hex()} has signed this already: another of the authority's keys must")
    if len(parts.signatures) >= charter.threshold:
        raise ConfigError(f"this has all the {charter.threshold} signatures that it takes")
    signature = by.sign(cose.to_be_signed_by_several(parts.payload, PURPOSE, charter.mesh_id))
    return cose.assemble_several(parts._replace(signatures=(*parts.signatures, (kid, signature))))


def missing(raw: bytes, charter: Charter) -> int:
    """How many signatures a statement lacks."""
    return charter.threshold - len(_read(raw).signatures)


def signers(raw: bytes) -> list[KeyId]:
    """Whose signatures it bears, ascending."""
    return [kid for kid, _ in _read(raw).signatures]


def says(raw: bytes) -> Content:
    """What a statement says, complete or not. Raises ConfigError."""
    try:
        return content_untrusted(_read(raw).payload)
    except Malformed as error:
        raise ConfigError(f"not a statement: {error}") from None


def _read(raw: bytes) -> cose.Sign:
    try:
        return cose.open_several_untrusted(raw)
    except Malformed as error:
        raise ConfigError(f"not a statement that several sign: {error}") from None


# --- proposals


def write_proposal(proposal: Proposal) -> str:
    """One line."""
    return armour(PREFIX, cbor.encode([proposal.charter, list(proposal.statements)]))


def read_proposal(line: str, what: str) -> Proposal:
    """A proposal, every signature in it checked. Raises ConfigError about `what`."""
    try:
        fields: Any = cbor.decode_untrusted(unarmour(PREFIX, line, what))
    except Malformed as error:
        raise ConfigError(f"{what} is damaged: {error}") from None
    match fields:
        case (bytes(charter), tuple(raws)) if all(type(each) is bytes for each in raws) and 1 <= len(raws) <= STATEMENTS_MAX:
            mesh = charter_from_bytes(charter)
        case _:
            raise ConfigError(f"{what} is damaged: it holds something else than a charter and statements")
    keys: dict[KeyId, bytes] = {key_id(key): key for key in mesh.authorities}
    for raw in raws:
        says(raw)
        parts = _read(raw)
        if len(parts.signatures) > mesh.threshold:
            raise ConfigError(f"{what} has more signatures than the charter asks for: nobody would take it")
        if not cose.verify_several(parts, keys, PURPOSE, mesh.mesh_id, LIBSODIUM.verify):
            raise ConfigError(f"{what} bears a signature that does not fit: ask for a new one")
    return Proposal(charter, raws)


# --- in words


def describe(content: Content, name: Callable[[KeyId], str | None]) -> str:
    """One line, for who is to sign it. `name`: of a member, as far as is known here."""

    def who(key: KeyId) -> str:
        known = name(key)
        return f"the key {key.hex()} (no name is known here)" if known is None else f"{known} ({key.hex()})"

    match content:
        case Invite(serial, _, terms, redeem_by):
            until = "for ever" if redeem_by is None else f"until {redeem_by} s since 1970"
            return (
                f"{serial}: let in {terms.name or 'an agent that names itself'}, {_terms(terms)}; the token can be used {until}"
            )
        case Credential(serial, public_key, terms, honoured, replica) if replica is not None:
            limit = "" if honoured is None else "; what its former keys signed counts up to now only"
            return f"{serial}: give {who(replica)} the further key {key_id(public_key).hex()}, {_terms(terms)}{limit}"
        case Credential(serial, public_key, terms, honoured):
            limit = "" if honoured is None else "; what it wrote counts up to now only"
            return f"{serial}: let {key_id(public_key).hex()} write as {terms.name}, {_terms(terms)}{limit}"
        case Revocation(serial, subject, honoured):
            written = f"what it wrote on {len(honoured)} shelves until now counts" if honoured else "nothing that it wrote counts"
            return f"{serial}: revoke {who(subject)}; {written}"
        case Cut(serial, replica, host):
            return f"{serial}: end {who(replica)} for good; {who(host)} takes over what it wrote"
        case Genesis(serial, epoch, public_key):
            return f"{serial}: begin epoch {epoch} of the quorum with {who(key_id(public_key))} alone"
        case Charter(serial, _, _, critical, limits):
            return f"{serial}: a charter with the critical paths {' '.join(critical) or '(none)'}, limits {limits.to_map()}"
        case _:
            raise ConfigError("this says something that this version does not know, or that is not for the authority to sign")


def _terms(terms: Terms) -> str:
    parts = [f"may write {' '.join(terms.may_write) or 'nothing'}"]
    if terms.voter:
        parts.append(f"votes with score {terms.score}")
    if terms.delegates:
        parts.append(f"may let others in below itself, {terms.delegates} levels")
    if terms.expires is not None:
        parts.append(f"until {terms.expires} s after 1970")
    return ", ".join(parts)
