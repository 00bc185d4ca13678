"""How this voter judges what its leader wants endorsed: by the rules at once, and where they say so by its own judges.

A proposal is refused when a rule refuses it, endorsed when no rule wants more than that, and put to this agent's judges (a model,
a sensor, a person) when one does. Without a judge the answer is no: nobody has looked. The judges live at the edge
(`mesh.critical.judges`); here are only the questions that wait for them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from consensus_escalation.block import Entry, Kind
from consensus_escalation.command import command_from_bytes_untrusted
from consensus_escalation.machine import Machine
from consensus_escalation.policy import is_dangerous, subject_of
from consensus_escalation.verdict import Proposal
from crdt.errors import Malformed
from crdt.ids import ReplicaId
from crdt.ops import Path
from mesh.wire.cbor import decode_untrusted

QUESTIONS_MAX: Final = 64
"""That wait for judges at once; more are refused. As `docket.WAITING_MAX`."""
NO_JUDGE: Final = "no judge: "
"""Before the name of the rule that wants one."""
LACKS: Final = "this voter has another or no "
"""Before the name of the predicate that the rules are to call."""
TOO_MANY: Final = "judges are busy"


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge is asked: may this happen?"""

    id: bytes
    """Of the proposal."""
    verb: str
    path: Path
    value: Any
    intent: str
    arguments: Any
    rationale: str
    trace: str
    author: ReplicaId
    rule: str
    """Which rule wants a judge."""


def question_of(digest: bytes, entry: Entry, rule: str) -> Question:
    """Raises Malformed."""
    author = ReplicaId(entry.author)
    if entry.kind is not Kind.COMMAND:
        value = decode_untrusted(entry.body) if entry.kind is Kind.POLICY else entry.body
        return Question(digest, entry.kind.name.lower(), (), value, "", None, "", "", author, rule)
    subject = subject_of(command_from_bytes_untrusted(entry.body, decode_untrusted), entry.author, decode_untrusted)
    return Question(
        digest,
        subject.verb,
        subject.path,
        subject.value,
        subject.intent,
        subject.arguments,
        subject.rationale,
        subject.trace,
        author,
        rule,
    )


class Judging:
    def __init__(self) -> None:
        self.has_judges = False
        self._asked: OrderedDict[bytes, None] = OrderedDict()
        self._new: list[Question] = []

    def judge(self, digest: bytes, proposal: Proposal, machine: Machine) -> str | None:
        """The rule that refuses, empty to endorse; None: the judges will say. May be asked again and again."""
        if digest in self._asked:
            return None
        if name := machine.lacks((proposal.entry,)):
            return LACKS + name
        judgement = machine.judge(proposal.entry)
        if judgement.refused_by:
            return judgement.refused_by
        if not judgement.judged_by:
            return ""
        if not self.has_judges:
            return NO_JUDGE + judgement.judged_by
        if len(self._asked) >= QUESTIONS_MAX:
            return TOO_MANY
        try:
            question = question_of(digest, proposal.entry, judgement.judged_by)
        except Malformed:
            return "malformed"
        self._asked[digest] = None
        self._new.append(question)
        return None

    def take(self) -> list[Question]:
        """Those that are new since the last call."""
        new, self._new = self._new, []
        return new

    def answered(self, digest: bytes) -> bool:
        """The judges have decided; False when nobody had asked."""
        return self._asked.pop(digest, b"") is None


def dangerous(entry: Entry) -> bool:
    return is_dangerous(entry, decode_untrusted)
