"""A member lets others in below its own rights: a robot its arm, the arm its gripper. No authority is needed, nor anybody online.

A delegation is an invite that a member signed. It counts while

- it is narrower than the delegator's rights of the same serial: patterns contained, fewer levels of delegation, no vote, no
  score, running out no later;
- the key that signed it is the one of that serial, and was not closed since, unless the closing lists it.

Taking rights from the delegator takes them from everybody below it: what a delegate wrote counts then as far as a revocation of
its own says, and not at all without one (`mesh keys revoke` makes one for each). Names that a delegator gives never take the
precedence of those that the authority gave. A delegate is no witness of contests, so letting in many gains no votes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from mesh.errors import ConfigError
from mesh.trust.containment import contains
from mesh.trust.identity import Identity
from mesh.trust.patterns import checked_patterns
from mesh.trust.statements import Invite, Terms, check_name, check_terms, issue
from mesh.wire import cbor
from mesh.wire.cose import to_be_signed

PROOF_PURPOSE: Final = b"gossipmesh delegation"
INVITE_BYTES_MAX: Final = 768
"""An invite and an enrolment open a session together, in one datagram."""


def is_narrower(terms: Terms, than: Terms) -> bool:
    """Whether these terms are within those of a delegator."""
    return (
        terms.delegates < than.delegates
        and not terms.voter
        and terms.score == 0
        and (than.expires is None or (terms.expires is not None and terms.expires <= than.expires))
        and _contains(than.may_write, terms.may_write)
    )


def delegate(
    me: Identity,
    mesh_id: bytes,
    serial: int,
    mine: Terms,
    *,
    name: str | None,
    may_write: Sequence[str],
    delegates: int,
    expires: int | None,
    redeem_by: int | None,
    key: Identity,
) -> bytes:
    """The statement. `mine`: the own terms, of `serial`. Raises ConfigError, which says what is not narrower."""
    if not mine.delegates:
        raise ConfigError("this agent may not let others in: its credential would need delegates=1 (`mesh invite --delegates 1`)")
    if name is not None:
        check_name(name)
    expires = mine.expires if expires is None else expires
    terms = check_terms(Terms(name, checked_patterns(may_write), voter=False, score=0, expires=expires, delegates=delegates))
    if not _contains(mine.may_write, terms.may_write):
        wanted, allowed = ", ".join(terms.may_write), ", ".join(mine.may_write)
        raise ConfigError(f"{wanted}: not all of it is within what this agent may write ({allowed})")
    if not is_narrower(terms, mine):
        raise ConfigError("a delegate can let in one level less than this agent, and its rights run out no later")
    check_terms(terms._replace(expires=redeem_by))
    invite = Invite(serial, key.public_key, terms, redeem_by, me.replica_id)
    raw = issue(invite._replace(proof=key.sign(_proof(invite, mesh_id))), me, mesh_id)
    if len(raw) > INVITE_BYTES_MAX:
        raise ConfigError(f"the invite has {len(raw)} bytes, at most {INVITE_BYTES_MAX} fit: fewer or shorter patterns")
    return raw


def has_proof(invite: Invite, mesh_id: bytes, verify: Callable[[bytes, bytes, bytes], bool]) -> bool:
    """Whether the holder of the invite's key agreed to this delegation."""
    return verify(invite.invite_key, _proof(invite, mesh_id), invite.proof)


def _proof(invite: Invite, mesh_id: bytes) -> bytes:
    return to_be_signed(cbor.encode([invite.delegator, invite.serial]), PROOF_PURPOSE, mesh_id)


@lru_cache(maxsize=1024)
def _contains(outer: tuple[str, ...], inner: tuple[str, ...]) -> bool:
    return contains(outer, inner)
