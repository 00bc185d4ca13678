"""A token of a member's own: what `Authority.invite` is for the authority."""

from __future__ import annotations

from collections.abc import Sequence

from consensus_escalation.anchor import Anchor
from crdt.ids import ReplicaId
from mesh.effects import Address
from mesh.errors import ConfigError
from mesh.trust.delegation import delegate
from mesh.trust.directory import Directory
from mesh.trust.identity import Identity
from mesh.trust.statements import check_name
from mesh.trust.token import write_token


def let_in(
    directory: Directory,
    charter: bytes,
    me: Identity,
    name: str | None,
    *,
    may_write: Sequence[str],
    delegates: int = 0,
    expires: int | None = None,
    redeem_by: int | None = None,
    addresses: Sequence[Address] = (),
    anchor: Anchor | None = None,
    entropy: bytes | None = None,
) -> tuple[str, bytes]:
    """(token, statement): the statement is to be added to the directory, and spreads from there. Raises ConfigError."""
    grant = directory.grant_of(me.replica_id, me.public_key)
    if grant is None or directory.rights(me.replica_id) is None:
        raise ConfigError("this agent has no rights (any longer) that it could give on: see `mesh keys show`")
    if name is not None and any(not directory.revoked(each) for each in directory.named(check_name(name))):
        raise ConfigError(f"the name {name!r} is taken: choose another")
    key = Identity.generate(entropy)
    raw = delegate(
        me,
        directory.mesh_id,
        grant.serial,
        grant.terms,
        name=name,
        may_write=may_write,
        delegates=delegates,
        expires=expires,
        redeem_by=redeem_by,
        key=key,
    )
    return write_token(charter, raw, key, addresses, _issuers(directory, me.replica_id), anchor), raw


def _issuers(directory: Directory, replica: ReplicaId) -> list[bytes]:
    """What leads from the charter to this member, the authority's first."""
    chain: list[bytes] = []
    above: ReplicaId | None = replica
    while above is not None:
        grant = directory.credential(above)
        if grant is None:
            raise ConfigError(f"{above.hex()} has no credential")
        invite, own = directory.invite_of(grant), directory.raw(grant.statement)
        chain[:0] = [each for each in (invite, own) if each is not None]
        above = directory.delegator_of(grant)
    return chain
