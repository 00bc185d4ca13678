"""The open proposals of this voter: those it has judged, and those that it put forward as leader.

Evidence is free to forget; this voter's own verdicts are on the disk before they leave (`effects.VerdictStored`).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import inf
from typing import Final

from consensus_escalation.block import Entry
from consensus_escalation.core import Core
from consensus_escalation.effects import Dissent, Judge, Judged, Refused, VerdictStored
from consensus_escalation.impeachment import refused_proof
from consensus_escalation.messages import CastVerdict, Propose
from consensus_escalation.quorum import has_quorum
from consensus_escalation.types import Purpose, Voter
from consensus_escalation.verdict import (
    RULE_BYTES_MAX,
    Proposal,
    Verdict,
    endorsers,
    is_genuine,
    is_hopeless,
    just_enough,
    may_cast,
    with_endorsements,
)

OPEN_MAX: Final = 256
"""Proposals remembered at once; the oldest evidence goes first. Verdicts of this term never do: they are small."""

JUDGING_SECONDS_MAX: Final = 120.0
"""For the judges of one voter. The mesh gives each of them 30 s."""
REPEAT_SECONDS_MAX: Final = 1.0
"""Between two questions to a voter that has not answered."""
WAITING_MAX: Final = 64
"""Proposals that wait for verdicts at once; each is repeated to every voter with each heartbeat. Guess."""
CHANGED: Final = "term, policy or voters changed"
"""Nothing against the entry: it may be proposed again."""


@dataclass(slots=True)
class Case:
    proposal: Proposal
    verdicts: dict[Voter, Verdict] = field(default_factory=dict)
    give_up_at: float = inf
    """Monotonic; only for proposals that this leader put forward."""
    begun: float = 0.0
    repeat_at: float = -inf
    is_appended: bool = False


class Docket:
    def __init__(self, core: Core, cast: dict[bytes, Verdict]) -> None:
        """`cast`: this voter's own verdicts, from the disk."""
        self._core, self._cast = core, cast
        self._cases: OrderedDict[bytes, Case] = OrderedDict()
        self._attempts = 0

    # ---- leader

    @property
    def is_full(self) -> bool:
        """So many proposals of this leader wait for verdicts that another one has to wait at its author (backpressure)."""
        return sum(case.give_up_at < inf for case in self._cases.values()) >= WAITING_MAX

    def propose(self, entry: Entry) -> bool:
        """Once: its author sends again while judges think it over, and people are not asked twice. False when it is under way."""
        core = self._core
        if any(case.proposal.entry == entry and self._is_under_way(case) for case in self._cases.values()):
            return False
        self._attempts += 1
        proposal = Proposal(
            core.epoch,
            core.term,
            self._attempts,
            core.me,
            entry,
            core.commit,
            core.ledger.policy_index,
            core.log.config_index,
        )
        proposal = proposal._replace(signature=core.keys.sign(Purpose.PROPOSAL, proposal.signed_bytes(core.keys)))
        case = self._open(proposal)
        case.begun = core.now.monotonic
        case.give_up_at = case.begun + core.pace.verdict_seconds
        self.repeat()
        return True

    def _is_under_way(self, case: Case) -> bool:
        return case.proposal.term == self._core.term and (case.give_up_at < inf or case.is_appended)

    def repeat(self) -> None:
        """Ask those who have not answered: with every heartbeat, for datagrams are lost and voters may have deferred."""
        core = self._core
        now = core.now.monotonic
        for case in list(self._cases.values()):
            if case.give_up_at < inf and now >= case.repeat_at:
                case.repeat_at = now + min(REPEAT_SECONDS_MAX, (now - case.begun) / 4)
                for voter in core.log.config.electorate:
                    if voter == core.me:
                        self.proposed(core.me, case.proposal)
                    elif voter not in case.verdicts:
                        core.send_at_once(voter, Propose(core.term, case.proposal))

    def take(self) -> list[Entry]:
        """Entries that may be appended now; what cannot be any more is refused, definitely."""
        core, found = self._core, []
        for digest, case in list(self._cases.items()):
            if case.give_up_at == inf:
                continue
            config, proposal = core.log.config, case.proposal
            conditions = (core.term, core.ledger.policy_index, core.log.config_index, core.me)
            if is_hopeless(config, case.verdicts):  # first: it may have cost this leader its term
                self._refuse(digest, case, "; ".join(sorted({v.rule for v in case.verdicts.values() if v.is_refusal})))
            elif conditions != (proposal.term, proposal.policy_index, proposal.config_index, core.leader):
                self._refuse(digest, case, CHANGED)
            elif has_quorum(config, endorsers(case.verdicts)):
                case.give_up_at, case.is_appended = inf, True
                found.append(with_endorsements(proposal, case.verdicts, config, core.keys))
            elif core.now.monotonic >= case.give_up_at:
                if digest not in self._cast and core.now.monotonic - case.begun < JUDGING_SECONDS_MAX:
                    case.give_up_at += core.pace.verdict_seconds  # this voter's own judges are still at it: people, perhaps
                else:
                    self._refuse(digest, case, "no quorum of verdicts")
        return found

    def _refuse(self, digest: bytes, case: Case, reason: str) -> None:
        case.give_up_at = inf
        self._core.effects.append(Refused(case.proposal.entry, reason, self._core.leader))

    # ---- judging

    def _open(self, proposal: Proposal) -> Case:
        digest = self._core.keys.hash(proposal.signed_bytes(self._core.keys))
        if digest not in self._cases:
            self._cases[digest] = Case(proposal)
            if len(self._cases) > OPEN_MAX:
                closed = (key for key, case in self._cases.items() if case.give_up_at == inf)
                self._cases.pop(next(closed, digest))
        return self._cases.get(digest) or Case(proposal)

    def proposed(self, sender: Voter, proposal: Proposal) -> None:
        """The leader asks. Deferred, that is not answered, while I have not applied what it builds on."""
        core = self._core
        signed = proposal.signed_bytes(core.keys)
        if sender != core.leader or proposal.leader != sender or proposal.term != core.term or proposal.epoch != core.epoch:
            return
        if core.me not in core.log.config.electorate or core.commit < proposal.base_index:
            return
        digest = core.keys.hash(signed)
        if digest in self._cast:
            self._tell(self._cast[digest], sender)
        elif sender == core.me or core.keys.verify(sender, Purpose.PROPOSAL, signed, proposal.signature):
            self._open(proposal)
            core.effects.append(Judge(digest, proposal))

    def judged(self, given: Judged) -> None:
        """The host's judges have decided."""
        core, case = self._core, self._cases.get(given.proposal)
        if case is None or not may_cast(case.proposal.term, core.term, self._cast.get(given.proposal)):
            return
        rule = given.rule.encode()[:RULE_BYTES_MAX].decode(errors="ignore")
        verdict = Verdict(given.proposal, core.term, core.me, rule)
        verdict = verdict._replace(signature=core.keys.sign(Purpose.VERDICT, verdict.signed_bytes(core.keys)))
        self._cast = {key: old for key, old in self._cast.items() if old.term == core.term}
        self._cast[given.proposal] = verdict
        if case.give_up_at < inf:  # the others' judges may need as long as mine did
            took = core.now.monotonic - case.begun
            case.give_up_at = max(case.give_up_at, core.now.monotonic + max(core.pace.verdict_seconds, took))
        core.persist(VerdictStored(verdict))
        if verdict.is_refusal:
            core.effects.append(Dissent(case.proposal, verdict))
            for voter in core.others(core.log.config.everyone):
                core.send(voter, CastVerdict(core.term, verdict, case.proposal))
        elif case.proposal.leader != core.me:
            self._tell(verdict, case.proposal.leader)

    def _tell(self, verdict: Verdict, leader: Voter) -> None:
        if leader != self._core.me:
            self._core.send(leader, CastVerdict(self._core.term, verdict, None))

    def own_durable(self) -> None:
        """All that was written is on the disk: this voter's own verdicts count with itself."""
        for digest, case in self._cases.items():  # not over those cast: they are kept for a whole term
            if digest in self._cast:
                case.verdicts.setdefault(self._core.me, self._cast[digest])

    def _learn(self, proposal: Proposal, verdict: Verdict) -> None:
        """From a voter that refused it; only if its leader did put it forward, or operators hear of dissent without a cause."""
        core, signed = self._core, proposal.signed_bytes(self._core.keys)
        is_meant = proposal.epoch == core.epoch and core.keys.hash(signed) == verdict.proposal
        if is_meant and core.keys.verify(proposal.leader, Purpose.PROPOSAL, signed, proposal.signature):
            self._open(proposal)

    def heard(self, message: CastVerdict) -> None:
        core, verdict = self._core, message.verdict
        if message.proposal is not None and message.proposal.term == core.term == verdict.term:
            self._learn(message.proposal, verdict)
        case = self._cases.get(verdict.proposal)
        if case is None or verdict.voter in case.verdicts or verdict.voter not in core.log.config.electorate:
            return
        if is_genuine(verdict, core.keys):
            case.verdicts[verdict.voter] = verdict
            if verdict.is_refusal:
                core.effects.append(Dissent(case.proposal, verdict))

    def proofs(self) -> list[bytes]:
        """What refusals prove so far against leaders who authored what was refused."""
        core, found = self._core, []
        for case in self._cases.values():
            refusals = [verdict for verdict in case.verdicts.values() if verdict.is_refusal]
            is_its_own = case.proposal.entry.author == case.proposal.leader and case.proposal.term == core.term
            refusers = {verdict.voter for verdict in refusals}
            if is_its_own and has_quorum(core.log.config, refusers):
                enough = just_enough(core.log.config, refusers)
                found.append(refused_proof(case.proposal, [case.verdicts[voter] for voter in enough], core.keys))
        return found
