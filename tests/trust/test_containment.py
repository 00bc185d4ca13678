"""Narrower rights: containment of patterns against all short paths there are."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.trust.containment import contains
from mesh.trust.patterns import compile_patterns

segments = st.sampled_from(["a", "b", "$k", "*", "**"])
patterns = st.lists(st.lists(segments, min_size=1, max_size=4).map("/".join), min_size=1, max_size=3)
# Every path up to the length at which patterns of four segments can still tell paths apart, over the names that they use and
# two that they do not.
PATHS = [path for length in range(1, 7) for path in product(("a", "b", "x", "$k", "$x")[: 5 if length < 6 else 4], repeat=length)]


@settings(max_examples=150, deadline=None)
@given(patterns, patterns)
@example(["*/**"], ["**/*"])  # the same paths, written differently
@example(["a/*", "a/b/**", "a", "a/*/**"], ["a/**"])  # together, where none alone does
@example(["**"], ["$k/**"])  # a wildcard does not reach what is reserved
@example(["**/$k"], ["$k"])
def test_containment_is_what_matching_says(outer: list[str], inner: list[str]) -> None:
    wide, narrow = compile_patterns(tuple(outer)), compile_patterns(tuple(inner))
    assert contains(outer, inner) == all(wide.matches(path) for path in PATHS if narrow.matches(path))


@pytest.mark.parametrize(
    ("outer", "inner", "within"),
    [
        (["robots/7/**"], ["robots/7/gripper/**"], True),
        (["robots/7/**"], ["robots/*/gripper"], False),
        (["robots/*/pose"], ["robots/7/pose"], True),
        (["robots/*/pose"], ["robots/**"], False),
        (["**"], [], True),
        ([], ["a"], False),
        (["a/**"], ["a"], True),
        (["a"], ["a/**"], False),
    ],
)
def test_examples(outer: list[str], inner: list[str], within: bool) -> None:
    assert contains(outer, inner) is within


def test_hostile_patterns_cost_a_bounded_walk() -> None:
    """Each `**/a/*/*/...` doubles the states of the walk; what it does not finish is not contained."""
    hostile = ["**/a" + "/*" * number for number in range(13)]
    assert not contains(hostile, ["**/b/**/a/**"])
