"""Certified scores, from credentials into the log: the statements of the authority are the evidence of a SCORE entry."""

from __future__ import annotations

from typing import Final

from consensus_escalation.block import Entry, Kind
from consensus_escalation.ledger import Ledger, Score
from consensus_escalation.raft import BODY_BYTES_MAX
from crdt.ids import ReplicaId
from mesh.errors import Malformed, Refused
from mesh.trust import Directory
from mesh.trust.identity import key_id
from mesh.trust.membership import present, presented_untrusted
from mesh.trust.standing import SECOND
from mesh.trust.statements import Credential, Enrolment, Invite, Terms, statement_from_bytes_untrusted

EVIDENCE_BYTES_MAX: Final = BODY_BYTES_MAX - 40
FOR_EVER: Final = (1 << 63) - 1


def read_score(evidence: bytes) -> Score | None:
    """What the statements say, a function of the bytes alone; that the authority made them is checked before the entry is
    stored (`is_certified`), and not again by whoever trusts the certificate."""
    try:
        contents = [statement_from_bytes_untrusted(raw).content for raw in presented_untrusted(evidence)]
    except (Malformed, Refused):
        return None
    match contents:
        case [Credential(serial, _, terms) as credential]:
            return _score(credential.subject, serial, terms)
        case [Invite(serial, _, terms), Enrolment(public_key)]:
            return _score(key_id(public_key), serial, terms)
        case _:
            return None


def _score(replica: ReplicaId, serial: int, terms: Terms) -> Score:
    return Score(replica, terms.score, serial, FOR_EVER if terms.expires is None else min(terms.expires * SECOND, FOR_EVER))


def is_certified(directory: Directory, evidence: bytes) -> bool:
    """Whether whoever may say this signed it. A log keeps what the statements' own set has lost: a power cut may come between
    the two files, on all disks at once."""
    try:
        return all(map(directory.is_genuine_untrusted, presented_untrusted(evidence)))
    except Malformed:
        return False


def due(directory: Directory, ledger: Ledger) -> list[tuple[int, Entry]]:
    """(serial, entry) of scores that the log does not have yet."""
    found = []
    for replica in directory.replicas():
        grant = directory.credential(replica)
        if grant is None or not grant.terms.voter or directory.revoked(replica):
            continue
        held = ledger.scores.get(replica)
        if (held is None and not grant.terms.score) or (held is not None and held.serial >= grant.serial):
            continue
        proof = (directory.invite_of(grant), directory.raw(grant.statement))
        evidence = present([raw for raw in proof if raw is not None])
        if len(evidence) <= EVIDENCE_BYTES_MAX:
            found.append((grant.serial, Entry(Kind.SCORE, evidence=evidence)))
    return found
