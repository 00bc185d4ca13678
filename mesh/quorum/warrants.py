"""The authority's countersignature on a voter's removal: the statement by which it took the vote away, in the block that does it.

    revocation, cut                     of the voter, or of the invite that it joined by
    credential without a vote           of the voter

Where the authority said nothing (a voter was dead for long, and nobody holds the key), the voters' own certificate is all there
is. So who reads the log later sees which removals somebody outside of the quorum stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crdt.ids import ReplicaId
from mesh.errors import Malformed, Refused
from mesh.quorum.scores import is_certified
from mesh.trust import Directory
from mesh.trust.endings import Cut
from mesh.trust.identity import key_id
from mesh.trust.membership import PRESENTED_MAX, present, presented_untrusted
from mesh.trust.statements import Content, Credential, Revocation, statement_from_bytes_untrusted


def warrant(directory: Directory, voters: Sequence[ReplicaId], room: int) -> bytes:
    """The newest of these statements about each, as many as fit into so many bytes; empty when none does."""
    chosen: list[bytes] = []
    for voter in voters[:PRESENTED_MAX]:
        raw = _newest(directory, voter)
        if raw is not None and len(present([*chosen, raw])) <= room:
            chosen.append(raw)
    return present(chosen) if chosen else b""


def _newest(directory: Directory, voter: ReplicaId) -> bytes | None:
    grant = directory.credential(voter)
    issued = None if grant is None or grant.terms.voter else directory.raw(grant.statement)
    raws = [*directory.revocations_of(voter), *([] if issued is None else [issued])]
    return max(raws, key=lambda raw: (_serial(raw), raw), default=None)


def _serial(raw: bytes) -> int:
    serial: int = getattr(statement_from_bytes_untrusted(raw).content, "serial", 0)
    return serial


def dismissed_by_untrusted(directory: Directory, evidence: bytes, voters: Iterable[ReplicaId]) -> set[ReplicaId]:
    """Of these voters, those whose dismissal the authority signed here; none when anything else is in the evidence."""
    if not is_certified(directory, evidence):
        return set()
    try:
        contents = [statement_from_bytes_untrusted(raw).content for raw in presented_untrusted(evidence)]
    except (Malformed, Refused):
        return set()
    found = set[ReplicaId]()
    for content in contents:
        dismissed = {voter for voter in voters if _dismisses(directory, content, voter)}
        if not dismissed:
            return set()
        found |= dismissed
    return found


def _dismisses(directory: Directory, content: Content, voter: ReplicaId) -> bool:
    match content:
        case Revocation(subject=subject) | Cut(subject=subject):
            return subject in directory.names_of(voter)
        case Credential(public_key=key, terms=terms, replica=replica):
            return not terms.voter and (key_id(key) if replica is None else replica) == voter
        case _:
            return False
