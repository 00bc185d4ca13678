"""Where a program's tasks wait for the quorum.

An entry's life ends in exactly one of three ways: done (its outcome, which becomes a `Receipt`), `NotCommitted` (definite), or
`OutcomeUnknown`. Waiting lasts until the caller is cancelled; the core sends again and finds the leader (`mesh.quorum.courier`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import inf
from typing import Final, NamedTuple, Protocol

import trio

from consensus_escalation.block import Kind
from consensus_escalation.chain import Chain
from consensus_escalation.machine import MISMATCH, RULE, Outcome, Status
from consensus_escalation.policy import NOT_ENDORSED
from consensus_escalation.sessions import NAMED, Admission, Key
from crdt.ids import ReplicaId
from crdt.ops import Path
from crdt.types import format_path
from mesh.errors import NodeClosed, NotCommitted, NotPermitted, OutcomeUnknown, UnsupportedValue
from mesh.net.clock import Clock
from mesh.peer import Peer
from mesh.quorum.courier import WAITING_MAX, Answered, NotTaken
from mesh.quorum.judging import NO_JUDGE
from mesh.wire.cbor import decode_untrusted

_MADE: Final = re.compile(r"gm1-([0-9a-f]{1,16})-([0-9a-f]{1,16})")
_AGES: Final = (Admission.TOO_OLD.value, Admission.FROM_THE_FUTURE.value)


class Decided(NamedTuple):
    key: Key
    outcome: Outcome


@dataclass(slots=True)
class _Waiting:
    epoch: int
    tasks: int = 0
    answer: Answered | None = None
    is_over: bool = False
    event: trio.Event = field(default_factory=trio.Event)

    def end(self, answer: Answered | None) -> int:
        """Returns how many tasks that wakes."""
        self.answer, self.is_over = answer, True
        self.event.set()
        return self.tasks


@dataclass(slots=True)
class _Group:
    """Several entries that one task waits for."""

    epoch: int
    left: set[Key]
    answers: dict[Key, Answered] = field(default_factory=dict)
    event: trio.Event = field(default_factory=trio.Event)

    def end(self, answer: Answered | None) -> int:
        """Returns 0: its task asks for several together again, or not at all."""
        if answer is None:  # nor will any other come
            self.left.clear()
        else:
            self.answers[answer.key] = answer
            self.left.discard(answer.key)
        if not self.left:
            self.event.set()
        return 0


def format_key(key: Key) -> str:
    """An idempotency key that names exactly one attempt, with its age: what `OutcomeUnknown` carries."""
    return f"gm1-{key.since:x}-{key.number:x}"


def number_of(name: str | bytes) -> int:
    """Of a key that the user chose; as many as one call may ask for follow on it."""
    raw = name.encode("utf-8", "surrogatepass") if isinstance(name, str) else name
    return NAMED | int.from_bytes(blake2b(raw, digest_size=8).digest(), "big") % (NAMED - WAITING_MAX)


class Loop(Protocol):
    """What is asked of the driver."""

    def wake(self) -> None:
        """Turn soon."""

    def hurry(self) -> None:
        """Turn now."""

    async def next_turn(self) -> None:
        """Returns after the next turn. Raises NodeClosed when there is none."""

    def check_thread(self) -> None:
        """Raises RuntimeError in a thread that is not the driver's."""


class Clerk:
    def __init__(
        self,
        peer: Peer,
        clock: Clock,
        driver: Loop,
    ) -> None:
        self._peer, self._clock, self._check_thread = peer, clock, driver.check_thread
        self._wake, self._hurry, self._next_turn = driver.wake, driver.hurry, driver.next_turn
        self._waiting: dict[Key, _Waiting | _Group] = {}
        self._reads: dict[int, trio.Event] = {}
        self._has_ended = False
        self._woken = 0
        """Tasks that have their answer and did not run since. They may ask again in this very step."""
        self._epoch = -1

    @property
    def me(self) -> ReplicaId:
        return self._peer.replica_id

    @property
    def known_chain(self) -> Chain | None:
        return self._peer.quorum.chain

    @property
    def statements(self) -> bytes:
        """Names what is known about rights."""
        return self._peer.directory.digest

    def checked(self, path: Path) -> Path:
        """Raises NotPermitted for what the quorum does not decide about, or this agent may not write."""
        directory = self._peer.directory
        if not directory.is_critical(path):
            raise NotPermitted(
                f"{format_path(path)} is under no critical prefix of the charter: write it with node.register(...) and the like, "
                "or name the prefix when the authority is made"
            )
        self._peer.check_rights(path, self._clock.now())
        return path

    # ---- after every turn of the driver

    def settle(self) -> None:
        """Wake whoever has its answer."""
        quorum = self._peer.quorum
        for each in quorum.courier.take_answered():
            waiting = self._waiting.pop(each.key, None)
            if waiting is not None:
                self._woken += waiting.end(each)
        for number, _ in quorum.questions.take(quorum.chain.applied if quorum.chain is not None else -1):
            if (event := self._reads.pop(number, None)) is not None:
                event.set()
        if quorum.chain is not None and quorum.chain.genesis.epoch != self._epoch:
            self._epoch = quorum.chain.genesis.epoch
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        """The log that older entries may be in has ended."""
        for key, waiting in list(self._waiting.items()):
            if waiting.epoch != self._epoch:
                self._peer.quorum.courier.forget(key)
                del self._waiting[key]
                self._woken += waiting.end(None)

    def end(self) -> None:
        """The node is about to end: nobody will hear anything any more."""
        self._has_ended = True
        for waiting in self._waiting.values():
            self._woken += waiting.end(None)
        for event in self._reads.values():
            event.set()
        self._waiting.clear()
        self._reads.clear()

    def _check_open(self) -> None:
        self._check_thread()
        if self._has_ended:
            raise NodeClosed("this node has ended: ask the quorum inside its `async with` block")

    # ---- waiting

    async def chain(self) -> Chain:
        """The state as it is here, once there is one. Raises NotCommitted when this mesh has no quorum. Half a checkpoint: a
        whole one costs a round of the event loop, and all who call this wait for something afterwards."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while (chain := self._peer.quorum.chain) is None:
            self._check_open()
            if self._peer.synced and self._peer.directory.genesis() is None:
                raise NotCommitted(
                    "this mesh has no quorum: enrol a voter (Authority.enrol(..., voter=True), `mesh init`, "
                    "`mesh invite --voter`) whose authority names critical prefixes"
                )
            await self._next_turn()
        return chain

    async def decide(
        self, chain: Chain, body: bytes, *, kind: Kind = Kind.COMMAND, idempotency_key: str | bytes | None = None
    ) -> Decided:
        """What became of this entry, done or void, once a majority has agreed on it. `chain`: as just asked for. Raises
        NotCommitted, OutcomeUnknown and Backpressure."""
        self._check_open()
        named = self._named(chain, idempotency_key) if idempotency_key is not None else None
        key = self._peer.quorum.courier.want(chain, body, kind=kind, key=named)
        waiting = self._awaits(chain, key)
        if len(self._waiting) == 1 and not self._woken:  # several that are answered together, and ask again, go together
            self._hurry()
        else:
            self._wake()
        try:
            await waiting.event.wait()
        finally:
            self._left(key, waiting)
        decided = self._decided(key, waiting.answer, is_chosen=idempotency_key is not None)
        if isinstance(decided, Decided):
            return decided
        raise decided

    async def decide_all(
        self, chain: Chain, bodies: Sequence[bytes], *, idempotency_key: str | bytes | None = None, seconds: float = inf
    ) -> list[Decided | NotCommitted | OutcomeUnknown]:
        """What became of each, once all are decided, or after so many seconds as far as they are. Raises Backpressure."""
        self._check_open()
        courier, patience = self._peer.quorum.courier, trio.move_on_after(seconds)
        if idempotency_key is None:
            keys = courier.want_all(chain, bodies)
            group = _Group(chain.genesis.epoch, set(keys))
            self._waiting.update(dict.fromkeys(keys, group))
            self._wake()
            try:
                with patience:
                    await group.event.wait()
            finally:
                for key in group.left:
                    self._waiting.pop(key, None)
                    courier.forget(key)
            answers = [group.answers.get(key) for key in keys]
        else:
            keys = courier.want_again(chain, bodies, self._named(chain, idempotency_key, len(bodies)))
            several = [self._awaits(chain, key) for key in keys]
            self._wake()
            try:
                with patience:
                    for waiting in several:
                        await waiting.event.wait()
            finally:
                for key, waiting in zip(keys, several, strict=True):
                    self._left(key, waiting)
            answers = [waiting.answer for waiting in several]
        why = f"no answer of a majority within {seconds:g} s: it may still be done" if patience.cancelled_caught else ""
        chosen = idempotency_key is not None
        return [self._decided(key, answer, is_chosen=chosen, why=why) for key, answer in zip(keys, answers, strict=True)]

    def _awaits(self, chain: Chain, key: Key) -> _Waiting:
        """Where its answer comes. Another task may wait for the same."""
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting(chain.genesis.epoch)
        assert isinstance(waiting, _Waiting), "the keys of a group are known when it has ended"
        waiting.tasks += 1
        return waiting

    def _left(self, key: Key, waiting: _Waiting) -> None:
        """When nobody waits for it any more, it is not sent again."""
        waiting.tasks -= 1
        if waiting.is_over:
            self._woken -= 1
        elif not waiting.tasks:
            del self._waiting[key]
            self._peer.quorum.courier.forget(key)

    def _decided(
        self, key: Key, answer: Answered | None, *, is_chosen: bool, why: str = ""
    ) -> Decided | NotCommitted | OutcomeUnknown:
        """`is_chosen`: the user named the key, so that it may have been used before. `why`: there is no answer, unless this agent
        or the quorum has ended."""
        if answer is None:
            ended = f"{'this node has ended' if self._has_ended else 'the quorum was begun anew'} before the outcome was known"
            return OutcomeUnknown(why or ended, format_key(key))
        if isinstance(answer, NotTaken):
            if is_chosen and answer.reason in _AGES:
                return OutcomeUnknown(_out_of_time(key, answer.reason), format_key(key))
            return NotCommitted(answer.reason)
        outcome = answer.outcome
        if outcome.status is not Status.UNKNOWN:
            return Decided(key, outcome)
        unsure = _out_of_time(key, outcome.reason)
        if outcome.reason == Admission.FULL.value:
            unsure = f"{outcome.reason}: wait with it, or leave the idempotency key out"
        elif outcome.reason not in _AGES:
            unsure = f"{outcome.reason}; but another copy of the request is under way: ask again with the same idempotency key"
        return OutcomeUnknown(unsure, format_key(key))

    def fresh_key(self) -> str:
        """An idempotency key that nothing was written under. Unlike a chosen one it is forgotten with this run of the agent."""
        quorum = self._peer.quorum
        time, floor = quorum.wall, 0
        if quorum.chain is not None:
            time, floor = max(quorum.chain.ledger.time, time), quorum.chain.machine.ledger.sessions.floor
        return format_key(quorum.courier.next_key(time, floor))

    def _named(self, chain: Chain, name: str | bytes, count: int = 1) -> tuple[int, int]:
        """(since, number), of the first of so many. Raises UnsupportedValue."""
        if not isinstance(name, str | bytes) or not name:
            raise UnsupportedValue(f"idempotency_key={name!r}: a text or bytes, not empty, that names this one write")
        made = _MADE.fullmatch(name) if isinstance(name, str) else None
        if made is not None:
            since, number = int(made[1], 16), int(made[2], 16)
            if number + count > 1 << 64:  # such a block could be read by nobody
                raise UnsupportedValue(f"idempotency_key={name!r} is not one that a node made")
            return since, number
        return max(chain.ledger.time, self._peer.quorum.wall), number_of(name)

    async def up_to_date(self) -> Chain:
        """The state here, which has all that was committed anywhere before this call. Waits for a majority."""
        await self.chain()
        self._check_open()
        quorum = self._peer.quorum
        number = quorum.questions.put(self._clock.now())
        self._reads[number] = event = trio.Event()
        self._wake()
        try:
            await event.wait()
        finally:
            if self._reads.pop(number, None) is not None:
                quorum.questions.forget(number)
        self._check_open()
        return await self.chain()

    async def proven(self, index: int) -> Chain:
        """Returns once this agent can prove to anybody that the block at `index` is committed."""
        chain = self._peer.quorum.chain
        if chain is None:
            chain = await self.chain()
        while chain.proven < index:
            await self._next_turn()
            chain = await self.chain()
        return chain

    def why_void(self, outcome: Outcome) -> NotCommitted:
        """The error for an entry that is in the log and counts for nothing."""
        if outcome.reason == MISMATCH:
            current = None if outcome.value is None else decode_untrusted(outcome.value)
            return NotCommitted(f"something else is there: {current!r}", reason=MISMATCH, current=current, index=outcome.index)
        if outcome.reason.startswith(NOT_ENDORSED):
            rule = outcome.reason.removeprefix(NOT_ENDORSED)
            return NotCommitted(f"rule {rule} wants this to be endorsed first", reason=outcome.reason, index=outcome.index)
        return NotCommitted(self._explained(outcome.reason), reason=outcome.reason, index=outcome.index)

    def _explained(self, reason: str) -> str:
        """With what the rules that it names say about themselves."""
        chain, parts = self._peer.quorum.chain, []
        for part in reason.split("; "):
            rule = chain.machine.policy.rule(part.removeprefix(RULE).removeprefix(NO_JUDGE)) if chain is not None else None
            parts.append(f"{part} ({rule.because})" if rule is not None and rule.because else part)
        return "; ".join(parts)

    async def next_turn(self) -> None:
        await self._next_turn()


def _out_of_time(key: Key, reason: str) -> str:
    if reason == Admission.FROM_THE_FUTURE.value:
        return f"the idempotency key {format_key(key)} is of a time that is still to come: whether it was done is unknown"
    return f"the idempotency key {format_key(key)} is older than the quorum remembers (24 h): whether it was done is unknown"
