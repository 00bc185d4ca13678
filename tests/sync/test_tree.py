"""The push tree reaches everybody once, whoever computes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.ids import ReplicaId
from mesh.sync.tree import PushTree


class View:
    """What one member sees of the others."""

    def __init__(self, alive: list[ReplicaId], suspects: list[ReplicaId]) -> None:
        self.living = sorted([*alive, *suspects])
        self._suspects = suspects

    def suspects(self) -> list[ReplicaId]:
        return self._suspects


def members(count: int) -> list[ReplicaId]:
    return [ReplicaId(number.to_bytes(8, "big")) for number in range(1, count + 1)]


def push(
    author: ReplicaId, alive: list[ReplicaId], suspects: list[ReplicaId], degree: int = 32
) -> tuple[dict[ReplicaId, int], int]:
    """How often each member receives, and over how many hops the last one is reached. Every member computes its own tree."""
    trees = {}
    for member in alive:
        trees[member] = PushTree(member, View([m for m in alive if m != member], suspects), degree=degree)
    received = dict.fromkeys([*alive, *suspects], 0)
    hop, hops = [author], 0
    while hop:
        following = [target for member in hop if member in trees for target in trees[member].targets(author)]
        for target in following:
            received[target] += 1
        hops += bool(following)
        hop = following
    return received, hops


@given(count=st.integers(2, 300), author=st.integers(0, 299), degree=st.integers(2, 40))
def test_everybody_receives_exactly_once(count: int, author: int, degree: int) -> None:
    everybody = members(count)
    origin = everybody[author % count]
    received, _ = push(origin, everybody, [], degree)
    assert received.pop(origin) == 0
    assert set(received.values()) == {1}


@pytest.mark.parametrize(("count", "hops"), [(2, 1), (64, 1), (65, 2), (1000, 2)])
def test_depth(count: int, hops: int) -> None:
    everybody = members(count)
    assert push(everybody[count // 2], everybody, [])[1] == hops


def test_suspects_are_served_by_the_author_and_relay_nothing() -> None:
    everybody = members(200)
    alive, suspects = everybody[:190], everybody[190:]
    received, _ = push(alive[0], alive, suspects)
    assert all(received[member] == 1 for member in [*alive[1:], *suspects])


def test_another_author_has_another_tree() -> None:
    everybody = members(500)
    tree = PushTree(everybody[0], View(everybody[1:], []))
    relayed = {author for author in everybody[1:] if tree.targets(author)}
    assert 0 < len(relayed) < 100  # a relay for some authors, a leaf for most


@given(count=st.integers(70, 300), author=st.integers(0, 299))
def test_an_author_whom_others_do_not_know_yet_is_relayed(count: int, author: int) -> None:
    everybody = members(count)
    unknown = everybody[author % count]
    others = [member for member in everybody if member != unknown]
    trees = {member: PushTree(member, View([m for m in others if m != member], [])) for member in others}
    trees[unknown] = PushTree(unknown, View(others, []))
    received = dict.fromkeys(others, 0)
    hop = [unknown]
    while hop:
        hop = [target for member in hop for target in trees[member].targets(unknown)]
        for target in hop:
            received[target] += 1
    assert set(received.values()) == {1}
