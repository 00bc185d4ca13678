"""The dangerous class: endorse, then append.

    leader  --Proposal-->  every voter judges, once, durably  --Verdict-->  leader  --a quorum endorses-->  entry with
    endorsements
                                                              --REFUSE-->  everybody: it may be the proof of an impeachment

A verdict is exclusive: one voter never both endorses and refuses one proposal, not across a crash either, so a quorum cannot have
done both. The proposal names term, policy and configuration; endorsements given under others are worth nothing. An
acknowledgement of Raft stays what it is, "stored": nobody refuses inside append, because then nobody could know what is
committed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from consensus_escalation.block import Entry, Header
from consensus_escalation.quorum import CONFIG_SIZE_MAX, Config, has_quorum
from consensus_escalation.types import Keys, Purpose, Voter
from crdt.errors import Malformed

RULE_BYTES_MAX: Final = 48
"""The name of a rule that refuses: a proof holds several."""
ENDORSED_BYTES_MAX: Final = 660
"""What an entry of the dangerous class may take of a block, with its endorsements: a proof that it was refused has to fit a
frame."""


class Proposal(NamedTuple):
    epoch: int
    term: int
    attempt: int
    """Makes a second try of the same entry another proposal."""
    leader: Voter
    entry: Entry
    """Its author is who wants it; without evidence."""
    base_index: int
    """A voter judges once it has applied up to here."""
    policy_index: int
    config_index: int
    signature: bytes = b""
    """The leader's."""

    def signed_bytes(self, keys: Keys) -> bytes:
        return keys.encode([*self[:4], list(self.entry), *self[5:8]])


class Verdict(NamedTuple):
    proposal: bytes
    """Hash of the proposal's signed bytes."""
    term: int
    voter: Voter
    rule: str
    """Which rule refuses; empty to endorse."""
    signature: bytes = b""

    @property
    def is_refusal(self) -> bool:
        return bool(self.rule)

    def signed_bytes(self, keys: Keys) -> bytes:
        return keys.encode([self.proposal, self.term, self.rule])


def may_cast(proposal_term: int, my_term: int, cast_before: Verdict | None) -> bool:
    """One verdict for a proposal, and only in the term that it was made in."""
    return cast_before is None and proposal_term == my_term


def is_genuine(verdict: Verdict, keys: Keys) -> bool:
    return keys.verify(verdict.voter, Purpose.VERDICT, verdict.signed_bytes(keys), verdict.signature)


def endorsers(verdicts: Mapping[Voter, Verdict]) -> set[Voter]:
    return {voter for voter, verdict in verdicts.items() if not verdict.is_refusal}


def is_hopeless(config: Config, verdicts: Mapping[Voter, Verdict]) -> bool:
    """Whether so many have refused that no quorum can endorse any more."""
    return not has_quorum(config, set(config.electorate) - {voter for voter, verdict in verdicts.items() if verdict.is_refusal})


def just_enough(config: Config, agreed: Collection[Voter]) -> list[Voter]:
    """Of those who agreed a quorum and no more, sorted: evidence has to fit a block. All of them when they are none."""
    chosen = sorted(set(agreed) & set(config.electorate))
    for voter in list(chosen):
        if has_quorum(config, set(chosen) - {voter}):
            chosen.remove(voter)
    return chosen


def proposed_bytes_max(config: Config) -> int:
    """What an entry of the dangerous class may take of a block, without its endorsements."""
    endorsements = 24 + 80 * len(just_enough(config, config.electorate))
    return ENDORSED_BYTES_MAX - endorsements


def with_endorsements(proposal: Proposal, verdicts: Mapping[Voter, Verdict], config: Config, keys: Keys) -> Entry:
    """The entry as it goes into the log: what the header does not say about the proposal, and who endorsed it."""
    rows = [[voter, verdicts[voter].signature] for voter in just_enough(config, endorsers(verdicts))]
    return proposal.entry._replace(evidence=keys.encode([proposal.attempt, proposal.base_index, rows]))


def is_endorsed_untrusted(entry: Entry, header: Header, config: Config, keys: Keys) -> bool:
    """Whether a quorum of `config`, the one before the block, endorsed this entry for the term, policy and configuration of
    `header`."""
    return has_quorum(config, endorsed_by_untrusted(entry, header, keys))


def endorsed_by_untrusted(entry: Entry, header: Header, keys: Keys) -> set[Voter]:
    """Who signed an endorsement that counts there; names without a signature are no evidence."""
    try:
        match keys.decode_untrusted(entry.evidence):
            case [int(attempt), int(base_index), tuple(rows)] if len(rows) <= 2 * CONFIG_SIZE_MAX:
                pass
            case _:
                return set()
    except Malformed:
        return set()
    bare = entry._replace(evidence=b"")
    proposal = Proposal(
        header.epoch, header.term, attempt, header.leader, bare, base_index, header.policy_index, header.config_index
    )
    digest = keys.hash(proposal.signed_bytes(keys))
    valid = set[Voter]()
    for row in rows:
        match row:
            case [bytes(voter), bytes(signature)]:
                if is_genuine(Verdict(digest, header.term, Voter(voter), "", signature), keys):
                    valid.add(Voter(voter))
            case _:
                return set()
    return valid
