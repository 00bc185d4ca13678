"""The replicated state machine: what committed blocks make of the critical state, at every agent alike.

    certified or committed block  -->  Machine.apply  -->  one Outcome for each entry

A pure function of the blocks in order; time is log time. Voters and all others run it. What an entry asks for and may not have is
*void*: it keeps its place in the log and changes nothing, and its outcome says why. `digest` names the state exactly, so that a
snapshot can be checked against the `result_digest` of a certified block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zlib import crc32

from consensus_escalation.block import Block, Entry, Kind
from consensus_escalation.command import NO_THOUGHT, NULL, Command, Verb, command_from_bytes_untrusted, is_short_number
from consensus_escalation.leases import FULL, LEASES_MAX, Lease, Leases, fencing_token
from consensus_escalation.ledger import Ledger, ReadScore, key_of
from consensus_escalation.policy import NOT_ENDORSED, POLICY, SILENCE, Judgement, Policy, Predicate, State, Subject, subject_of
from consensus_escalation.sessions import Admission, Past
from consensus_escalation.types import are_numbers
from crdt.codec import decode_untrusted as plain_decode_untrusted
from crdt.codec import encode as plain_encode
from crdt.digest import digest_16
from crdt.errors import Malformed
from crdt.ops import Path
from crdt.types.paths import parse_path

STATE_BYTES_MAX: Final = 32 << 20
"""Of all cells together: half of what a snapshot may be. Critical state is owners and settings, not data."""
CELL_BYTES: Final = 200
"""What a cell costs beside its path and value, in Python."""
VALUES_REMEMBERED_MAX: Final = 1024
"""Values decoded lately, 0.5 MB at most: each is looked at when it is asked for and when it is applied, and many are alike."""
SNAPSHOT_FORMAT: Final = 2
MISMATCH, MALFORMED = "mismatch", "malformed"
OTHER_WRITE: Final = "its idempotency key was used for another write"
RULE: Final = "rule: "
"""Before the name of the rule that refuses."""
_PLAIN_VERBS: Final = (Verb.RENEW, Verb.RELEASE, Verb.EXPIRE)
"""Nothing in them is worth a rule, and there are many."""


class Status(IntEnum):
    DONE = 0
    VOID = 1
    """Definitely not done; `reason` says why."""
    UNKNOWN = 2
    """The key is too old: whether an earlier try was done is not remembered. This one was not."""


class Outcome(NamedTuple):
    status: Status
    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    """Of the block that decided: for a repeated entry, where it was decided first."""
    term: int
    reason: str = ""
    value: bytes | None = None
    """With `MISMATCH`: the CBOR of what was there (for a repeated entry, of what is there now)."""
    token: int = 0
    """Of a lease that was granted."""
    repeated: bool = False


class Cell(NamedTuple):
    value: bytes
    """CBOR."""
    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    """Of the block that wrote it."""
    author: bytes


def no_scores(_raw: bytes) -> None:
    return None


class Machine:
    def __init__(
        self,
        *,
        read_score: ReadScore = no_scores,
        predicates: Mapping[str, Predicate] | None = None,
        encode: Callable[[object], bytes] = plain_encode,
        decode_untrusted: Callable[[bytes], Any] = plain_decode_untrusted,
    ) -> None:
        """`predicates`: see `policy.Policy`. The codec is deterministic CBOR; `mesh` injects a faster one."""
        self.policy = Policy(predicates=predicates)
        self._encode, self._decode_untrusted = encode, decode_untrusted
        self._value_of = lru_cache(VALUES_REMEMBERED_MAX)(decode_untrusted)
        self.ledger = Ledger(read_score)
        self._leases = Leases()
        self._cells: dict[Path, Cell] = {}
        self.bytes = 0
        """What the cells weigh; see STATE_BYTES_MAX."""
        self.index = 0
        """Applied up to here."""
        self.term = 0
        self.epoch = 0
        self.config = b""
        """CBOR of the newest configuration in the log; empty while the genesis' is in force."""

    # ---- what it shows

    def cell(self, path: Path) -> Cell | None:
        return self._cells.get(path)

    def lease(self, path: Path) -> Lease | None:
        return self._leases.held.get(path)

    def cells(self) -> Iterator[tuple[Path, Cell]]:
        """In no particular order."""
        yield from self._cells.items()

    def leases(self) -> Iterator[tuple[Path, Lease]]:
        """In no particular order."""
        yield from self._leases.held.items()

    def recall(self, entry: Entry) -> Outcome | None:
        """What became of an entry with this key; None when no such is known. UNKNOWN when the key is too old to say."""
        key = key_of(entry)
        past = self.ledger.sessions.recall(key)
        if past is None:
            is_old = self.ledger.sessions.judge(key, self.ledger.time) is Admission.TOO_OLD
            return Outcome(Status.UNKNOWN, 0, 0, Admission.TOO_OLD.value) if is_old else None
        return self._repeated(entry, past)

    # ---- judging

    def judge_command(self, command: Command, author: bytes) -> Judgement:
        """By the policy and the state as they are now. Raises Malformed when a value in it is no CBOR."""
        if command.expected == NULL and command.thought == NO_THOUGHT:
            if is_short_number(command.value):  # nothing more needs to be known of it
                is_silent = self.policy.leaves_alone(command.path)
            else:
                is_silent = self.policy.is_silent(command.path, self._value_of(command.value))
            if is_silent:
                return SILENCE
        return self.policy.judge(subject_of(command, author, self._decode_untrusted), self._view())

    def judge(self, entry: Entry) -> Judgement:
        """Any entry that a client may write; what is malformed is refused."""
        try:
            if entry.kind is Kind.COMMAND:
                return self.judge_command(command_from_bytes_untrusted(entry.body, self._decode_untrusted), entry.author)
            verb = entry.kind.name.lower()
            value = self._decode_untrusted(entry.body) if entry.kind is Kind.POLICY else entry.body.hex()
        except Malformed:
            return Judgement(refused_by=MALFORMED)
        found = self.policy.judge(Subject(verb, (), value, None, "", None, "", "", entry.author.hex()), self._view())
        if entry.kind is Kind.POLICY:
            return found._replace(judged_by=found.judged_by or POLICY)
        return found._replace(dangerous_by=found.dangerous_by or verb)

    def _view(self) -> State:
        return State(lambda path: self._decode_untrusted(self._value(path)), self._holder, self.ledger.time)

    def _holder(self, path: Path) -> str | None:
        lease = self._leases.held.get(path)
        return lease.holder.hex() if lease else None

    # ---- applying

    def lacks(self, entries: Iterable[Entry]) -> str:
        """The predicate that these bring into the rules and this agent does not have; empty when it has all."""
        for entry in entries:
            if entry.kind is Kind.POLICY:
                try:
                    match as_lists(self._decode_untrusted(entry.body)):
                        case ["predicate", str(name), str(version)] if self.policy.lacks(name, version):
                            return name
                except Malformed:  # void
                    continue
        return ""

    def apply(self, block: Block) -> tuple[Outcome, ...]:
        """The block after `index`. One outcome for each entry, in order. Never fails for what a client wrote."""
        assert block.index == self.index + 1, "blocks are applied in order, each once"
        self.index, self.term, self.epoch = block.index, block.term, block.header.epoch
        self.ledger.begin(block)
        past, done = Past(block.index, block.term), Outcome(Status.DONE, block.index, block.term)
        return tuple([self._apply(entry, block, past, done) for entry in block.entries])

    def _apply(self, entry: Entry, block: Block, past: Past, done: Outcome) -> Outcome:
        """`past` and `done`: what nearly all entries of a block end as, made once."""
        if not entry.author:
            return self._judge_and_do(entry, block, done)
        key, sessions = key_of(entry), self.ledger.sessions
        admission = sessions.admit(key, self.ledger.time, past)
        if admission is Admission.REPEATED:
            return self._repeated(entry, sessions.recall(key) or past)
        if admission is not Admission.FRESH:
            return Outcome(Status.UNKNOWN, block.index, block.term, admission.value)
        outcome = self._judge_and_do(entry, block, done)
        if outcome.reason or key.is_named:
            check = self._check(entry) if key.is_named else 0
            sessions.remember(key, past._replace(reason=outcome.reason, check=check))
        return outcome

    def _check(self, entry: Entry) -> int:
        """Of what is asked for; not of the thought behind it, whose class may be another when rules have changed."""
        if entry.kind is not Kind.COMMAND:
            return crc32(entry.body, entry.kind)
        try:
            command = command_from_bytes_untrusted(entry.body, self._decode_untrusted)
        except Malformed:
            return crc32(entry.body)
        return crc32(self._encode([int(command.verb), list(command.path), *command[2:6]]))

    def _judge_and_do(self, entry: Entry, block: Block, done: Outcome) -> Outcome:
        if entry.kind is Kind.CONFIG:
            self.config = entry.body
        if entry.kind is not Kind.COMMAND:
            reason = self._take(entry, block)
            return done._replace(status=Status.VOID, reason=reason) if reason else done
        try:
            command = command_from_bytes_untrusted(entry.body, self._decode_untrusted)
        except Malformed:
            return done._replace(status=Status.VOID, reason=MALFORMED)
        reason = self._reason_against(command, entry.author) or self._do(command, entry, block)
        if reason:
            value = self._value(command.path) if reason == MISMATCH else None
            return done._replace(status=Status.VOID, reason=reason, value=value)
        if command.verb is Verb.ACQUIRE:
            return done._replace(token=fencing_token(self.epoch, block.index))
        return done

    def _take(self, entry: Entry, block: Block) -> str:
        """What an entry says about the quorum itself. Returns why it is void."""
        reason = self.ledger.take(entry, block.index)
        if entry.kind is Kind.POLICY and not reason:
            try:
                reason = self.judge(entry).refused_by or self.policy.change_untrusted(
                    as_lists(self._decode_untrusted(entry.body))
                )
            except Malformed:
                reason = MALFORMED
        return reason

    def _reason_against(self, command: Command, author: bytes) -> str:
        if command.verb in _PLAIN_VERBS:
            return ""
        try:
            judgement = self.judge_command(command, author)
        except Malformed:
            return MALFORMED
        if judgement.refused_by:
            return RULE + judgement.refused_by
        if judgement.is_dangerous and not command.thought.is_dangerous:
            return NOT_ENDORSED + (judgement.judged_by or judgement.dangerous_by)
        return ""

    def _do(self, command: Command, entry: Entry, block: Block) -> str:
        """Why it is void; empty when it was done."""
        match command.verb:
            case Verb.SET:
                return self._put(command, entry.author)
            case Verb.COMPARE_AND_SET:
                return self._put(command, entry.author) if self._value(command.path) == command.expected else MISMATCH
            case Verb.DELETE:
                self._drop(command.path)
                return ""
            case Verb.DECIDE:
                return ""
            case Verb.ACQUIRE | Verb.RENEW | Verb.RELEASE | Verb.EXPIRE:
                return self._leases.apply(command, entry.author, self.epoch, self.index, block.header.leader)

    def _value(self, path: Path) -> bytes:
        cell = self._cells.get(path)
        return cell.value if cell else NULL

    def _put(self, command: Command, author: bytes) -> str:
        before = self._cells.get(command.path)
        weight = len(command.value) + (-len(before.value) if before else _path_bytes(command.path) + CELL_BYTES)
        if weight > 0 and self.bytes + weight > STATE_BYTES_MAX:
            return FULL
        self.bytes += weight
        self._cells[command.path] = Cell(command.value, self.index, author)
        return ""

    def _drop(self, path: Path) -> None:
        cell = self._cells.pop(path, None)
        if cell is not None:
            self.bytes -= len(cell.value) + _path_bytes(path) + CELL_BYTES

    def _repeated(self, entry: Entry, past: Past) -> Outcome:
        """What was answered the first time."""
        if key_of(entry).is_named and past.check != self._check(entry):
            return Outcome(Status.VOID, past.index, past.term, OTHER_WRITE, repeated=True)
        outcome = Outcome(Status.VOID if past.reason else Status.DONE, past.index, past.term, past.reason, repeated=True)
        if entry.kind is not Kind.COMMAND or past.reason not in ("", MISMATCH):
            return outcome
        try:
            command = command_from_bytes_untrusted(entry.body, self._decode_untrusted)
        except Malformed:
            return outcome
        if past.reason:
            return outcome._replace(value=self._value(command.path))
        return outcome._replace(token=fencing_token(self.epoch, past.index) if command.verb is Verb.ACQUIRE else 0)

    # ---- snapshots

    def digest(self) -> bytes:
        """16 bytes: of all that `snapshot` holds. Costs as much as that."""
        return digest_16(self.snapshot())

    def snapshot(self) -> bytes:
        """Everything, so that `restore_untrusted` of it has the same digest."""
        cells = sorted(([list(path), *cell] for path, cell in self._cells.items()), key=lambda row: self._encode(row[0]))
        leases = sorted(([list(path), *lease] for path, lease in self._leases.held.items()), key=lambda row: self._encode(row[0]))
        head = [SNAPSHOT_FORMAT, self.index, self.term, self.epoch, self.config, self.policy.to_value()]
        return self._encode([*head, self.ledger.to_value(), cells, leases])

    def restore_untrusted(self, raw: bytes) -> None:
        """Become what `snapshot` wrote. Raises Malformed, with nothing changed. Compare the digest with a certified one."""
        try:
            self._load_untrusted(self._decode_untrusted(raw))
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise Malformed("state has another shape") from error

    def _load_untrusted(self, value: Any) -> None:
        form, index, term, epoch, config, policy, ledger_value, cell_rows, lease_rows = value
        if form != SNAPSHOT_FORMAT:
            raise Malformed("state has another format")
        if not are_numbers((index, term, epoch)) or type(config) is not bytes:
            raise Malformed("state has another shape")
        ledger = Ledger.from_value_untrusted(ledger_value, self.ledger.read_score)
        cells = {parse_path(tuple(path)): _cell(*rest) for path, *rest in cell_rows}
        leases = {parse_path(tuple(path)): _lease(*rest) for path, *rest in lease_rows}
        for cell in cells.values():
            self._decode_untrusted(cell.value)  # else who reads it later finds that it is none
        weight = sum(len(cell.value) + _path_bytes(path) + CELL_BYTES for path, cell in cells.items())
        if weight > STATE_BYTES_MAX or len(leases) > LEASES_MAX:
            raise Malformed("more state than is ever kept")
        self.policy.load_untrusted(as_lists(policy))
        self.index, self.term, self.epoch, self.config, self.ledger = index, term, epoch, config, ledger
        self._cells, self._leases.held, self.bytes = cells, leases, weight


def _cell(value: bytes, index: int, author: bytes) -> Cell:
    if not type(value) is type(author) is bytes or not are_numbers((index,)):
        raise Malformed("a cell has another shape")
    return Cell(value, index, author)


def _lease(holder: bytes, *numbers: int) -> Lease:
    if type(holder) is not bytes or not are_numbers(numbers):
        raise Malformed("a lease has another shape")
    return Lease(holder, *numbers)


def as_lists(value: Any) -> Any:
    """Tuples of a decoder as lists, which is what patterns with `[...]` and other encoders have."""
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _path_bytes(path: Path) -> int:
    return sum(len(segment) + 50 for segment in path)
