"""What committed blocks make of the critical state: cells, compare-and-set, leases, exactly once, digests and snapshots."""

from __future__ import annotations

import random

import pytest

from consensus_escalation import leases as leases_module
from consensus_escalation import machine as machine_module
from consensus_escalation.block import Entry, Kind
from consensus_escalation.command import (
    REMEMBERED,
    Command,
    Thought,
    Verb,
    command_from_bytes_untrusted,
    command_to_bytes,
    is_short_number,
    written,
)
from consensus_escalation.machine import Cell, Machine, Status
from consensus_escalation.sessions import NAMED
from crdt.errors import Malformed
from crdt.ops import Path
from mesh.wire.cbor import decode_untrusted, encode
from tests.consensus.blocks import ALICE, BOB, Author, acquire, put, swap
from tests.consensus.cluster import voter

TASK: Path = ("tasks", "42", "owner")


def value(machine: Machine, path: Path = TASK) -> object:
    cell = machine.cell(path)
    return decode_untrusted(cell.value) if cell else None


def test_set_delete_and_compare_and_set() -> None:
    author, machine = Author(), Machine()
    assert author.do(machine, put(TASK, "r7"))[0].status is Status.DONE
    assert machine.cell(TASK) == Cell(encode("r7"), 1, ALICE)
    won, lost = author.do(machine, swap(TASK, "r7", "r8"), swap(TASK, "r7", "r9"))
    assert (won.status, lost.status, lost.reason, lost.value) == (Status.DONE, Status.VOID, "mismatch", encode("r8"))
    author.do(machine, Command(Verb.DELETE, TASK))
    assert machine.cell(TASK) is None
    assert machine.bytes == 0
    assert author.do(machine, swap(TASK, None, "r1"))[0].status is Status.DONE, "None means nothing is there"
    assert value(machine) == "r1"


def test_a_repeated_entry_is_answered_as_the_first_time_and_done_once() -> None:
    author, machine = Author(), Machine()
    claim = author.entry(swap(TASK, None, "r1"), number=NAMED | 1)
    (first,) = author.do(machine, claim)
    author.do(machine, put(TASK, "r2"))
    (again,) = author.do(machine, claim)
    assert again == first._replace(repeated=True)
    assert value(machine) == "r2"
    assert machine.recall(claim) == again
    other = author.entry(swap(TASK, None, "r3"), author=BOB, number=NAMED | 1)
    assert author.do(machine, other)[0].reason == "mismatch", "another author's key is another key"
    author.do(machine, Command(Verb.DELETE, TASK))
    (late,) = author.do(machine, other)
    assert (late.status, late.reason, late.repeated) == (Status.VOID, "mismatch", True), "definite stays definite"


def test_a_key_that_is_used_for_another_write_does_not_look_done() -> None:
    """Found by the demo: a robot that was started again drew the same keys from its seed, and took others' tasks for its own."""
    author, machine = Author(), Machine()
    author.do(machine, author.entry(swap(TASK, None, "r1"), number=NAMED | 1))
    other = author.entry(swap(("tasks", "43"), None, "r1"), number=NAMED | 1)
    (outcome,) = author.do(machine, other)
    assert (outcome.status, outcome.reason) == (Status.VOID, "its idempotency key was used for another write")
    assert machine.recall(other) == outcome
    flagged = swap(TASK, None, "r1")._replace(thought=Thought("claim", is_dangerous=True))
    assert author.do(machine, author.entry(flagged, number=NAMED | 1))[0].status is Status.DONE, "the same, of another class"
    assert machine.cell(("tasks", "43")) is None


def test_a_key_that_is_too_old_is_neither_done_nor_denied() -> None:
    author, machine = Author(), Machine()
    entry = author.entry(put(TASK, 1))
    author.time += 25 * 3600 * 1_000_000
    (outcome,) = author.do(machine, entry)
    assert outcome.status is Status.UNKNOWN
    assert machine.cell(TASK) is None
    known = machine.recall(entry)
    assert known is not None
    assert known.status is Status.UNKNOWN


def test_a_lease_has_one_holder_and_its_tokens_only_grow() -> None:
    author, machine = Author(), Machine()
    dock: Path = ("locks", "dock-3")
    (granted,) = author.do(machine, acquire(dock))
    assert granted.token == 1 << 32 | 1
    assert author.do(machine, author.entry(acquire(dock), author=BOB))[0].reason == "held"
    assert author.do(machine, acquire(dock))[0].reason == "held", "not even twice by one agent: two of its tasks may want it"
    renewed = Command(Verb.RENEW, dock, token=granted.token, ttl=500)
    assert author.do(machine, renewed)[0].status is Status.DONE
    assert author.do(machine, author.entry(renewed, author=BOB))[0].reason == "lease lost", "Bob does not hold it"
    released, again = author.do(machine, Command(Verb.RELEASE, dock, token=granted.token), acquire(dock))
    assert (released.status, again.status) == (Status.DONE, Status.DONE)
    assert again.token > granted.token


def test_a_token_is_never_given_twice_in_one_block() -> None:
    """A block is one index and has many entries: acquire, release and acquire again would have had the same token."""
    author, machine = Author(), Machine()
    dock: Path = ("dock",)
    release = Command(Verb.RELEASE, dock, token=1 << 32 | 1)
    first, gone, second = author.do(machine, acquire(dock), release, author.entry(acquire(dock), author=BOB))
    assert (first.status, gone.status, second.reason) == (Status.DONE, Status.DONE, "held")
    assert author.do(machine, author.entry(acquire(dock), author=BOB))[0].status is Status.DONE


def test_only_the_leaders_expiry_of_what_it_saw_ends_a_lease() -> None:
    author, machine = Author(), Machine()
    dock: Path = ("dock",)
    (granted,) = author.do(machine, acquire(dock))
    expire = Command(Verb.EXPIRE, dock, token=granted.token, ttl=1)
    assert author.do(machine, expire)[0].reason == "not the leader"
    author.do(machine, Command(Verb.RENEW, dock, token=granted.token, ttl=500))
    assert author.do(machine, author.entry(expire, author=author.leader))[0].reason == "renewed meanwhile"
    seen = machine.lease(dock)
    assert seen is not None
    assert author.do(machine, author.entry(expire._replace(ttl=seen.renewed), author=author.leader))[0].status is Status.DONE
    assert machine.lease(dock) is None
    assert author.do(machine, Command(Verb.RENEW, dock, token=granted.token, ttl=500))[0].reason == "lease lost"


def test_nobody_lifts_its_own_demotion() -> None:
    author, machine = Author(), Machine()
    author.do(machine, Entry(Kind.DEMOTE, body=voter(3)))
    assert machine.ledger.demoted == {voter(3): 1}
    own, others, twice = [
        author.do(machine, Entry(Kind.RESTORE, who, author.time, NAMED | number, voter(3)))[0]
        for number, who in enumerate((voter(3), voter(2), voter(1)))
    ]
    assert (own.status, others.status, twice.reason) == (Status.VOID, Status.DONE, "not demoted")
    assert machine.ledger.demoted == {}


def test_what_no_client_should_have_written_is_void_and_harms_nothing() -> None:
    author, machine = Author(), Machine()
    bodies = [
        b"",
        b"\xff",
        encode(7),
        encode([99, ["a"]]),
        encode([1, []]),
        encode([1, ["a", ""]]),
        encode([1, ["a"], 5]),
        encode([1, ["a"], b"\xf6", b"\xf6", 0, 0, ["x" * 300, b"\xf6", "", "", False]]),
        encode([1, ["a"], b"\xf6", b"\xf6", True]),
    ]
    entries = [Entry(Kind.COMMAND, ALICE, author.time, NAMED | number, body) for number, body in enumerate(bodies)]
    assert {outcome.reason for outcome in author.do(machine, *entries)} == {"malformed"}
    assert list(machine.cells()) == []
    assert {outcome.reason for outcome in author.do(machine, acquire(("a",), ttl=1), acquire(("b",), ttl=10**12))} == {"ttl"}


@pytest.mark.interpreted
def test_the_state_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "STATE_BYTES_MAX", 2000)
    monkeypatch.setattr(leases_module, "LEASES_MAX", 2)
    author, machine = Author(), Machine()
    reasons = [author.do(machine, put(("a", str(number)), "x" * 200))[0].reason for number in range(8)]
    assert reasons[:3] == [""] * 3
    assert reasons[-1] == "full"
    assert machine.bytes <= 2000
    assert author.do(machine, put(("a", "0"), ""))[0].status is Status.DONE, "less is always possible"
    assert [author.do(machine, acquire((str(n),)))[0].reason for n in range(3)] == ["", "", "full"]


def test_commands_travel_whole_and_short() -> None:
    thought = Thought("valve.open", encode({"valve": 3}), "tank is full", "trace-1", is_dangerous=True)
    for command in (
        put(TASK, "r7"),
        swap(TASK, None, {"a": [1, 2.5, b"x"]}),
        Command(Verb.RENEW, TASK, token=1 << 33, ttl=1500),
        Command(Verb.DECIDE, thought=thought),
        Command(Verb.DELETE, ("a", b"\x00")),
    ):
        assert command_from_bytes_untrusted(command_to_bytes(command, encode), decode_untrusted) == command
    assert len(command_to_bytes(put(TASK, "r7"), encode)) <= 25


class Label(str):
    """A text that is one only nearly: encoded into a snapshot, it might be something else."""


def test_what_was_written_here_is_what_decoding_gives() -> None:
    """Else an agent would apply to its own entries what nobody else sees in them."""
    raws = set()
    for command in (
        put(TASK, "r7"),
        put((b"\x00", "\u00e9", "x" * 256), 1 << 63),
        Command(Verb.DELETE, ("a",)),
        Command(Verb.DECIDE, (), encode(1)),
        Command(Verb.SET, (Label("a"), "b"), encode(1)),
        Command(Verb.SET, ("a",), encode(1), thought=Thought(rationale="r" * 300)),
        swap(TASK, None, 7),
    ):
        raw = command_to_bytes(command, encode)
        REMEMBERED.clear()
        try:
            expected: Command | None = command_from_bytes_untrusted(raw, decode_untrusted)
        except Malformed:
            expected = None
        REMEMBERED.clear()
        written(command, raw, decode_untrusted)
        if REMEMBERED.get(raw, decode_untrusted) is not None:
            raws.add(raw)
            found = command_from_bytes_untrusted(raw, decode_untrusted)
            assert found == expected
            assert [*map(type, found)] == [*map(type, expected or ())]
            assert [*map(type, found.path)] == [*map(type, expected.path if expected else ())]
    assert len(raws) == 4, "neither what says more nor what is nearly a text"


def test_a_short_number_is_known_without_decoding() -> None:
    """All agents have to see alike which values are numbers, and which are malformed."""
    raws = [bytes((one,)) for one in range(256)] + [bytes((one, two)) for one in range(256) for two in range(256)]
    raws += [bytes((one, two, 200)) for one in range(256) for two in range(256)] + [b"", b"\x19\x01\x00\x00", b"\x19\x01"]
    for raw in raws:
        try:
            found = decode_untrusted(raw)
        except Malformed:
            found = None
        assert is_short_number(raw) == (type(found) is int and -(1 << 16) <= found < 1 << 16), raw


def random_history(seed: int, author: Author) -> list[Entry]:
    rng = random.Random(seed)
    paths: list[Path] = [("p", str(number)) for number in range(6)]
    path, who = rng.choice(paths), rng.choice([ALICE, BOB, author.leader])
    token = rng.choice([0, 1 << 32 | max(1, author.index - rng.randrange(4))])
    command = rng.choice(
        [
            put(path, rng.random()),
            swap(path, None, rng.randrange(3)),
            swap(path, rng.randrange(3), rng.randrange(3)),
            Command(Verb.DELETE, path),
            acquire(path),
            Command(Verb.RENEW, path, token=token, ttl=1000),
            Command(Verb.RELEASE, path, token=token),
            Command(Verb.EXPIRE, path, token=token, ttl=max(1, author.index - rng.randrange(4))),
        ]
    )
    return [author.entry(command, who, rng.choice([None, NAMED | rng.randrange(30)]))]


def test_a_snapshot_is_the_state_and_digests_are_of_nothing_else() -> None:
    """Two machines, one of which is restored from the other's snapshot every now and then, stay the same in every digest."""
    author, first, second = Author(), Machine(encode=encode, decode_untrusted=decode_untrusted), Machine()
    seen = set()
    for seed in range(600):
        author.time += random.Random(seed).choice([1, 1000, 3600 * 1_000_000])
        block = author.block(*random_history(seed, author))
        assert first.apply(block) == second.apply(block)
        if seed % 50 == 0:
            restored = Machine()
            restored.restore_untrusted(second.snapshot())
            second = restored
        if seed % 7 == 0:
            assert first.digest() == second.digest()
        assert first.digest() not in seen
        seen.add(first.digest())
    assert first.snapshot() == second.snapshot()
    assert first.bytes == second.bytes
    assert len(list(first.leases())) > 0


@pytest.mark.parametrize("value", [b"", b"\xff", b"\x18\x01", b"\x01\x01", b"\xf7", b"\xd8\x20\x61a"])
def test_a_state_with_a_value_that_is_none_is_malformed(value: bytes) -> None:
    """Regression: a lying leader's snapshot was taken as it came. Who then looked at the value, a rule at the next write or
    whoever watched that path, ended with what its decoder raised."""
    author, machine = Author(), Machine()
    author.do(machine, put(TASK, "r7"))
    machine._cells[TASK] = machine._cells[TASK]._replace(value=value)
    with pytest.raises(Malformed):
        Machine().restore_untrusted(machine.snapshot())


@pytest.mark.parametrize("number", [-1, -(1 << 64)])
def test_a_state_with_numbers_that_no_block_could_carry_is_malformed(number: int) -> None:
    author, machine = Author(), Machine()
    author.do(machine, put(TASK, "r7"), acquire(("dock",)))
    cell, lease = machine._cells[TASK], machine._leases.held[("dock",)]
    Machine().restore_untrusted(machine.snapshot())
    machine._cells[TASK] = cell._replace(index=number)
    with pytest.raises(Malformed):
        Machine().restore_untrusted(machine.snapshot())
    machine._cells[TASK] = cell
    for wrong in (lease._replace(token=number), lease._replace(ttl=number), lease._replace(renewed=number)):
        machine._leases.held[("dock",)] = wrong
        with pytest.raises(Malformed):
            Machine().restore_untrusted(machine.snapshot())


def test_other_bytes_are_malformed_and_change_nothing() -> None:
    author, machine = Author(), Machine()
    author.do(machine, put(TASK, "r7"), acquire(("dock",)))
    raw, before = machine.snapshot(), machine.digest()
    rng = random.Random(3)
    for _ in range(2000):
        broken = bytearray(raw)
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        other = Machine()
        try:
            other.restore_untrusted(bytes(broken))
        except Malformed:
            assert other.digest() == Machine().digest()
        else:
            assert other.digest() != before or other.snapshot() == raw, "an empty map where an empty array was"
    for bad in (b"", encode([1]), encode([2, 0, 0, 0, b"", [0, 0, [], [], [0, []]], [], []])):
        with pytest.raises(Malformed):
            machine.restore_untrusted(bad)
    assert machine.digest() == before
