"""`node.critical(path)`: a value that only a majority can change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import trio

from consensus_escalation import command
from consensus_escalation.block import Kind
from consensus_escalation.certificate import Certificate
from consensus_escalation.chain import Chain
from consensus_escalation.command import NULL, Command, Verb, command_to_bytes, written
from consensus_escalation.machine import Status
from consensus_escalation.policy import NOT_ENDORSED, Rule
from crdt import codec
from crdt.ops import Path, Value
from crdt.types import format_path
from crdt.types.cells import plain
from mesh.critical.clerk import Clerk, Decided, format_key
from mesh.errors import NotCommitted, OutcomeUnknown, UnsupportedValue, ValueTooLarge
from mesh.paths import PathLike, parse_path
from mesh.wire.cbor import decode_untrusted, encode

COMMAND_BYTES_MAX: Final = 500
"""Of path, value and thought together: a block takes 780, of which key and signature are 110, or 660 with
endorsements."""
HANDLES_MAX: Final = 1024
"""Remembered: about 0.5 MB with long paths. Guess."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A majority has agreed, and here is the proof."""

    epoch: int
    index: int
    """Of the block in the log."""
    term: int
    certificate: Certificate
    """Acknowledgements of a majority, for the block or one that follows on it."""
    idempotency_key: str
    """Names this write: with it, the same call changes nothing more and gives the same receipt, for 24 h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """What an agent wants, and why. With a path it is a critical write there; without, a decision that is only recorded."""

    intent: str = ""
    """What is to happen, as the rules know it: "shell.run", "valve.open"."""
    arguments: Value = None
    rationale: str = ""
    trace: str = ""
    """The author's own id of what led here."""
    path: PathLike | None = None
    value: Value = None
    dangerous: bool = False
    """Have it endorsed before it is written, whatever the rules say."""

    def to_wire(self) -> command.Thought:
        """Raises UnsupportedValue."""
        if self is PLAIN:
            return command.NO_THOUGHT
        for name in ("intent", "rationale", "trace"):
            text = getattr(self, name)
            if not isinstance(text, str):
                raise UnsupportedValue(f"the thought's {name} is {text!r}: it is text")
            encoded(text)
        if type(self.dangerous) is not bool:
            raise UnsupportedValue(f"the thought's dangerous is {self.dangerous!r:.80}: True or False")
        return command.Thought(self.intent, encoded(self.arguments), self.rationale, self.trace, self.dangerous)


PLAIN: Final = Thought()


def _wire(thought: Thought) -> command.Thought:
    """Raises UnsupportedValue."""
    if not isinstance(thought, Thought):
        raise UnsupportedValue(f"thought={thought!r}: write mesh.Thought(rationale=...)")
    return thought.to_wire()


_LARGE: Final = 1 << 63


def encoded(value: Value) -> bytes:
    """Raises UnsupportedValue: cbor2 takes more than the data model, so only what is surely in it goes there."""
    kind = type(value)
    if kind is bool or value is None or kind is bytes or (kind is int and -_LARGE < value < _LARGE):  # type: ignore[operator]
        return encode(value)
    return codec.encode(value)


@dataclass(frozen=True, slots=True)
class Wish:
    """One of several writes that are asked for at once: made by `Critical.to_set` and the like, for `agree`."""

    command: Command


class Critical:
    """Reading is local; everything that is awaited waits for a majority, until it is cancelled."""

    def __init__(self, clerk: Clerk, path: Path) -> None:
        self._clerk, self._path = clerk, path

    @property
    def path(self) -> str:
        return format_path(self._path)

    @property
    def value(self) -> Any:
        """As of the newest block that is proven or committed here; perhaps a moment old. None where nothing is."""
        chain = self._clerk.known_chain
        cell = chain.machine.cell(self._path) if chain is not None else None
        return None if cell is None else plain(decode_untrusted(cell.value))

    async def get(self) -> Any:
        """What is there now: linearizable. None where nothing is."""
        await self._clerk.up_to_date()
        return self.value

    async def set(self, value: Value, *, idempotency_key: str | bytes | None = None, thought: Thought = PLAIN) -> Receipt:
        """Raises NotCommitted, OutcomeUnknown, Backpressure, ValueTooLarge or UnsupportedValue."""
        return await submit(self._clerk, Command(Verb.SET, self._path, encoded(value), thought=_wire(thought)), idempotency_key)

    async def delete(self, *, idempotency_key: str | bytes | None = None, thought: Thought = PLAIN) -> Receipt:
        return await submit(self._clerk, Command(Verb.DELETE, self._path, thought=_wire(thought)), idempotency_key)

    async def compare_and_set(
        self, old: Value, new: Value, *, idempotency_key: str | bytes | None = None, thought: Thought = PLAIN
    ) -> Receipt:
        """Only if `old` is there; None stands for nothing. Otherwise NotCommitted, whose `current` is what was there."""
        asked = Command(Verb.COMPARE_AND_SET, self._path, encoded(new), encoded(old), thought=_wire(thought))
        return await submit(self._clerk, asked, idempotency_key)

    # ---- for `agree`

    def to_set(self, value: Value, *, thought: Thought = PLAIN) -> Wish:
        return Wish(Command(Verb.SET, self._path, encoded(value), thought=_wire(thought)))

    def to_delete(self, *, thought: Thought = PLAIN) -> Wish:
        return Wish(Command(Verb.DELETE, self._path, thought=_wire(thought)))

    def to_compare_and_set(self, old: Value, new: Value, *, thought: Thought = PLAIN) -> Wish:
        return Wish(Command(Verb.COMPARE_AND_SET, self._path, encoded(new), encoded(old), thought=_wire(thought)))

    def __repr__(self) -> str:
        return f"<critical {self.path}: {self.value!r}>"


class CriticalHandles:
    """A handle for each path that was asked for lately: to read a path and to look up who may write there takes 6 us, a tenth of
    what a critical write costs its leader. Forgotten whenever a statement comes, which may change anybody's rights."""

    def __init__(self, clerk: Clerk) -> None:
        self._clerk = clerk
        self._known: dict[str, Critical] = {}
        self._statements = b""

    def get(self, path: PathLike) -> Critical:
        """Raises NotPermitted outside the charter's critical prefixes, and where this agent may not write."""
        statements = self._clerk.statements
        if statements != self._statements or len(self._known) >= HANDLES_MAX:
            self._statements = statements
            self._known.clear()
        found = self._known.get(path) if isinstance(path, str) else None
        if found is None:
            found = Critical(self._clerk, self._clerk.checked(parse_path(path)))
            if isinstance(path, str):
                self._known[path] = found
        return found


async def propose(clerk: Clerk, thought: Thought, idempotency_key: str | bytes | None) -> Receipt:
    wire = _wire(thought)
    if thought.path is None:
        return await submit(clerk, Command(Verb.DECIDE, thought=wire), idempotency_key)
    path = clerk.checked(parse_path(thought.path))
    return await submit(clerk, Command(Verb.SET, path, encoded(thought.value), thought=wire), idempotency_key)


async def submit(clerk: Clerk, wanted: Command, idempotency_key: str | bytes | None) -> Receipt:
    """Waits for the outcome and its proof."""
    while True:
        chain = await clerk.chain()
        decided = await clerk.decide(chain, _body(_classified(clerk, chain, wanted)), idempotency_key=idempotency_key)
        outcome = decided.outcome
        if outcome.status is Status.DONE:
            return await receipt(clerk, decided)
        is_news = outcome.reason.startswith(NOT_ENDORSED) and not outcome.repeated and idempotency_key is None
        if not is_news or _classified(clerk, chain, wanted).thought.is_dangerous == wanted.thought.is_dangerous:
            raise clerk.why_void(outcome)
        # A rule that this agent did not know yet wants an endorsement: now it does.


async def agree(
    clerk: Clerk, wishes: Sequence[Wish], idempotency_key: str | bytes | None = None, *, seconds: float = inf
) -> list[Receipt | NotCommitted | OutcomeUnknown]:
    """What became of each, in order, after so many seconds at the latest. Nothing of one is undone because another was
    refused."""
    if not isinstance(wishes, Iterable):
        raise UnsupportedValue(f"{wishes!r:.80} is no list of wishes: write node.agree([node.critical(path).to_set(value)])")
    wishes = list(wishes)
    if not wishes:
        await trio.lowlevel.checkpoint()
        return []
    for wish in wishes:
        if not isinstance(wish, Wish):
            raise UnsupportedValue(f"{wish!r} is no wish: write node.critical(path).to_set(value), to_delete() or the like")
    end = trio.current_time() + seconds
    chain = await clerk.chain()
    bodies, epoch = [_body(_classified(clerk, chain, wish.command)) for wish in wishes], chain.genesis.epoch
    found: list[Receipt | NotCommitted | OutcomeUnknown] = []
    proofs: dict[int, Certificate | None] = {}
    for decided in await clerk.decide_all(chain, bodies, idempotency_key=idempotency_key, seconds=seconds):
        if not isinstance(decided, Decided):
            found.append(decided)
        elif decided.outcome.status is not Status.DONE:
            found.append(clerk.why_void(decided.outcome))
        else:
            index = decided.outcome.index
            if index not in proofs:
                with trio.move_on_at(end):
                    proofs[index] = (await clerk.proven(index)).proof(index)
            if index in proofs:
                found.append(_receipt(epoch, decided, proofs[index]))
            else:
                found.append(OutcomeUnknown(f"done at index {index}, but not proven in time", format_key(decided.key)))
    return found


async def change_policy(clerk: Clerk, change: list[Value]) -> Receipt:
    """One change of the rules; see `consensus_escalation.policy`. Raises NotCommitted, at once for what is no rule."""
    body, chain = encoded(change), await clerk.chain()
    if change[0] == "set" and (why := chain.machine.policy.why_not(Rule(*map(str, change[1:])))):
        raise NotCommitted(why)
    decided = await clerk.decide(chain, body, kind=Kind.POLICY)
    if decided.outcome.status is not Status.DONE:
        raise clerk.why_void(decided.outcome)
    return await receipt(clerk, decided)


async def receipt(clerk: Clerk, decided: Decided) -> Receipt:
    chain, index = clerk.known_chain, decided.outcome.index
    if chain is None or chain.proven < index:  # seldom at a leader, whose proof comes with the commit
        chain = await clerk.proven(index)
    found = _receipt(chain.genesis.epoch, decided, chain.proof(index))
    if isinstance(found, Receipt):
        return found
    raise found


def _receipt(epoch: int, decided: Decided, certificate: Certificate | None) -> Receipt | NotCommitted:
    key, outcome = decided
    if certificate is None:
        return NotCommitted(f"done at index {outcome.index}, whose proof is no longer kept: ask sooner")
    return Receipt(epoch, outcome.index, outcome.term, certificate, format_key(key))


def _classified(clerk: Clerk, chain: Chain, wanted: Command) -> Command:
    """With the flag of the dangerous class, if the rules as known here say so."""
    if wanted.thought.is_dangerous or wanted.verb in (Verb.RENEW, Verb.RELEASE):
        return wanted
    if not chain.machine.judge_command(wanted, clerk.me).is_dangerous:
        return wanted
    return wanted._replace(thought=wanted.thought._replace(is_dangerous=True))


def _body(wanted: Command) -> bytes:
    body = command_to_bytes(wanted, encode)
    if len(body) > COMMAND_BYTES_MAX:
        raise ValueTooLarge(
            f"this critical write has {len(body)} bytes, at most {COMMAND_BYTES_MAX} are agreed on: write the large part as an "
            "ordinary value, and agree on its name or hash"
        )
    written(wanted, body, decode_untrusted)
    return body


def body_of(wanted: Command) -> bytes:
    return _body(wanted)


__all__ = ["NULL", "Critical", "Receipt", "Thought", "Wish", "agree", "body_of", "change_policy", "propose", "submit"]
