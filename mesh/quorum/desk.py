"""The leader's desk, at every voter: entries come in from anybody, and what is not put into the log is answered.

REQUEST --> this agent leads: Raft    it knows who does: forwarded once    else ANSWER "not the leader"
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from consensus_escalation.authorship import BY_BLOCK, sign_batch
from consensus_escalation.block import Entry
from consensus_escalation.chain import Chain
from consensus_escalation.effects import Submit
from consensus_escalation.ledger import key_of, name_of
from consensus_escalation.raft import BUSY
from consensus_escalation.sessions import Admission
from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.errors import Refused
from mesh.port import Port
from mesh.quorum.courier import Courier
from mesh.quorum.judging import dangerous
from mesh.quorum.messages import Answer, Request
from mesh.quorum.rights import NOT_PERMITTED
from mesh.wire.frames import Frame, Lane


class Seat(NamedTuple):
    """What the desk knows of the quorum at a moment."""

    epoch: int
    term: int
    leader: ReplicaId | None
    leads: bool
    """This agent does."""
    is_settled: bool
    """It does, and has committed a block of its own term: what it refuses is in no log that will ever count."""
    chain: Chain


def is_in_log(entry: Entry, chain: Chain) -> bool:
    """Whether this leader's log has the key: committed, or, of the dangerous class, on its way there.

    Raft itself knows what it took in its own term, for as long as it remembers; a second proposal of a dangerous entry could be
    refused, and its author be told that it is definitely not done, while the first one is."""
    if chain.machine.recall(entry) is not None:
        return True
    if not dangerous(entry):
        return False
    key, index = name_of(entry), chain.applied + 1
    while (block := chain.source(index)) is not None:
        if any(name_of(each) == key for each in block.entries):
            return True
        index += 1
    return False


def has_no_room(entry: Entry, chain: Chain) -> bool:
    """Whether its author has named so many writes that another name could not be remembered."""
    ledger = chain.machine.ledger
    return ledger.sessions.judge(key_of(entry), ledger.time) is Admission.FULL


class Desk:
    def __init__(
        self,
        me: ReplicaId,
        port: Port,
        seat: Callable[[], Seat | None],
        submit: Callable[[Submit], None],
        is_enrolled: Callable[[ReplicaId], bool],
        heard_leader: Callable[[int, ReplicaId | None], None],
        is_permitted: Callable[[Sequence[Entry]], bool],
    ) -> None:
        """`seat`: None while there is no quorum. `is_enrolled`: as a voter. `heard_leader`: (term, who), by somebody's word."""
        self._me, self._port, self._seat, self._submit = me, port, seat, submit
        self._is_enrolled, self._heard_leader, self._is_permitted = is_enrolled, heard_leader, is_permitted
        self.courier: Courier | None = None
        """Of this agent's own entries."""
        self._refusals: list[tuple[Entry, str]] = []
        self._taken: list[tuple[tuple[Entry, ...], bool]] = []
        """Batches for the log, since the last turn, and whether they are this agent's."""

    def send(self, to: ReplicaId, batch: tuple[Entry, ...]) -> None:
        """An own batch."""
        seat, courier = self._seat(), self.courier
        is_own = to == self._me and seat is not None and seat.leads
        if not is_own and courier is not None and batch[0].signature == BY_BLOCK:
            batch = sign_batch(batch, courier.keys)
        if to == self._me:
            self._take(batch, forwarded=False, is_own=is_own)
        elif seat is not None:
            self._port.send(to, Lane.CRITICAL, Frame.REQUEST, Request(seat.epoch, False, batch).encode())

    def request_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """Raises Malformed or Refused."""
        request, seat = Request.decode_untrusted(payload), self._seat()
        if seat is not None and request.epoch == seat.epoch:
            if request.batch[0].author != peer and not request.forwarded:
                raise Refused("entries of somebody else")
            self._take(request.batch, forwarded=request.forwarded)

    def _take(self, batch: tuple[Entry, ...], *, forwarded: bool, is_own: bool = False) -> None:
        seat = self._seat()
        assert seat is not None
        if seat.leads and not self._is_permitted(batch):
            self._refusals += [(entry, NOT_PERMITTED if seat.is_settled else BUSY) for entry in batch]
        elif seat.leads and all(is_in_log(entry, seat.chain) for entry in batch):
            self._refusals += [(entry, Admission.REPEATED.value) for entry in batch]
        elif seat.leads and has_no_room(batch[0], seat.chain):
            self._refusals += [(entry, Admission.FULL.value if seat.is_settled else BUSY) for entry in batch]
        elif seat.leads:
            self._taken.append((batch, is_own))
        elif seat.leader is not None and seat.leader != self._me and not forwarded:
            self._port.send(seat.leader, Lane.CRITICAL, Frame.REQUEST, Request(seat.epoch, True, batch).encode())
        else:
            self._refusals += [(entry, "not the leader") for entry in batch]

    def hand_over(self) -> None:
        """What came in one turn goes into the log together."""
        taken, self._taken = self._taken, []
        for place, (batch, is_own) in enumerate(taken, 1):
            self._submit(Submit(batch[0], batch[1:], is_followed=place < len(taken), is_own=is_own))

    def refused(self, entry: Entry, reason: str) -> None:
        """By this agent's own Raft."""
        self._refusals.append((entry, reason))

    def flush(self, now: Now) -> None:
        """Tell the authors, entries in a row with one word."""
        if not self._refusals:
            return
        refusals, self._refusals = self._refusals, []
        seat = self._seat()
        if seat is None:
            return
        rows: list[tuple[Entry, int, str]] = []
        for entry, reason in refusals:
            if rows and rows[-1][2] == reason and rows[-1][0][1:3] == entry[1:3]:
                first, count, _ = rows[-1]
                if entry.number == first.number + count:
                    rows[-1] = (first, count + 1, reason)
                    continue
            rows.append((entry, 1, reason))
        for first, count, reason in rows:
            if first.author == self._me and self.courier is not None:
                self.courier.answered(first.since, first.number, count, reason, now)
            elif first.author:
                answer = Answer(seat.epoch, first.since, first.number, count, reason, seat.term, seat.leader)
                self._port.send(ReplicaId(first.author), Lane.CRITICAL, Frame.ANSWER, answer.encode())

    def answer_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """Raises Malformed."""
        answer, seat = Answer.decode_untrusted(payload), self._seat()
        if seat is None or answer.epoch != seat.epoch or not self._is_enrolled(peer) or self.courier is None:
            return
        self._heard_leader(answer.term, answer.leader)
        self.courier.answered(answer.since, answer.number, answer.count, answer.reason, now)
