"""Invite tokens: all that a new agent needs to join, as one line to copy, with nobody's machine online.

A token holds the charter (mesh id, authority key), the invite that the authority signed, the invite's secret key, addresses of
members, and the newest block of the quorum's log that the inviter knew. Whoever has it can join once: hand it over as you would
a password.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from consensus_escalation.anchor import Anchor, anchor_from_value_untrusted
from mesh.effects import Address
from mesh.errors import ConfigError, Malformed
from mesh.trust.armour import armour, unarmour
from mesh.trust.directory import Directory
from mesh.trust.identity import Identity
from mesh.trust.ledger import default_name
from mesh.trust.membership import Membership
from mesh.trust.standing import SECOND
from mesh.trust.statements import (
    Charter,
    Enrolment,
    Invite,
    charter_from_bytes,
    check_name,
    issue,
    statement_from_bytes_untrusted,
)
from mesh.wire import cbor
from mesh.wire.crypto import SEED_BYTES

PREFIX: Final = "mesh1-"
ADDRESSES_MAX: Final = 8
ISSUERS_MAX: Final = 32
"""Guess: three levels of delegation, and as many changes of the authority's key as a line to copy should hold."""
HOST_BYTES_MAX: Final = 255
"""Of a DNS name."""


class Token(NamedTuple):
    """What a token says. Shows the invite's secret key to nobody who prints it."""

    charter: bytes
    issuers: tuple[bytes, ...]
    """Statements between the charter and the invite."""
    invite: bytes
    invite_identity: Identity
    addresses: tuple[Address, ...]
    invitation: Invite
    mesh: Charter
    anchor: Anchor | None = None
    """The newest block of the quorum's log that the inviter knew."""


def write_token(
    charter: bytes,
    invite: bytes,
    invite_identity: Identity,
    addresses: Sequence[Address],
    issuers: Sequence[bytes] = (),
    anchor: Anchor | None = None,
) -> str:
    """One line. `issuers`: statements that lead from the charter to who signed the invite, when that is not the charter's
    authority itself. `anchor`: the newcomer takes no history of the quorum that contradicts it. Raises ConfigError for addresses
    that cannot be."""
    if isinstance(addresses, str) or not isinstance(addresses, Sequence):
        raise ConfigError(f"addresses={addresses!r:.80}: a list of (host, port)")
    if anchor is not None and not isinstance(anchor, Anchor):
        raise ConfigError(f"anchor={anchor!r:.80}: pass node.anchor")
    if len(addresses) > ADDRESSES_MAX:
        raise ConfigError(f"{len(addresses)} addresses are too many for a token: at most {ADDRESSES_MAX}")
    checked = [checked_address(address) for address in addresses]
    return armour(PREFIX, cbor.encode([charter, list(issuers), invite, invite_identity.seed, checked, list(anchor or ())]))


def read_token(token: str) -> Token:
    """What a token says, its signatures checked. Raises ConfigError, in one line, for anything else."""
    content = unarmour(PREFIX, token, "the token")
    try:
        fields: Any = cbor.decode_untrusted(content)
        if not isinstance(fields, tuple) or len(fields) != 6:
            raise Malformed("a token has six parts")
        charter, issuers, invite, seed, addresses, anchor = fields
        if not all(type(each) is bytes for each in (charter, invite, seed)) or len(seed) != SEED_BYTES:
            raise Malformed("a part of it is not what it should be")
        if not isinstance(addresses, tuple) or len(addresses) > ADDRESSES_MAX:
            raise Malformed("its addresses are not a list")
        if not isinstance(issuers, tuple) or len(issuers) > ISSUERS_MAX or not all(type(each) is bytes for each in issuers):
            raise Malformed("what stands between its charter and its invite is no list of statements")
        statement, known_log = statement_from_bytes_untrusted(invite), anchor_from_value_untrusted(anchor) if anchor else None
    except Malformed as error:
        raise ConfigError(f"the token is damaged: {error}") from None
    mesh, key = charter_from_bytes(charter), Identity(seed)
    known = Directory(charter)
    if known.restore([*issuers, invite]):
        raise ConfigError("the token is forged or damaged: its invite is not signed by the authority that it names")
    if not isinstance(statement.content, Invite) or statement.content.invite_key != key.public_key:
        raise ConfigError("the token is forged or damaged: its secret key is not that of its invite")
    return Token(charter, issuers, invite, key, tuple(map(checked_address, addresses)), statement.content, mesh, known_log)


def with_invite(token: str, invite: bytes) -> str:
    """A token whose invite lacked signatures, with the signed one. Raises ConfigError."""
    content: Any = cbor.decode_untrusted(unarmour(PREFIX, token, "the token"))
    charter, issuers, _, seed, addresses, anchor = content
    finished = armour(
        PREFIX, cbor.encode([charter, list(issuers), invite, seed, [list(each) for each in addresses], list(anchor)])
    )
    read_token(finished)
    return finished


def redeem(token: str, identity: Identity, *, name: str | None = None, wall: int | None = None) -> Membership:
    """Enrols `identity` by the token, without asking anybody.

    `name`: how the agent calls itself, when the token names nobody. `wall`: microseconds since 1970, to say at once that the
    token ran out instead of being refused at every door. The same key may redeem it again; another key will be refused.
    Raises ConfigError.
    """
    read = read_token(token)
    given = read.invitation.terms.name
    if given is not None and name is not None and name != given:
        raise ConfigError(f"the token is made out to {given!r}: leave the name {name!r} away, or have a token made for it")
    redeem_by = read.invitation.redeem_by
    if wall is not None and redeem_by is not None and wall >= redeem_by * SECOND:
        raise ConfigError("the token has expired (or this machine's clock is wrong): have a new one made with `mesh invite`")
    chosen = None if given is not None or name is None else check_name(name)
    enrolment = issue(Enrolment(identity.public_key, chosen), read.invite_identity, read.mesh.mesh_id)
    return Membership(
        identity,
        given or chosen or default_name(identity.replica_id),
        read.charter,
        enrolment,
        (read.charter, *read.issuers, read.invite, enrolment),
        read.invite,
        read.addresses,
        anchor=read.anchor,
    )


def checked_address(address: Any) -> Address:
    """Raises ConfigError."""
    match address:
        case (str(host), int(port)) if 1 <= len(host.encode()) <= HOST_BYTES_MAX and 1 <= port <= 0xFFFF and type(port) is int:
            return host, port
    raise ConfigError(f"{address!r} is not an address: a host and a port from 1 to 65535")
