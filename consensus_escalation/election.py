"""Who leads: terms, votes, PreVote, and campaigns staggered by rank.

    follower --silence, my slot--> asks PreVotes --quorum--> term + 1, own vote durable, asks votes --quorum--> leader

The rules of voting are Raft's and know no scores: a rule such as "refuse whoever has a lower score" can leave nobody electable.
The score decides *when* a voter campaigns. Voters rank themselves by (demoted, score, id) and start one slot apart, so the best
that is up and has the log is there first; a worse one comes only when the better ones had their turn. What it gets wrong costs
time, never safety, and never the election.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from consensus_escalation.core import Core
from consensus_escalation.messages import AskPreVote, AskVote, HandOver, Mandate, PreVote, Vote
from consensus_escalation.quorum import has_quorum
from consensus_escalation.types import Position, Purpose, Role, Voter

LEAD_IN_SLOTS: Final = 0.5
"""Before the first slot: the last heartbeat reached some voters a little later than the one that campaigns first, and they stand
by the leader until their own silence is long enough."""
VOTE_SLOTS: Final = 2.0
"""From a majority of PreVotes on, for as many votes, at least. A slot is about two round trips on the links that a preset is for;
so a quorum of two may be four times as far apart."""
JITTER_SLOTS: Final = 0.25
"""Two voters that disagree about ranks (one knows a newer score) must not collide for ever."""
RANKED_TRIES: Final = 3
"""Campaigns in a row that are begun in the order of ranks. Where links take longer than a slot, those next to each other split
the votes in each round; after that they are drawn apart by as much as a round takes, as in the paper (5.2). Guess."""

# ---- the rules, pure: the exhaustive tests search these very functions


def is_up_to_date(candidate: Position, mine: Position) -> bool:
    """Paper 5.4.1: the voter refuses a candidate whose log is behind its own."""
    return candidate >= mine


def may_grant_vote(
    *, term: int, voted: Voter | None, mine: Position, candidate: Voter, asked_term: int, candidate_last: Position
) -> bool:
    """Paper 5.2: one vote in a term, first come first served, to a log that is at least as good. `voted` is the vote in
    `term`."""
    if asked_term < term or (asked_term == term and voted not in (None, candidate)):
        return False
    return is_up_to_date(candidate_last, mine)


def may_grant_prevote(*, term: int, mine: Position, asked_term: int, candidate_last: Position, leader_near: bool) -> bool:
    """Dissertation 9.6 and 4.2.3: would this campaign win my vote, and is there a reason for it?"""
    return asked_term > term and is_up_to_date(candidate_last, mine) and not leader_near


def mandate_bytes(epoch: int, mandate: Mandate) -> bytes:
    return epoch.to_bytes(8, "big") + mandate.term.to_bytes(8, "big") + mandate.heir


# ----


@dataclass(slots=True)
class Candidacy:
    term: int
    """The term that is asked for; while PreVotes are asked it is one above the voter's own."""
    mandate: Mandate | None
    is_pre: bool = True
    granted: set[Voter] = field(default_factory=set)
    repeat_at: float = inf
    """Those who have not said yes are asked again: a campaign that one lost datagram ends takes a second one, and where a single
    voter has the log, eight datagrams in a row would have to arrive."""


class Election:
    def __init__(self, core: Core, won: Callable[[], None]) -> None:
        """`won`: this voter leads the term it is in."""
        self._core, self._won = core, won
        self._candidacy: Candidacy | None = None
        self._departed: Voter | None = None
        self.campaign_at = 0.0
        self._tries = 0
        """Campaigns since a leader was heard."""
        self.heard_leader()

    # ---- when

    def _rank(self) -> int:
        """My place among those who may campaign now; the leader whose silence it is about comes last."""
        core = self._core
        ranking = core.ledger.ranking(core.log.config.electorate)
        guilty = core.guilt.leader if core.guilt is not None else None
        for last in (self._departed, guilty):
            if last in ranking:
                ranking.remove(last)
                ranking.append(last)
        return ranking.index(core.me) if core.me in ranking else len(ranking)

    def _slot(self) -> float:
        """Seconds from the first campaign that anybody may start to mine."""
        jitter = self._core.rng.random() * JITTER_SLOTS
        return (LEAD_IN_SLOTS + self._rank() + jitter) * self._core.pace.slot_seconds

    def _jitter(self) -> float:
        """Slots by which campaigns are drawn apart."""
        return self._core.rng.random() * (JITTER_SLOTS if self._tries <= RANKED_TRIES else len(self._core.log.config.electorate))

    def heard_leader(self) -> None:
        """A leader spoke: no campaign until it has been silent for long enough."""
        core = self._core
        self._candidacy = None
        self._tries = 0
        self._departed = core.leader
        self.campaign_at = core.now.monotonic + core.election_seconds + self._slot()

    @property
    def deadline(self) -> float:
        if self._core.role is Role.LEADER or not self._core.may_campaign:
            return inf
        return min(self.campaign_at, self._candidacy.repeat_at if self._candidacy is not None else inf)

    def tick(self) -> None:
        now = self._core.now.monotonic
        if now >= self.deadline:
            if now >= self.campaign_at:
                self.campaign(None)
            else:
                self._ask()

    # ---- campaigning

    def campaign(self, mandate: Mandate | None) -> None:
        """Ask for PreVotes. Every campaign begins so, transfers and the operator's wish too."""
        core = self._core
        if not core.may_campaign or core.role is Role.LEADER:
            return
        core.role = Role.FOLLOWER
        if mandate is None:
            if core.leader is not None:
                core.alarmed()
            core.set_leader(None)
        electorate = core.log.config.electorate
        # All who try have the same period, so that their slots stay apart in the next round too.
        self._tries += 1
        self.campaign_at = core.now.monotonic + (len(electorate) + self._jitter()) * core.pace.slot_seconds
        self._candidacy = Candidacy(core.term + 1, mandate, granted={core.me})
        self._ask()
        self._count()

    def _ask(self) -> None:
        """All who have not granted it."""
        candidacy, core = self._candidacy, self._core
        assert candidacy is not None
        candidacy.repeat_at = core.now.monotonic + core.pace.slot_seconds
        ask = AskPreVote if candidacy.is_pre else AskVote
        for voter in core.others(core.log.config.electorate):
            if voter not in candidacy.granted:
                core.send(voter, ask(candidacy.term, core.log.last, candidacy.mandate, self._proof(candidacy.mandate)))

    def _proof(self, mandate: Mandate | None) -> bytes:
        """One reason is enough to campaign, and one frame has no room for two."""
        return self._core.guilt.proof if self._core.guilt is not None and mandate is None else b""

    def leader_is_guilty(self) -> None:
        """Its reign is over for me: campaign in my slot, not after its silence."""
        self._candidacy = None
        self._core.follow(None)
        self.campaign_at = self._core.now.monotonic + self._slot()

    def _count(self) -> None:
        candidacy, core = self._candidacy, self._core
        if candidacy is None or not has_quorum(core.log.config, candidacy.granted):
            return
        if not candidacy.is_pre:
            self._candidacy = None
            self._won()
            return
        self._candidacy = Candidacy(candidacy.term, candidacy.mandate, is_pre=False)
        core.role = Role.CANDIDATE
        core.set_leader(None)
        core.set_term(candidacy.term, core.me)
        # Where the PreVotes took long, votes do: else two voters far apart give up each term just before it is won.
        patience = (VOTE_SLOTS + self._jitter()) * core.pace.slot_seconds
        self.campaign_at = max(self.campaign_at, core.now.monotonic + patience)
        self._ask()

    def voted_for_myself(self, term: int) -> None:
        """My own vote of `term` is durable, so it counts."""
        if self._is_candidate_of(term):
            self._grant(self._core.me)

    def _is_candidate_of(self, term: int) -> bool:
        return self._candidacy is not None and not self._candidacy.is_pre and self._candidacy.term == term == self._core.term

    def _grant(self, voter: Voter) -> None:
        if self._candidacy is not None:
            self._candidacy.granted.add(voter)
            self._count()

    def handed_over(self, sender: Voter, message: HandOver) -> None:
        """The leader wants me to lead. It told no one else, so the mandate goes with what I ask."""
        if message.term == self._core.term and sender == self._core.leader and message.mandate.heir == self._core.me:
            self.campaign(message.mandate)

    # ---- voting

    def _is_mandated(self, sender: Voter, mandate: Mandate | None) -> bool:
        """Whether the leader that I hear gave way to `sender`."""
        core = self._core
        if mandate is None or mandate.heir != sender or mandate.term != core.term:
            return False
        leader = core.me if core.role is Role.LEADER else core.leader
        return leader is not None and core.keys.verify(
            leader, Purpose.MANDATE, mandate_bytes(core.epoch, mandate), mandate.signature
        )

    def _gave_up(self, sender: Voter, term: int) -> None:
        """Who leads my term asks for a later one, so it fell silent: nobody has to stand by it, and it was no false alarm."""
        core = self._core
        if term > core.term and sender == core.leader:
            core.set_leader(None)
            self.campaign_at = min(self.campaign_at, core.now.monotonic + self._slot())

    def asked_prevote(self, sender: Voter, message: AskPreVote) -> None:
        core = self._core
        self._gave_up(sender, message.term)
        near = core.refuses(message.last) or (core.is_leader_near() and not self._is_mandated(sender, message.mandate))
        granted = may_grant_prevote(
            term=core.term, mine=core.log.last, asked_term=message.term, candidate_last=message.last, leader_near=near
        )
        core.send(sender, PreVote(message.term if granted else core.term, granted))

    def prevoted(self, sender: Voter, message: PreVote) -> None:
        candidacy = self._candidacy
        if candidacy is None or not candidacy.is_pre:
            return
        if message.granted and message.term == candidacy.term:
            self._grant(sender)

    def asked_vote(self, sender: Voter, message: AskVote) -> None:
        core = self._core
        self._gave_up(sender, message.term)
        is_mandated = message.term > core.term and self._is_mandated(sender, message.mandate)
        if message.term > core.term and core.is_leader_near() and not is_mandated:
            return  # whoever was removed, or cannot hear the leader, must not unseat it (dissertation 4.2.3)
        granted = may_grant_vote(
            term=core.term,
            voted=core.vote,
            mine=core.log.last,
            candidate=sender,
            asked_term=message.term,
            candidate_last=message.last,
        )
        if message.term > core.term:
            if core.leader is not None and not is_mandated:
                core.alarmed()
            self.lost_to(message.term, sender if granted else None)
        elif granted and core.vote is None:
            core.set_term(core.term, sender)
        if granted:
            # Give whom I voted for its time to win: my own slot counts from now.
            self.campaign_at = max(self.campaign_at, core.now.monotonic + core.pace.slot_seconds * (1 + self._rank()))
        core.send(sender, Vote(core.term, granted))

    def voted(self, sender: Voter, message: Vote) -> None:
        if message.granted and self._is_candidate_of(message.term):
            self._grant(sender)

    def lost_to(self, term: int, vote: Voter | None = None) -> None:
        """A higher term is known: whatever this voter was in its own is over (paper 5.1)."""
        core = self._core
        self._candidacy = None
        core.role = Role.FOLLOWER
        core.set_leader(None)
        core.set_term(term, vote)
