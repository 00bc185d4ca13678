"""Proofs that a leader must go, which anybody can check without trusting anybody.

    refused        a quorum refused a proposal that the leader itself authored
    equivocation   it signed two headers for one (epoch, term, index)
    unendorsed     it cut a block with a dangerous entry and without its endorsements

Whoever holds a proof treats that leader as dead for that term, ranks it last, and campaigns by rank with the proof attached; the
next leader logs DEMOTE with it. A client that asks for something dangerous deposes nobody, since it is the author then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from consensus_escalation.block import Block, Entry, Header, Kind, block_from_bytes_untrusted, header_from_bytes_untrusted
from consensus_escalation.quorum import CONFIG_SIZE_MAX, Config, has_quorum
from consensus_escalation.types import Keys, Purpose, Voter
from consensus_escalation.verdict import Proposal, Verdict, is_endorsed_untrusted, is_genuine
from crdt.errors import Malformed

REFUSED, EQUIVOCATION, UNENDORSED = "refused", "equivocation", "unendorsed"
PROOF_BYTES_MAX: Final = 1040
"""An unendorsed block and the words around it; it travels with a campaign, in one frame. Too large for an entry: see
`Guilt.fits_log`."""
ENTRY_PROOF_BYTES_MAX: Final = 600


class Guilt(NamedTuple):
    """What a proof proves."""

    leader: Voter
    term: int
    proof: bytes

    @property
    def fits_log(self) -> bool:
        return len(self.proof) <= ENTRY_PROOF_BYTES_MAX


def refused_proof(proposal: Proposal, verdicts: Iterable[Verdict], keys: Keys) -> bytes:
    rows = [[verdict.voter, verdict.rule, verdict.signature] for verdict in sorted(verdicts, key=lambda one: one.voter)]
    return keys.encode([REFUSED, [*proposal[:4], list(proposal.entry), *proposal[5:]], rows])


def equivocation_proof(first: Block, second: Block, keys: Keys) -> bytes:
    return keys.encode([EQUIVOCATION, first.header_bytes, first.signature, second.header_bytes, second.signature])


def unendorsed_proof(block: Block, keys: Keys) -> bytes:
    return keys.encode([UNENDORSED, block.header_bytes, block.signature, block.body])


def read_proof_untrusted(
    raw: bytes, epoch: int, config_at: Callable[[int], Config | None], is_dangerous: Callable[[Entry], bool], keys: Keys
) -> Guilt | None:
    """Whom it proves guilty, and in which term; None when it proves nothing. `config_at`: the configuration written at an
    index."""
    if len(raw) > PROOF_BYTES_MAX:
        return None
    try:
        match keys.decode_untrusted(raw):
            case ["refused", tuple(proposal), tuple(rows)] if len(rows) <= 2 * CONFIG_SIZE_MAX:
                found = _refused_untrusted(proposal, rows, epoch, config_at, keys)
            case ["equivocation", bytes(first), bytes(signed), bytes(second), bytes(signed_too)]:
                found = _equivocation_untrusted(first, signed, second, signed_too, keys)
            case ["unendorsed", bytes(header), bytes(signature), bytes(body)]:
                block = block_from_bytes_untrusted(header, signature, body, keys)
                found = _unendorsed(block, config_at, is_dangerous, keys)
            case _:
                return None
    except (Malformed, TypeError, ValueError):
        return None
    if found is None or found[0] != epoch:
        return None
    return Guilt(found[1], found[2], raw)


Found = tuple[int, Voter, int]
"""(epoch, leader, term)."""


def _refused_untrusted(
    value: tuple[object, ...], rows: tuple[object, ...], epoch: int, config_at: Callable[[int], Config | None], keys: Keys
) -> Found | None:
    if len(value) != 9 or not isinstance(value[4], list | tuple):
        return None
    entry = Entry(*value[4])
    proposal = Proposal(*value)._replace(entry=entry)  # type: ignore[arg-type]
    signed = proposal.signed_bytes(keys)
    digest = keys.hash(signed)
    if entry.author != proposal.leader or not keys.verify(proposal.leader, Purpose.PROPOSAL, signed, proposal.signature):
        return None
    refusers = set()
    for row in rows:
        match row:
            case [bytes(voter), str(rule), bytes(signature)] if rule:
                if is_genuine(Verdict(digest, proposal.term, Voter(voter), rule, signature), keys):
                    refusers.add(Voter(voter))
            case _:
                return None
    config = config_at(proposal.config_index)
    return (
        (epoch, proposal.leader, proposal.term) if config and proposal.epoch == epoch and has_quorum(config, refusers) else None
    )


def _signed_header_untrusted(raw: bytes, signature: bytes, keys: Keys) -> Header | None:
    header = header_from_bytes_untrusted(raw, keys)
    return header if keys.verify(header.leader, Purpose.BLOCK, raw, signature) else None


def _equivocation_untrusted(first: bytes, signed: bytes, second: bytes, signed_too: bytes, keys: Keys) -> Found | None:
    one, other = _signed_header_untrusted(first, signed, keys), _signed_header_untrusted(second, signed_too, keys)
    if one is None or other is None or first == second:
        return None
    alike = (one.epoch, one.term, one.index, one.leader) == (other.epoch, other.term, other.index, other.leader)
    return (one.epoch, one.leader, one.term) if alike else None


def _unendorsed(
    block: Block, config_at: Callable[[int], Config | None], is_dangerous: Callable[[Entry], bool], keys: Keys
) -> Found | None:
    header, config = block.header, config_at(block.header.config_index)
    if config is None or not keys.verify(header.leader, Purpose.BLOCK, block.header_bytes, block.signature):
        return None
    bad = any(is_dangerous(entry) and not is_endorsed_untrusted(entry, header, config, keys) for entry in block.entries)
    return (header.epoch, header.leader, header.term) if bad else None


def demote_entry(guilt: Guilt) -> Entry:
    """What the next leader logs. Its block is stored only by voters whom the proof convinces."""
    return Entry(Kind.DEMOTE, body=guilt.leader, evidence=guilt.proof)
