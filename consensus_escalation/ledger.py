"""What committed entries say about the quorum itself: scores, demotions, policy, sessions, log time.

A pure function of the committed blocks, the same on every voter. It is brought forward when blocks commit, and travels in
snapshots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from consensus_escalation.block import Block, Entry, Kind, time_of
from consensus_escalation.sessions import Admission, Key, Past, Sessions
from consensus_escalation.types import Voter, are_numbers
from crdt.errors import Malformed

SCORE_MAX: Final = 15


class Score(NamedTuple):
    """A score as certified by the authority."""

    voter: Voter
    score: int
    serial: int
    """Of the certificate; an older one never replaces a newer."""
    expires: int
    """Log time, microseconds."""


ReadScore = Callable[[bytes], Score | None]
"""Verifies the authority's statement; None when it is not one. Deterministic: a function of the bytes alone."""


def key_of(entry: Entry) -> Key:
    return Key(entry.since, entry.author, entry.number)


def name_of(entry: Entry) -> Key:
    """A key that its user chose is the same whatever `since` a retry names."""
    key = key_of(entry)
    return key._replace(since=0) if key.is_named else key


class Ledger:
    def __init__(self, read_score: ReadScore) -> None:
        self.read_score = read_score
        self.time = 0
        self.attested = 0
        """The time that a quorum's clocks have reached, as far as the log says."""
        self.policy_index = 0
        self.sessions = Sessions()
        self.scores: dict[Voter, Score] = {}
        self.demoted: dict[Voter, int] = {}
        """Voter -> index of the block that demoted it."""
        self.counts_keys = True
        """False: sessions are the state machine's to keep (`consensus_escalation.machine`), and here every entry counts as the
        first of its key."""

    def score(self, voter: Voter) -> int:
        """Missing, expired or out of bounds counts 0: nobody gains by withholding a certificate."""
        held = self.scores.get(voter)
        return held.score if held and held.expires > self.time else 0

    def rank_key(self, voter: Voter) -> tuple[bool, int, Voter]:
        """Sorts voters, best first: the demoted last, then by score, then by id."""
        return (voter in self.demoted, -self.score(voter), voter)

    def ranking(self, voters: Iterable[Voter]) -> list[Voter]:
        return sorted(voters, key=self.rank_key)

    def apply(self, block: Block) -> tuple[bool, ...]:
        """One flag for each entry: whether it counts."""
        self.begin(block)
        if block.is_ordinary and not self.counts_keys:
            return (True,) * len(block.entries)
        return tuple(
            [
                (not self.counts_keys or self._admit(entry, block) is Admission.FRESH)
                and (entry.kind is Kind.COMMAND or not self.take(entry, block.index))
                for entry in block.entries
            ]
        )

    def begin(self, block: Block) -> None:
        self.time = max(self.time, block.time)
        if self.counts_keys:
            self.sessions.forget_before(self.time)

    def _admit(self, entry: Entry, block: Block) -> Admission:
        """Whether its key is used for the first time; then it is remembered as done by this block."""
        if not entry.author:
            return Admission.FRESH
        return self.sessions.admit(key_of(entry), self.time, Past(block.index, block.term))

    def take(self, entry: Entry, index: int) -> str:
        """What an admitted entry says about the quorum itself. Returns why it is void; empty when it counts."""
        match entry.kind:
            case Kind.SCORE:
                return "" if self._take_score(entry) else "no newer score"
            case Kind.POLICY:
                self.policy_index = index
            case Kind.DEMOTE:
                self.demoted[Voter(entry.body)] = index
            case Kind.RESTORE:
                if entry.author == entry.body:
                    return "nobody lifts its own demotion"
                return "" if self.demoted.pop(Voter(entry.body), None) is not None else "not demoted"
            case Kind.CLOCK:
                self.attested = max(self.attested, time_of(entry))
            case Kind.NOOP | Kind.COMMAND | Kind.CONFIG:
                pass
        return ""

    def _take_score(self, entry: Entry) -> bool:
        score = self.read_score(entry.evidence)
        if score is None or not 0 <= score.score <= SCORE_MAX:
            return False
        held = self.scores.get(score.voter)
        if held is not None and held.serial >= score.serial:
            return False
        self.scores[score.voter] = score
        return True

    # ---- in snapshots

    def to_value(self) -> list[object]:
        return [
            self.time,
            self.attested,
            self.policy_index,
            [list(score) for _, score in sorted(self.scores.items())],
            sorted([voter, index] for voter, index in self.demoted.items()),
            self.sessions.to_value(),
        ]

    @classmethod
    def from_value_untrusted(cls, value: object, read_score: ReadScore) -> Ledger:
        """Raises Malformed."""
        ledger = cls(read_score)
        try:
            time, attested, policy_index, scores, demoted, sessions = value  # type: ignore[misc]
            ledger.scores = {Voter(row[0]): Score(*row) for row in scores}  # type: ignore[has-type]
            ledger.demoted = {Voter(voter): index for voter, index in demoted}  # type: ignore[has-type]
            ledger.sessions.load(sessions)  # type: ignore[has-type]
            scored = [number for score in ledger.scores.values() for number in score[1:]]
            if not are_numbers((time, attested, policy_index, *ledger.demoted.values(), *scored)):  # type: ignore[has-type]
                raise TypeError("numbers")
            if any(type(voter) is not bytes for voter in (*ledger.scores, *ledger.demoted)):
                raise TypeError("voters")
            ledger.time, ledger.attested, ledger.policy_index = time, attested, policy_index  # type: ignore[has-type]
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise Malformed("ledger has another shape") from error
        return ledger
