"""Whether a statement was signed by somebody who may make it, as far as is known here."""

from __future__ import annotations

from collections.abc import Callable

from crdt.ids import replica_of
from mesh.errors import Refused
from mesh.trust.delegation import has_proof
from mesh.trust.endings import Cut, Fork, is_signed
from mesh.trust.identity import key_id
from mesh.trust.ledger import Ledger
from mesh.trust.statements import (
    PURPOSE,
    Charter,
    Closing,
    Content,
    Credential,
    Enrolment,
    Genesis,
    Handover,
    Invite,
    Opaque,
    Revocation,
    Roll,
    Statement,
    Witness,
)
from mesh.trust.succession import Succession
from mesh.wire import cose

Verify = Callable[[bytes, bytes, bytes], bool]


def is_verified(statement: Statement, ledger: Ledger, succession: Succession, mesh_id: bytes, verify: Verify) -> bool:
    """False: the issuer is not known yet. Raises Refused for a signature that nobody entitled made."""
    content = statement.content
    if isinstance(content, Fork):
        return is_signed(content, _authors(content, ledger), mesh_id, verify)
    if isinstance(statement.signed, cose.Sign):
        return _is_signed_by_several(statement, statement.signed, succession, mesh_id, verify)
    keys = _issuers(statement, ledger, succession)
    if not keys:
        return False
    if not any(cose.verify1(statement.signed, key, PURPOSE, mesh_id, verify) for key in keys):
        raise Refused("signature does not fit: altered, forged, or of another mesh")
    if is_of_authority(content) and not succession.counts(statement):
        if succession.root.threshold > 1:
            raise Refused("not signed by as many keys as the authority takes, or by keys that were replaced")
        raise Refused("signed by a key that the authority has replaced")
    if isinstance(content, Charter) and content.mesh_id != mesh_id:
        raise Refused("charter of another mesh")
    if isinstance(content, Invite) and content.delegator is not None and not has_proof(content, mesh_id, verify):
        raise Refused("a delegation by a key that is another's")
    return True


def _is_signed_by_several(
    statement: Statement, signed: cose.Sign, succession: Succession, mesh_id: bytes, verify: Verify
) -> bool:
    """Only the first charter names several keys, so whoever else signed is nobody: such statements never wait."""
    if not is_of_authority(statement.content):
        raise Refused("several signatures under what is not the authority's")
    if not succession.counts(statement):  # before any signature is checked: no more of them than the threshold
        raise Refused("not signed by as many keys as the authority takes, or by keys that were replaced")
    if not cose.verify_several(signed, succession.root.keys, PURPOSE, mesh_id, verify):
        raise Refused("signature does not fit: altered, forged, or of another mesh")
    if isinstance(statement.content, Charter) and statement.content.mesh_id != mesh_id:
        raise Refused("charter of another mesh")
    return True


def _authors(fork: Fork, ledger: Ledger) -> list[bytes]:
    """The keys whose headers of this shelf prove something. Not those that were closed before it began: the thief of a former key
    could invent shelves that forked, until the replica is ended as a whole."""
    replica = replica_of(fork.shelf)
    known, standing = ledger.public_keys(replica), ledger.standings.get(replica)
    if standing is None:
        return known
    return [key for key in known if key not in standing.keys or standing.may_sign(key, fork.shelf, 1)]


def is_of_authority(content: Content) -> bool:
    """Whether only the authority makes such statements, in its own name."""
    if isinstance(content, Invite):
        return content.delegator is None
    return isinstance(content, Charter | Credential | Revocation | Genesis | Cut | Opaque)


def _issuers(statement: Statement, ledger: Ledger, succession: Succession) -> list[bytes]:
    """The public keys of its issuer. Raises Refused where that is known, and may not make it."""
    issuer, content = statement.issuer, statement.content
    match content:
        case Enrolment():
            return sorted({each.invite_key for each in ledger.invites.get(issuer, {}).values()})
        case Witness(invite=invite):  # of no invite at all: it would be a way to fill the set
            found = ledger.joined_keys(ledger.replica_of(issuer)) if invite in ledger.invites else []
        case Closing(serial=serial):
            found = ledger.rotated_keys(ledger.replica_of(issuer), serial)
        case Invite(delegator=delegator) if delegator is not None:
            found = ledger.public_keys(delegator)
        case Handover(previous=previous):
            key = succession.may_hand_over(issuer, content)
            if key is None and succession.is_known(previous):
                raise Refused("a handover by somebody who is neither the authority nor its recovery key")
            found = [] if key is None else [key]
        case Roll():
            found = [key for key in succession.keys().values() if succession.wants(content)]
        case _:
            authorities = succession.keys()
            if issuer not in authorities and (issuer in ledger.invites or issuer in ledger.standings):
                raise Refused("signed by somebody who is not the authority")
            found = [authorities[issuer]] if issuer in authorities else []
    return [key for key in found if key_id(key) == issuer]
