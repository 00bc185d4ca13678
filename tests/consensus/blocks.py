"""Blocks for the state machine, made as a leader makes them, without any consensus."""

from __future__ import annotations

from itertools import count

from consensus_escalation.block import Block, Entry, Header, Kind, cut
from consensus_escalation.command import Command, Thought, Verb, command_to_bytes
from consensus_escalation.machine import Machine, Outcome
from consensus_escalation.sessions import COUNT_BITS
from crdt.ops import Path, Value
from mesh.wire.cbor import encode
from tests.consensus.cluster import keys_of, voter

WALL = 1_700_000_000_000_000
LEADER = voter(1)
ALICE, BOB = b"alice---", b"bob-----"


class Author:
    """Blocks in a row, and entries with fresh keys."""

    def __init__(self) -> None:
        self.index, self.time, self.term, self.epoch = 0, WALL, 1, 1
        self.leader = LEADER
        self._numbers = count(1)

    def block(self, *entries: Entry) -> Block:
        self.index += 1
        header = Header(
            self.epoch, self.index, self.term, bytes(16), bytes(16), 0, 0, 0, bytes(16), self.leader
        )  # the chain is not the machine's business
        return cut(header, self.time, entries, keys_of(self.leader))

    def entry(self, command: Command, author: bytes = ALICE, number: int | None = None, since: int | None = None) -> Entry:
        used = next(self._numbers) | 1 << COUNT_BITS if number is None else number
        return Entry(Kind.COMMAND, author, self.time if since is None else since, used, command_to_bytes(command, encode))

    def do(self, machine: Machine, *entries: Entry | Command) -> tuple[Outcome, ...]:
        made = [entry if isinstance(entry, Entry) else self.entry(entry) for entry in entries]
        return machine.apply(self.block(*made))


def put(path: Path, value: Value, **thought: str) -> Command:
    return Command(Verb.SET, path, encode(value), thought=Thought(**thought))  # type: ignore[arg-type]


def swap(path: Path, old: Value, new: Value) -> Command:
    return Command(Verb.COMPARE_AND_SET, path, encode(new), encode(old))


def acquire(path: Path, ttl: int = 2000) -> Command:
    return Command(Verb.ACQUIRE, path, ttl=ttl)
