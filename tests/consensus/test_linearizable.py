"""The checker of histories, checked: known good and bad ones, and random ones of a register that is, or is not, a register."""

from __future__ import annotations

import random
from collections.abc import Hashable
from math import inf

import pytest

from mesh.testing.linearizable import DONE, GET, SET, SWAP, UNKNOWN, Mismatch, Operation, check, step


def write(value: Hashable, called: float, returned: float = inf, process: int = 0, path: str = "x") -> Operation:
    return Operation(process, path, SET, called, returned, value, None, DONE if returned < inf else UNKNOWN)


def read(value: Hashable, called: float, returned: float, process: int = 1, path: str = "x") -> Operation:
    return Operation(process, path, GET, called, returned, result=value)


def swap(old: Hashable, new: Hashable, result: Hashable, called: float, returned: float = inf) -> Operation:
    return Operation(2, "x", SWAP, called, returned, new, old, result)


GOOD: dict[str, list[Operation]] = {
    "nothing": [],
    "one after the other": [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
    "a read during a write sees either": [write(1, 0, 1), write(2, 2, 9), read(1, 3, 4), read(2, 5, 6)],
    "two writes at once, one order": [write(1, 0, 9), write(2, 0, 9), read(2, 10, 11), read(2, 12, 13)],
    "an unknown write that happened late": [write(1, 0, 1), write(2, 2), read(1, 50, 51), read(2, 99, 100)],
    "an unknown write that never happened": [write(1, 0, 1), write(2, 2), read(1, 50, 51)],
    "a swap that won": [write(1, 0, 1), swap(1, 2, DONE, 2, 3), read(2, 4, 5)],
    "a swap that lost says to what": [write(1, 0, 1), swap(7, 2, Mismatch(1), 2, 3), read(1, 4, 5)],
    "an unknown swap that another expects": [swap(None, 1, UNKNOWN, 0), swap(1, 2, UNKNOWN, 1), swap(2, 3, DONE, 2, 9)],
    "two paths": [write(1, 0, 1), read(None, 2, 3, path="y"), write(2, 4, 5, path="y"), read(1, 6, 7)],
    "a delete": [write(1, 0, 1), write(None, 2, 3), read(None, 4, 5), swap(None, 2, DONE, 6, 7)],
}
BAD: dict[str, list[Operation]] = {
    "a stale read": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "a read from the future": [read(1, 0, 1), write(1, 2, 3)],
    "back and forth": [write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6)],
    "two orders": [write(1, 0, 9), write(2, 0, 9), read(1, 10, 11), read(2, 12, 13)],
    "an unknown write that happens twice": [write(1, 0), write(2, 1, 2), read(1, 3, 4), write(3, 5, 6), read(1, 7, 8)],
    "a lost write": [write(1, 0, 1), read(None, 2, 3)],
    "two winners": [swap(None, 1, DONE, 0, 1), swap(None, 2, DONE, 2, 3)],
    "two winners at once": [swap(None, 1, DONE, 0, 9), swap(None, 2, DONE, 0, 9)],
    "a mismatch with what is expected": [write(1, 0, 1), swap(1, 2, Mismatch(1), 2, 3)],
    "a mismatch with what never was": [write(1, 0, 1), swap(5, 2, Mismatch(7), 2, 3)],
    "a refused swap that happened": [write(1, 0, 1), swap(2, 3, Mismatch(1), 2, 3), read(3, 4, 5)],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories(name: str) -> None:
    assert check(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_histories(name: str) -> None:
    (violation,) = check(BAD[name])
    assert violation.path == "x"
    assert "not linearizable" in str(violation)


def random_history(rng: random.Random, size: int, is_stale: bool) -> list[Operation]:
    """Clients of a real register; each operation happens at a random moment within its time. A stale register sometimes answers
    reads with what was there one write ago."""
    moments = []
    for number in range(size):
        called = rng.uniform(0, 20)
        happens = called + rng.expovariate(2)
        moments.append((happens, called, happens + rng.expovariate(2), number))
    state: Hashable = None
    former: Hashable = None
    found = []
    for _, called, returned, number in sorted(moments):
        kind, value = rng.choice([SET, GET, GET, SWAP]), number + 1
        expected = rng.choice([state, former, -1])
        is_open = rng.random() < 0.15
        result: Hashable = DONE
        if kind == GET:
            result = former if is_stale and rng.random() < 0.3 else state
        elif is_open and rng.random() < 0.5:
            found.append(Operation(number, "x", kind, called, inf, value, expected))
            continue  # never happens
        elif kind == SWAP and state != expected:
            result = Mismatch(state)
        else:
            former, state = state, value
        end = (inf, value, expected) if is_open else (returned, value, expected, result)
        found.append(Operation(number, "x", kind, called, *end))
    return found


def test_random_histories_of_a_register_are_linearizable() -> None:
    for seed in range(150):
        assert check(random_history(random.Random(seed), 60, is_stale=False)) == []


def test_stale_reads_are_found_in_random_histories() -> None:
    assert sum(bool(check(random_history(random.Random(seed), 60, is_stale=True))) for seed in range(100)) > 80


def test_many_open_operations_cost_little() -> None:
    """A quorum that was lost leaves hundreds of unknown writes; those that nobody ever saw explain nothing."""
    history = [write(1000 + n, n) for n in range(300)]
    history += [write(n, 300 + 2 * n, 301 + 2 * n) for n in range(100)]
    history.append(read(1042, 600, 601))
    assert check(history) == []


def test_writes_that_wait_together_cost_little() -> None:
    """Hunt, `mesh sim --critical`, seed 16: while a leader is missing, writes pile up, and all are decided at once. The checker
    tried every set of them, 2 ** 40 here, and never came back."""
    history = [write(n, n, 200 + n) for n in range(40)] + [swap(-1, 100 + n, Mismatch(n), n, 300) for n in range(0, 40, 4)]
    history += [read(8, 50, 300), read(39, 301, 302)]
    assert check(history) == []
    assert check([*history, read(38, 303, 304)])


def is_one_register(operations: list[Operation]) -> bool:
    """The definition, without a thought of speed."""

    def follows(state: Hashable, left: frozenset[int]) -> bool:
        if all(operations[number].returned == inf for number in left):
            return True
        first_return = min(operations[number].returned for number in left)
        for number in sorted(left):
            fits, after = step(state, operations[number])
            if operations[number].called <= first_return and fits and follows(after, left - {number}):
                return True
        return False

    return follows(None, frozenset(range(len(operations))))


def test_the_search_says_what_the_definition_says() -> None:
    """What it leaves out (`_Search`) changes no answer. Few values, so that some are written twice."""
    rng, answers = random.Random(1), []
    for _ in range(1_500):
        operations = []
        for _ in range(rng.randint(2, 6)):
            called, kind = rng.uniform(0, 10), rng.choice([SET, SET, GET, SWAP])
            values: list[Hashable] = [rng.choice([None, 1, 2, 3]) for _ in range(3)]
            result = {SET: DONE, GET: values[2], SWAP: rng.choice([DONE, Mismatch(values[2])])}[kind]
            if rng.random() < 0.2:
                operations.append(Operation(0, "x", kind, called, inf, values[0], values[1]))
            else:
                operations.append(Operation(0, "x", kind, called, called + rng.uniform(0, 8), values[0], values[1], result))
        answers.append(is_one_register(operations))
        assert (check(operations) == []) == answers[-1], operations
    assert 300 < sum(answers) < 1_200
