"""Shelves that end: random histories of the model and of the real classes, each rule shown to be needed, and single cases.

Long runs: `python -m tests.crdt.ended_model FIRST COUNT [-RULE] [option=value]`, and `tests.crdt.ended_real` in the same way.
"""

from __future__ import annotations

import pytest

from crdt import Replica
from crdt.delta import is_fork
from tests.crdt import ended_model, ended_real
from tests.crdt.ended_cells import RULES, Wrong
from tests.crdt.meshes import KEY, give, meet, replica, shelf_of, shown

NEEDED = {  # the seed of a history of 60 steps that goes wrong without the rule, found by longer runs
    "FREEZE": 776,
    "PROOF": 1,
    "WHOLE": 88,
    "COLLECT": 39,
    "LOOSE": 39,
    "BOTH": 2976,
    "ORDER": 718,
    "UNION": 2454,
    "KEEP": 2454,
    "VOID": 8,
}


def test_histories_of_the_model() -> None:
    total = sum((ended_model.run(seed) for seed in range(250)), start=ended_model.run(0))
    for danger in ("fork", "proof", "healed", "cut", "closed", "strict", "drop"):
        assert total[danger] > 25, f"the histories hardly exercise {danger}"


@pytest.mark.interpreted
def test_histories_of_the_real_classes() -> None:
    total = sum((ended_real.run(seed) for seed in range(120)), start=ended_real.run(0))
    for danger in ("fork", "proof", "healed", "cut", "closed", "strict", "drop"):
        assert total[danger] > 10, f"the histories hardly exercise {danger}"


@pytest.mark.parametrize("rule", NEEDED)
def test_each_rule_is_needed(rule: str) -> None:
    ended_model.run(NEEDED[rule], steps=60)
    with pytest.raises(Wrong):
        ended_model.run(NEEDED[rule], frozenset(RULES) - {rule}, steps=60)


def fork(name: str) -> tuple[Replica, Replica]:
    """Two processes that write one shelf, after a delta that both know."""
    one, other = replica(name), replica(name)
    for each in (one, other):
        each.write(1, ("both",), "before", now_wall=1)
    return one, other


def test_two_headers_of_one_number_prove_a_fork() -> None:
    one, other = fork("A")
    first, second = one.write(*KEY, "one").head, other.write(*KEY, "other").head
    assert is_fork(first, second)
    assert not is_fork(first, first)


def test_a_successor_of_another_predecessor_proves_a_fork() -> None:
    one, other = fork("A")
    first = one.write(*KEY, "one").head
    other.write(*KEY, "other")
    assert is_fork(first, other.write(*KEY, "next").head)
    assert not is_fork(first, one.write(*KEY, "next").head)


def test_an_author_goes_on_with_a_new_shelf_and_brings_both_branches_along() -> None:
    one, other = fork("A")
    left, right = replica("B"), replica("C")
    give([one.write(1, ("left",), 1)], left)
    pull_all(one, left)
    pull_all(other, right)
    give([other.write(1, ("right",), 2)], right)
    for each in (one, left, right):
        each.end(shelf_of("A"))
    one.begin_again(shelf_of("A", 2))
    one.write(1, ("after",), 3)
    one.close(shelf_of("A"), [*one.copy_of(shelf_of("A")), *left.copy_of(shelf_of("A")), *right.copy_of(shelf_of("A"))])
    meet(one, left, right)
    for each in (one, left, right):
        values = {path: shown(each, (1, (path,))) for path in ("both", "left", "right", "after")}
        assert values == {"both": ["before"], "left": [1], "right": [2], "after": [3]}
        assert each.shelves() == [shelf_of("A", 2)]


def pull_all(author: Replica, *readers: Replica) -> None:
    listing = author.listing(author.shelf)
    assert listing is not None
    for reader in readers:
        reader.jump(listing.head, 0, listing.entries, listing.bodies)


def test_nobody_else_closes_a_shelf_without_a_cut() -> None:
    one, thief, reader = replica("A"), replica("T"), replica("B")
    pull_after = one.write(*KEY, "mine")
    give([pull_after], thief, reader)
    thief.end(one.shelf)
    thief.close(one.shelf, [])
    meet(thief, reader)
    assert shown(reader) == ["mine"]


def test_a_wrong_digest_freezes_the_shelf_until_a_statement_mends_it() -> None:
    """The base went on growing upon what its author had not signed."""
    author, reader, witness = replica("A"), replica("B"), replica("C")
    deltas = [author.write(1, (f"k{at}",), at) for at in range(3)]
    give(deltas[:2], reader)
    give(deltas, witness)
    held = reader.bases[author.shelf].own[1]
    reader.remove(held, 0)  # as if memory had been damaged
    reader.check_digests()
    assert [fault.kind for fault in reader.take_faults()] == ["digest"]
    give(deltas[2:], reader)
    assert reader.floor(author.shelf) == 2
    listing = witness.listing(author.shelf)
    assert listing is not None
    assert reader.jump(listing.head, 0, listing.entries, listing.bodies)
    assert reader.floor(author.shelf) == 3
    assert reader.state_digest() == witness.state_digest()
