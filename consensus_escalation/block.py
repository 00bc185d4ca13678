"""What the log is made of: blocks, each a header signed by its leader and a body of entries.

Blocks are cut once, at append, and never change: a block's hash, taken over its header bytes, names the whole history up to it,
because the header names the hash before. Commit certificates (`consensus_escalation.certificate`) sign that hash and are no part
of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from consensus_escalation.quorum import Config, config_from_value_untrusted, config_to_value
from consensus_escalation.types import BLOCK_BYTES_MAX, HASH_BYTES, Keys, Purpose, Voter, are_numbers
from crdt.errors import Malformed


class Kind(IntEnum):
    """Stable on the wire. Only COMMAND and POLICY come from clients; the rest is written by leaders."""

    NOOP = 0
    COMMAND = 1
    CONFIG = 2
    SCORE = 3
    POLICY = 4
    DEMOTE = 5
    RESTORE = 6
    CLOCK = 7
    """The time that a quorum's clocks have reached: `consensus_escalation.clocks`."""


_KINDS: Final = {int(kind): kind for kind in Kind}
_BYTES: Final = {bytes}
_HASH_SIZES: Final = {HASH_BYTES}


class Entry(NamedTuple):
    """One line of the log. (author, since, number) names it for ever: `consensus_escalation.sessions`."""

    kind: Kind
    author: bytes = b""
    """Who wants it; empty for what the leader writes itself."""
    since: int = 0
    """The log time, microseconds, that the author knew when it first asked for this."""
    number: int = 0
    """The author's own count."""
    body: bytes = b""
    signature: bytes = b""
    """The author's; a batch of one author carries it once, on its first entry. In its own block, `authorship.BY_BLOCK`."""
    evidence: bytes = b""
    """What the entry's class requires: endorsements, a proof, a certified score, the authority's word about a removal."""


class Header(NamedTuple):
    epoch: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here
    term: int
    prev: bytes
    body_hash: bytes
    config_index: int
    """Where the configuration was written that decides about this block: the one before it."""
    policy_index: int
    applied_index: int
    result_digest: bytes
    """Of the state after `applied_index`, as the leader computed it."""
    leader: Voter


@dataclass(frozen=True, slots=True)
class Block:
    header: Header
    signature: bytes
    body: bytes
    time: int
    """Log time in microseconds: the leader's wall clock, never below the block before, and within what is attested
    (`consensus_escalation.clocks`)."""
    entries: tuple[Entry, ...]
    header_bytes: bytes
    hash: bytes
    is_ordinary: bool
    """All of it are commands, as in nearly all blocks: nothing about who votes, scores, rules or clocks."""

    def has(self, kind: Kind) -> bool:
        """Whether there is an entry of this kind, other than a command."""
        return not self.is_ordinary and any(entry.kind is kind for entry in self.entries)

    @property
    def index(self) -> int:
        return self.header.index

    @property
    def term(self) -> int:
        return self.header.term

    @property
    def size(self) -> int:
        """Bytes in a frame, with the heads of its three byte strings."""
        return len(self.header_bytes) + len(self.signature) + len(self.body) + 8


def runs(entries: Sequence[Entry]) -> list[list[object]]:
    """Entries as they travel: a batch that one author numbered in a row and signed once is one run with many bodies."""
    found: list[list[object]] = []
    bodies: list[bytes] = []
    before: Entry | None = None
    for entry in entries:
        if before is not None and _continues(before, entry):
            bodies.append(entry.body)
        else:
            bodies = [entry.body]
            kind, author, since, number, _, signature, evidence = entry
            found.append([int(kind), author, since, number, signature, evidence, bodies])
        before = entry
    return found


def _continues(before: Entry, entry: Entry) -> bool:
    return (
        bool(entry.author)
        and not entry.signature
        and not entry.evidence
        and before[:3] == entry[:3]
        and entry.number == before.number + 1
        and not before.evidence
    )


RUN_BYTES: Final = 102
"""What a run takes beside its bodies and evidence, at most: heads and numbers 30, author 8, signature 64."""
TIME_SIZE: Final = 8
"""Bytes of a time that is signed or attested."""
TIME_BYTES: Final = 16
"""What a block's body takes beside its runs, at most."""


def body_size(body: bytes) -> int:
    """Of one entry's body within a run."""
    return len(body) + 1 + (len(body) > 23) + (len(body) > 255)


def run_size(batch: Sequence[Entry]) -> int:
    """At most, in a block's body."""
    return RUN_BYTES + len(batch[0].evidence) + sum([body_size(entry.body) for entry in batch])


def body_bytes(time: int, entries: Sequence[Entry], keys: Keys) -> bytes:
    return keys.encode([time, runs(entries)])


def entries_from_runs_untrusted(value: object) -> tuple[Entry, ...]:
    """Raises Malformed, also for runs that are not those that `runs` makes of these entries."""
    if not isinstance(value, list | tuple):
        raise Malformed("entries come in runs")
    entries: list[Entry] = []
    for run in value:
        if not isinstance(run, list | tuple) or len(run) != 7:
            raise Malformed("a run of entries has another shape")
        code, author, since, number, signature, evidence, bodies = run
        if (
            not are_numbers((code, since, number))
            or {*map(type, (author, signature, evidence))} != _BYTES
            or code not in _KINDS
            or not isinstance(bodies, list | tuple)
            or {*map(type, bodies)} != _BYTES
        ):
            raise Malformed("a run of entries has another shape")
        if number + len(bodies) > 1 << 64:
            raise Malformed("more entries than numbers")
        kind = _KINDS[code]
        first = Entry(kind, author, since, number, bodies[0], signature, evidence)
        if (len(bodies) > 1 and (evidence or not author)) or (entries and _continues(entries[-1], first)):
            raise Malformed("entries in other runs than they make")
        entries.append(first)
        entries += [Entry(kind, author, since, at, body) for at, body in enumerate(bodies[1:], number + 1)]
    return tuple(entries)


def cut(header: Header, time: int, entries: tuple[Entry, ...], keys: Keys) -> Block:
    """The block of `entries`; `header.body_hash` is filled in here. The leader's signature covers the header bytes."""
    body = body_bytes(time, entries, keys)
    header = header._replace(body_hash=keys.hash(body))
    header_bytes = keys.encode(list(header))
    signature, digest = keys.sign(Purpose.BLOCK, header_bytes), keys.hash(header_bytes)
    return Block(header, signature, body, time, entries, header_bytes, digest, _are_commands(entries))


def _are_commands(entries: Sequence[Entry]) -> bool:
    return all(entry.kind is Kind.COMMAND for entry in entries)


def header_from_bytes_untrusted(raw: bytes, keys: Keys) -> Header:
    """Raises Malformed."""
    try:
        value = keys.decode_untrusted(raw)
    except Malformed as error:
        raise Malformed("header is no CBOR") from error
    if not isinstance(value, list | tuple) or len(value) != 10:
        raise Malformed("header has another shape")
    epoch, index, term, before, body, config_index, policy_index, applied_index, result, leader = value
    hashes = (before, body, result)
    if (
        not are_numbers((epoch, index, term, config_index, policy_index, applied_index))
        or {*map(type, (leader, *hashes))} != _BYTES
        or {*map(len, hashes)} != _HASH_SIZES
        or len(leader) != 8
    ):
        raise Malformed("header has another shape")
    return Header(*value)


def block_from_bytes_untrusted(header_bytes: bytes, signature: bytes, body: bytes, keys: Keys) -> Block:
    """A block that holds together; its signature and its place are the receiver's to check. Raises Malformed."""
    if len(header_bytes) + len(signature) + len(body) + 8 > BLOCK_BYTES_MAX:
        raise Malformed("block is too large")
    header = header_from_bytes_untrusted(header_bytes, keys)
    if keys.hash(body) != header.body_hash:
        raise Malformed("body is not the header's")
    time, entries = body_from_bytes_untrusted(body, keys)
    return Block(header, signature, body, time, entries, header_bytes, keys.hash(header_bytes), _are_commands(entries))


def body_from_bytes_untrusted(body: bytes, keys: Keys) -> tuple[int, tuple[Entry, ...]]:
    """(log time, entries). Raises Malformed."""
    try:
        value = keys.decode_untrusted(body)
    except Malformed as error:
        raise Malformed("body is no CBOR") from error
    if not isinstance(value, list | tuple) or len(value) != 2 or type(value[0]) is not int or not 0 <= value[0] < 1 << 64:
        raise Malformed("body has another shape")
    return value[0], entries_from_runs_untrusted(value[1])


def config_entry(config: Config, keys: Keys, evidence: bytes = b"") -> Entry:
    return Entry(Kind.CONFIG, body=keys.encode(config_to_value(config)), evidence=evidence)


def config_of(block: Block, keys: Keys) -> Config | None:
    """The configuration that this block brings into force, if it does: such a block holds nothing else. Raises Malformed."""
    if not block.has(Kind.CONFIG):
        return None
    if len(block.entries) != 1:
        raise Malformed("a configuration has a block of its own")
    try:
        value = keys.decode_untrusted(block.entries[0].body)
    except Malformed as error:
        raise Malformed("configuration is no CBOR") from error
    return config_from_value_untrusted(value)


def clock_of(entries: Sequence[Entry]) -> int | None:
    """The time that a block of these attests, if it does: such a block holds nothing else."""
    return time_of(entries[0]) if len(entries) == 1 and entries[0].kind is Kind.CLOCK else None


def time_of(entry: Entry) -> int:
    """What a CLOCK entry attests; 0 if it is none that a correct leader writes."""
    return int.from_bytes(entry.body, "big") if len(entry.body) == TIME_SIZE else 0
