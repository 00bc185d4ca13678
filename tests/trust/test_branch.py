"""Directories that share what they know until one of them learns more."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.trust import Directory
from tests.trust.test_directory import everything_said, history
from tests.trust.world import add_all, at, authority, identity


def settled(known: Directory) -> Directory:
    known.take_added()
    known.take_changed()
    return known


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_branches_go_their_own_ways_and_meet_again(seed: int, order: random.Random) -> None:
    tool, raws, everybody = history(random.Random(seed))
    order.shuffle(raws)
    whole = Directory(tool.charter)
    add_all(whole, raws, at(0))
    stem = Directory(tool.charter)
    stem.restore(raws[: order.randrange(len(raws))])
    one, other = settled(stem).branch(), stem.branch()
    before = everything_said(stem, everybody)
    assert everything_said(one, everybody) == before
    add_all(one, raws, at(0))
    assert everything_said(stem, everybody) == everything_said(other, everybody) == before
    order.shuffle(raws)
    add_all(stem, raws, at(0))
    assert everything_said(other, everybody) == before
    other.restore(raws)
    for known in (one, other, stem):
        assert everything_said(known, everybody) == everything_said(whole, everybody)


def test_a_branch_costs_nothing_and_tells_its_own_user() -> None:
    tool = authority()
    tool.certify(identity("b").public_key, name="b")
    stem = Directory(tool.charter)
    add_all(stem, tool.statements, at(0))
    with pytest.raises(ValueError, match="taken before"):
        stem.branch()
    told: list[object] = []
    one, other = settled(stem).branch(notify=told.append), stem.branch()
    assert one._ledger is other._ledger is stem._ledger
    assert not one.has_moved
    tool.revoke(identity("b").replica_id, honoured=[])
    add_all(one, tool.statements, at(1))
    assert one._ledger is not other._ledger
    assert one.has_moved
    assert not other.has_moved
    assert len(told) == 1
    assert [each.revoked(identity("b").replica_id) for each in (one, other)] == [True, False]
