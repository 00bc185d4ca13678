"""The bytes of everything that voters say and keep: messages, blocks, certificates, verdicts.

    message      [epoch, kind, field, ...]                    one frame, at most MESSAGE_BYTES_MAX
    block        [header bytes, signature, body bytes]        both inner strings are CBOR again, as they were signed
    certificate  [[header bytes, ...], [[voter, index, signature], ...]]

Deterministic CBOR of fixed shape; what is not exactly that is refused with Malformed, before anything is believed. Numbers have
64 bits; nothing here sizes a loop or an allocation by a number that came from the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from consensus_escalation.block import Block, Entry, block_from_bytes_untrusted, entries_from_runs_untrusted, runs
from consensus_escalation.certificate import HEADERS_MAX, Ack, Certificate
from consensus_escalation.impeachment import PROOF_BYTES_MAX
from consensus_escalation.messages import (
    Accepted,
    Append,
    AskClock,
    AskPreVote,
    AskRead,
    AskVote,
    CastVerdict,
    HandOver,
    Mandate,
    Message,
    PreVote,
    Propose,
    ReadAt,
    Rejected,
    SnapshotPiece,
    SnapshotTaken,
    TellClock,
    Vote,
)
from consensus_escalation.quorum import CONFIG_SIZE_MAX
from consensus_escalation.snapshot import PIECE_BYTES, SNAPSHOT_BYTES_MAX
from consensus_escalation.types import HASH_BYTES, Keys, Position, Voter
from consensus_escalation.verdict import RULE_BYTES_MAX, Proposal, Verdict
from crdt.errors import Malformed

MESSAGE_BYTES_MAX: Final = 1160
"""What fits a frame of the mesh. Blocks, proofs and pieces are cut so that no message of a correct voter is larger."""
SIGNATURE_BYTES_MAX: Final = 64
BLOCKS_MAX: Final = 16
"""In one message: the smallest block has 170 bytes, so a frame has room for 6."""
VOTER_BYTES: Final = 8

T = TypeVar("T")

# ---- fields from outside: each raises Malformed


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise Malformed("a number is not negative and has 64 bits")
    return value


def _bytes(value: object, longest: int, shortest: int = 0) -> bytes:
    if type(value) is not bytes or not shortest <= len(value) <= longest:
        raise Malformed(f"expected {shortest} to {longest} bytes")
    return value


def _hash(value: object) -> bytes:
    return _bytes(value, HASH_BYTES, HASH_BYTES)


def _signature(value: object) -> bytes:
    return _bytes(value, SIGNATURE_BYTES_MAX)


def _voter(value: object) -> Voter:
    return Voter(_bytes(value, VOTER_BYTES, VOTER_BYTES))


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise Malformed("expected true or false")
    return value


def _array(value: object, length: int) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) != length:
        raise Malformed(f"expected an array of {length}")
    return tuple(value)


def _some(value: object, longest: int) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) > longest:
        raise Malformed(f"expected an array of at most {longest}")
    return tuple(value)


def _optional(value: object, read: Callable[[object], T]) -> T | None:
    return None if value is None else read(value)


def _position(value: object) -> Position:
    term, index = _array(value, 2)
    return Position(_number(term), _number(index))


def _mandate(value: object) -> Mandate:
    term, heir, signature = _array(value, 3)
    return Mandate(_number(term), _voter(heir), _signature(signature))


# ---- blocks


def block_to_value(block: Block) -> list[bytes]:
    return [block.header_bytes, block.signature, block.body]


def block_from_value_untrusted(value: object, keys: Keys) -> Block:
    """A block that holds together; who signed it and where it belongs is for the caller. Raises Malformed."""
    header, signature, body = _array(value, 3)
    longest = MESSAGE_BYTES_MAX
    return block_from_bytes_untrusted(_bytes(header, longest), _signature(signature), _bytes(body, longest), keys)


def block_to_bytes(block: Block, keys: Keys) -> bytes:
    return keys.encode(block_to_value(block))


def block_from_raw_untrusted(raw: bytes, keys: Keys) -> Block:
    """Raises Malformed."""
    return block_from_value_untrusted(keys.decode_untrusted(raw), keys)


# ---- entries on their way to the leader


def batch_to_value(batch: tuple[Entry, ...]) -> list[list[object]]:
    return runs(batch)


def batch_from_value_untrusted(value: object) -> tuple[Entry, ...]:
    """Raises Malformed, also for anything but one run."""
    if len(_some(value, 1)) != 1:
        raise Malformed("a batch is one run")
    return entries_from_runs_untrusted(value)


# ---- verdicts


def verdict_to_value(verdict: Verdict) -> list[object]:
    return list(verdict)


def verdict_from_value_untrusted(value: object) -> Verdict:
    """Raises Malformed."""
    proposal, term, voter, rule, signature = _array(value, 5)
    if type(rule) is not str or len(rule.encode()) > RULE_BYTES_MAX:
        raise Malformed(f"a rule is named in {RULE_BYTES_MAX} bytes of text")
    return Verdict(_hash(proposal), _number(term), _voter(voter), rule, _signature(signature))


def proposal_to_value(proposal: Proposal) -> list[object]:
    epoch, term, attempt, leader, entry, base, policy, config, signature = proposal
    return [epoch, term, attempt, leader, runs((entry,)), base, policy, config, signature]


def proposal_from_value_untrusted(value: object) -> Proposal:
    epoch, term, attempt, leader, entry, base, policy, config, signature = _array(value, 9)
    batch = batch_from_value_untrusted(entry)
    if len(batch) != 1:
        raise Malformed("a proposal is about one entry")
    return Proposal(
        _number(epoch),
        _number(term),
        _number(attempt),
        _voter(leader),
        batch[0],
        _number(base),
        _number(policy),
        _number(config),
        _signature(signature),
    )


# ---- certificates


def acks_to_value(acks: tuple[Ack, ...]) -> list[list[object]]:
    return [list(ack) for ack in acks]


def acks_from_value_untrusted(value: object) -> tuple[Ack, ...]:
    """Raises Malformed."""
    found = []
    for row in _some(value, 2 * CONFIG_SIZE_MAX):
        voter, index, signature = _array(row, 3)
        found.append(Ack(_voter(voter), _number(index), _signature(signature)))
    return tuple(found)


def certificate_to_value(certificate: Certificate) -> list[object]:
    return [list(certificate.headers), acks_to_value(certificate.acks)]


def certificate_from_value_untrusted(value: object) -> Certificate:
    """Raises Malformed. What it proves is for `certificate.verify_certificate_untrusted`."""
    headers, acks = _array(value, 2)
    checked = tuple(_bytes(raw, MESSAGE_BYTES_MAX) for raw in _some(headers, HEADERS_MAX))
    return Certificate(checked, acks_from_value_untrusted(acks))


# ---- messages


def _fields(message: Message) -> tuple[int, list[object]]:
    """(kind, fields). Kinds are stable on the wire."""
    match message:
        case AskPreVote(term, last, mandate, proof):
            return 1, [term, list(last), None if mandate is None else list(mandate), proof]
        case PreVote(term, granted):
            return 2, [term, granted]
        case AskVote(term, last, mandate, proof):
            return 3, [term, list(last), None if mandate is None else list(mandate), proof]
        case Vote(term, granted):
            return 4, [term, granted]
        case Append(term, prev_index, prev_term, prev_hash, blocks, commit, round_):
            return 5, [term, prev_index, prev_term, prev_hash, [block_to_value(block) for block in blocks], commit, round_]
        case Accepted(term, match_, round_, ack):
            return 6, [term, match_, round_, ack]
        case Rejected(term, prev_index, hint, round_):
            return 7, [term, prev_index, hint, round_]
        case HandOver(term, mandate):
            return 8, [term, list(mandate)]
        case AskRead(term, number):
            return 9, [term, number]
        case ReadAt(term, number, index):
            return 10, [term, number, index]
        case SnapshotPiece(term, index, digest, offset, total, data):
            return 11, [term, index, digest, offset, total, data]
        case SnapshotTaken(term, index, offset, round_):
            return 12, [term, index, offset, round_]
        case Propose(term, proposal):
            return 13, [term, proposal_to_value(proposal)]
        case CastVerdict(term, verdict, proposal):
            return 14, [term, verdict_to_value(verdict), None if proposal is None else proposal_to_value(proposal)]
        case AskClock(term, base):
            return 15, [term, base]
        case TellClock(term, base, time, signature):
            return 16, [term, base, time, signature]


def message_to_bytes(epoch: int, message: Message, keys: Keys) -> bytes:
    kind, fields = _fields(message)
    return keys.encode([epoch, kind, *fields])


def message_from_bytes_untrusted(raw: bytes, keys: Keys) -> tuple[int, Message]:
    """(epoch, message). Raises Malformed."""
    if len(raw) > MESSAGE_BYTES_MAX:
        raise Malformed("a message is too large")
    value = keys.decode_untrusted(raw)
    if not isinstance(value, list | tuple) or len(value) < 3:
        raise Malformed("a message has an epoch, a kind and a term")
    epoch, kind = _number(value[0]), _number(value[1])
    read = _READERS.get(kind)
    if read is None:
        raise Malformed("no such kind of message")
    return epoch, read(tuple(value[2:]), keys)


def _campaign_untrusted(fields: tuple[Any, ...]) -> tuple[int, Position, Mandate | None, bytes]:
    term, last, mandate, proof = _array(fields, 4)
    return _number(term), _position(last), _optional(mandate, _mandate), _bytes(proof, PROOF_BYTES_MAX)


def _answer_untrusted(fields: tuple[Any, ...]) -> tuple[int, bool]:
    term, granted = _array(fields, 2)
    return _number(term), _flag(granted)


def _append_untrusted(fields: tuple[Any, ...], keys: Keys) -> Append:
    term, prev_index, prev_term, prev_hash, blocks, commit, round_ = _array(fields, 7)
    found = tuple([block_from_value_untrusted(block, keys) for block in _some(blocks, BLOCKS_MAX)])
    return Append(
        _number(term), _number(prev_index), _number(prev_term), _hash(prev_hash), found, _number(commit), _number(round_)
    )


def _accepted_untrusted(fields: tuple[Any, ...]) -> Accepted:
    term, match, round_, ack = _array(fields, 4)
    return Accepted(_number(term), _number(match), _number(round_), _signature(ack))


def _hand_over_untrusted(fields: tuple[Any, ...]) -> HandOver:
    term, mandate = _array(fields, 2)
    return HandOver(_number(term), _mandate(mandate))


def _read_at_untrusted(fields: tuple[Any, ...]) -> ReadAt:
    term, number, index = _array(fields, 3)
    return ReadAt(_number(term), _number(number), _optional(index, _number))


def _piece_untrusted(fields: tuple[Any, ...]) -> SnapshotPiece:
    term, index, digest, offset, total, data = _array(fields, 6)
    if _number(total) > SNAPSHOT_BYTES_MAX or _number(offset) > total:
        raise Malformed("a snapshot is too large")
    return SnapshotPiece(_number(term), _number(index), _hash(digest), offset, total, _bytes(data, PIECE_BYTES))


def _numbers(fields: tuple[Any, ...], count: int) -> list[int]:
    return [_number(each) for each in _array(fields, count)]


def _propose_untrusted(fields: tuple[Any, ...]) -> Propose:
    term, proposal = _array(fields, 2)
    return Propose(_number(term), proposal_from_value_untrusted(proposal))


def _cast_untrusted(fields: tuple[Any, ...]) -> CastVerdict:
    term, verdict, proposal = _array(fields, 3)
    return CastVerdict(_number(term), verdict_from_value_untrusted(verdict), _optional(proposal, proposal_from_value_untrusted))


def _clock_untrusted(fields: tuple[Any, ...]) -> TellClock:
    term, base, time, signature = _array(fields, 4)
    return TellClock(_number(term), _number(base), _number(time), _signature(signature))


_READERS: Final[dict[int, Callable[[tuple[Any, ...], Keys], Message]]] = {
    1: lambda fields, keys: AskPreVote(*_campaign_untrusted(fields)),
    2: lambda fields, keys: PreVote(*_answer_untrusted(fields)),
    3: lambda fields, keys: AskVote(*_campaign_untrusted(fields)),
    4: lambda fields, keys: Vote(*_answer_untrusted(fields)),
    5: _append_untrusted,
    6: lambda fields, keys: _accepted_untrusted(fields),
    7: lambda fields, keys: Rejected(*_numbers(fields, 4)),
    8: lambda fields, keys: _hand_over_untrusted(fields),
    9: lambda fields, keys: AskRead(*_numbers(fields, 2)),
    10: lambda fields, keys: _read_at_untrusted(fields),
    11: lambda fields, keys: _piece_untrusted(fields),
    12: lambda fields, keys: SnapshotTaken(*_numbers(fields, 4)),
    13: lambda fields, keys: _propose_untrusted(fields),
    14: lambda fields, keys: _cast_untrusted(fields),
    15: lambda fields, keys: AskClock(*_numbers(fields, 2)),
    16: lambda fields, keys: _clock_untrusted(fields),
}
