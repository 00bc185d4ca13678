"""What `mesh keys show` lists: every key that a statement speaks of, and where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from mesh.effects import Now
from mesh.trust.identity import key_id
from mesh.trust.ledger import Ledger
from mesh.trust.standing import SECOND
from mesh.trust.statements import KeyId, Terms


class KeyState(Enum):
    MEMBER = "member"
    EXPIRED = "expired"
    REVOKED = "revoked"
    CUT = "cut"
    """Ended for good: another member speaks for what is known of it."""
    INVITED = "invited"
    """An invite that nobody redeemed, as far as is known here."""
    REFUSED = "refused"
    """Redeemed an invite that is another's."""


class KeyInfo(NamedTuple):
    """One line of `mesh keys show`."""

    name: str
    key_id: KeyId
    """The replica's id; of the invite's key while nobody redeemed it."""
    public_key: bytes
    state: KeyState
    serial: int
    may_write: tuple[str, ...]
    voter: bool
    score: int
    expires: int | None
    """Seconds since 1970; of an invite: until when it can be redeemed."""


def list_keys(ledger: Ledger, now: Now) -> list[KeyInfo]:
    """By name."""
    return sorted(
        [*_members(ledger, now), *_refused(ledger), *_invites(ledger, now)],
        key=lambda each: (each.name, each.key_id, each.serial, each.may_write, each.expires or 0),
    )


def _members(ledger: Ledger, now: Now) -> Iterator[KeyInfo]:
    for replica, standing in ledger.standings.items():
        cut = ledger.endings.is_cut(replica)
        grant, state = standing.newest, KeyState.CUT if cut else KeyState(standing.admission(now).value)
        told = _info(ledger.name(replica), standing.public_key, state, grant.serial, grant.terms, grant.terms.expires)
        yield told._replace(key_id=replica)  # also where it signs with a later key than its first


def _refused(ledger: Ledger) -> Iterator[KeyInfo]:
    for key, contest in ledger.contests.items():
        if key in ledger.invites:
            invite = ledger.newest_invite(key)
            for loser in contest.keys:
                if loser != ledger.chosen(key) and key_id(loser) not in ledger.standings:
                    name = f"{invite.terms.name or 'agent'}~{key_id(loser).hex()[:8]}"
                    yield _info(name, loser, KeyState.REFUSED, invite.serial, invite.terms, invite.terms.expires)


def _invites(ledger: Ledger, now: Now) -> Iterator[KeyInfo]:
    for key in ledger.invites:
        if ledger.chosen(key) is None:
            invite = ledger.newest_invite(key)
            out = invite.redeem_by is not None and now.wall >= invite.redeem_by * SECOND
            state = KeyState.REVOKED if ledger.invite_is_revoked(key) else KeyState.EXPIRED if out else KeyState.INVITED
            name = invite.terms.name or f"invite-{key.hex()[:8]}"
            yield _info(name, invite.invite_key, state, invite.serial, invite.terms, invite.redeem_by)


def _info(name: str, public_key: bytes, state: KeyState, serial: int, terms: Terms, expires: int | None) -> KeyInfo:
    return KeyInfo(name, key_id(public_key), public_key, state, serial, terms.may_write, terms.voter, terms.score, expires)
