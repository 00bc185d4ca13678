"""One invite, redeemed by several keys: which one counts?

Normally the question does not arise: whoever knows the first enrolment refuses a second one at the door (`Directory.admit`), so
a thief of a used token meets refusals wherever it knocks. But two enrolments come together in the statement set when the
second was let in by somebody who did not know the first: a member that was cut off, or one that lies. Every replica must then
choose the same one, by the set alone, whatever arrived first.

Nothing in the two statements says which is older. A rule over their hashes is lost to the thief, who makes keys until one
fits; "none of them" lets the holder of any old token throw a member out. What the thief does not have is the memory of the
others. So:

- A member that had known exactly one enrolment for `SETTLED_SECONDS` when a second one came says so, once, by a *witness*
  statement.
- The enrolment with the most witnesses counts. Ties (nobody has settled yet) go to the lowest statement id.
- Witnesses are taken from members that joined by the authority's credential or by an invite that nobody contests, and count
  while they are not revoked.
- At most `WITNESSES_MAX` are kept per invite, those with the lowest hash of (invite, witness): a sample of the members that
  nobody can pick, so that a contest costs 10 kB however large the mesh is, and hostile members need a majority of the sample.
- Enrolments are kept that a witness speaks for, and the `UNWITNESSED_MAX` lowest others: more would be a way to flood the set.

Each of these is a function of the set, or of what is lowest in it, so replicas that have exchanged statements agree.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Final, NamedTuple

from crdt.ids import ReplicaId
from mesh.trust.statements import Enrolment, KeyId, Statement, StatementId, Witness

SETTLED_SECONDS: Final = 60.0
"""Guess: longer than a newcomer takes to learn the statements, so that who learns both at once does not vote on their order."""
WITNESSES_MAX: Final = 64
"""With 30% hostile members, half of a sample of 64 is hostile once in 1,600 contests (binomial)."""
UNWITNESSED_MAX: Final = 2
"""Two prove the reuse."""


class Enrolled(NamedTuple):
    """One key that redeemed the invite."""

    statement: StatementId
    name: str | None
    """Chosen by the agent."""


class Contest:
    """All enrolments of one invite and what is said about them. Nearly always there is one, and no contest."""

    __slots__ = ("_enrolments", "_invite", "_witnesses", "settled_from")

    settled_from: float
    """Monotonic seconds from which on the only enrolment counts as known for long; -inf: came from the own disk."""

    def __init__(self, invite: KeyId) -> None:
        self._invite = invite
        self._enrolments: dict[bytes, Enrolled] = {}
        self._witnesses: dict[ReplicaId, tuple[StatementId, bytes]] = {}
        self.settled_from = inf

    def copy(self) -> Contest:
        other = Contest(self._invite)
        other._enrolments, other._witnesses = dict(self._enrolments), dict(self._witnesses)
        other.settled_from = self.settled_from
        return other

    @property
    def keys(self) -> list[bytes]:
        """Public keys that redeemed the invite, ascending."""
        return sorted(self._enrolments)

    @property
    def witnesses(self) -> list[ReplicaId]:
        return sorted(self._witnesses)

    @property
    def is_contested(self) -> bool:
        return len(self._enrolments) > 1

    def everything(self) -> list[StatementId]:
        """Ids of all statements that it is made of."""
        witnesses = [statement for statement, _ in self._witnesses.values()]
        return sorted([*(each.statement for each in self._enrolments.values()), *witnesses])

    def enrolled(self, public_key: bytes) -> Enrolled | None:
        return self._enrolments.get(public_key)

    def add_enrolment(self, statement: Statement, enrolment: Enrolment) -> list[StatementId]:
        """Ids that leave the set for it, its own when it adds nothing. A key's enrolment with the lowest id stands for all of
        that key."""
        former = self._enrolments.get(enrolment.public_key)
        if former is not None and former.statement < statement.id:
            return [statement.id]
        self._enrolments[enrolment.public_key] = Enrolled(statement.id, enrolment.name)
        return ([] if former is None else [former.statement]) + self._prune()

    def add_witness(self, statement: Statement, member: ReplicaId, witness: Witness) -> list[StatementId]:
        """Ids that leave the set for it. A member has one voice: of two statements the one with the lower id."""
        former = self._witnesses.get(member)
        if former is not None and former[0] < statement.id:
            return [statement.id]
        self._witnesses[member] = (statement.id, witness.public_key)
        return ([] if former is None else [former[0]]) + self._prune()

    def remove_witness(self, member: ReplicaId) -> list[StatementId]:
        """Ids that leave the set for it."""
        return [self._witnesses.pop(member)[0], *self._prune()]

    def chosen(self, counts: Callable[[ReplicaId], bool]) -> bytes | None:
        """The public key whose enrolment counts; None without enrolments. `counts`: whether a member's witness does."""
        if len(self._enrolments) < 2:
            return next(iter(self._enrolments), None)
        voices = Counter(public_key for member, (_, public_key) in self._witnesses.items() if counts(member))
        return min(self._enrolments, key=lambda each: (-voices[each], self._enrolments[each].statement))

    def wants_witness(self, member: ReplicaId) -> bool:
        """Whether this member's witness would be kept."""
        if member in self._witnesses:
            return False
        if len(self._witnesses) < WITNESSES_MAX:
            return True
        return self._rank(member) < max(map(self._rank, self._witnesses))

    def _rank(self, member: ReplicaId) -> bytes:
        return hashlib.blake2b(self._invite + member, digest_size=8).digest()

    def _prune(self) -> list[StatementId]:
        gone = []
        for member in sorted(self._witnesses, key=self._rank)[WITNESSES_MAX:]:
            gone.append(self._witnesses.pop(member)[0])
        spoken_for = {public_key for _, public_key in self._witnesses.values()}
        by_id = sorted(self._enrolments, key=lambda each: self._enrolments[each].statement)
        for public_key in by_id[UNWITNESSED_MAX:]:
            if public_key not in spoken_for:
                gone.append(self._enrolments.pop(public_key).statement)
        return gone
