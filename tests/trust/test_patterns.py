"""Patterns over paths, against a specification that is slow and obvious."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.ops import Path
from mesh.errors import ConfigError
from mesh.trust.patterns import PATTERNS_MAX, checked_patterns, compile_patterns

segments = st.sampled_from(["a", "b", "ab", "*", "**", "a/b", b"a", b"*", b"**"])
paths = st.lists(segments, max_size=6).map(tuple)
patterns = st.lists(st.sampled_from(["a", "b", "ab", "*", "**"]), min_size=1, max_size=6).map("/".join)


def matches_by_specification(pattern: list[str], path: Path) -> bool:
    if not pattern:
        return not path
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return any(matches_by_specification(rest, path[taken:]) for taken in range(len(path) + 1))
    return bool(path) and (first == "*" or first == path[0]) and matches_by_specification(rest, path[1:])


@given(st.lists(patterns, max_size=4), paths)
def test_patterns_match_what_the_specification_matches(texts: list[str], path: Path) -> None:
    compiled = compile_patterns(tuple(texts))
    assert compiled.matches(path) == any(matches_by_specification(text.split("/"), path) for text in texts)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("tasks/**", ("tasks",), True),
        ("tasks/**", ("tasks", "42", "owner"), True),
        ("tasks/**", ("tasksx", "42"), False),
        ("robots/*/pose", ("robots", "7", "pose"), True),
        ("robots/*/pose", ("robots", "pose"), False),
        ("robots/*/pose", ("robots", "7", "8", "pose"), False),
        ("**/pose", ("pose",), True),
        ("a/**/b/**/c", ("a", "b", "x", "b", "c"), True),
        # Segments hold anything, also what looks like a separator or a wildcard: none of it is read again.
        ("a/b", ("a/b",), False),
        ("a", ("*",), False),
        ("a/b", ("**",), False),
        ("*", ("a/b",), True),
        ("a/**", ("a/../b",), False),
        # Bytes are never text, whatever they spell.
        ("a", (b"a",), False),
        ("a/*", ("a", b"\xff"), True),
        ("a/**", (b"a", "b"), False),
        # Compared code point by code point: no case, no normal forms.
        ("é", ("e\u0301",), False),
        ("a", ("A",), False),
        ("a", ("a\u200b",), False),
    ],
)
def test_a_pattern_means(pattern: str, path: Path, expected: bool) -> None:
    assert compile_patterns((pattern,)).matches(path) is expected


@pytest.mark.parametrize(
    "pattern", ["", "/", "a//b", "a/", "/a", "robot-*", "a/**b", "***", "a/" * 16 + "a", "x" * 257, "\ud800"]
)
def test_what_is_no_pattern_is_named(pattern: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compile_patterns((pattern,))
    assert "\n" not in str(refused.value)
    assert repr(pattern)[:20] in str(refused.value)


def test_a_bare_text_is_not_taken_as_a_list_of_letters() -> None:
    with pytest.raises(ConfigError, match=r"write \['tasks/\*\*'\]"):
        checked_patterns("tasks/**")


def test_there_may_not_be_too_many() -> None:
    with pytest.raises(ConfigError, match="at most 64"):
        compile_patterns(tuple(str(i) for i in range(PATTERNS_MAX + 1)))


def test_no_patterns_match_nothing() -> None:
    assert not compile_patterns(()).matches(("a",))


def test_a_hostile_pattern_costs_no_more_than_its_size() -> None:
    """Naive backtracking takes 2^8 times as long per segment here."""
    pattern = compile_patterns(("/".join(["**", "a"] * 8),))
    path: Path = ("a",) * 15 + ("b",)
    started = time.process_time()
    for _ in range(1000):
        assert not pattern.matches(path)
    assert time.process_time() - started < 1.0


@given(st.lists(patterns, min_size=1, max_size=3), st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(tuple))
def test_patterns_reach_below_a_prefix_where_they_match_something_there(texts: list[str], prefix: Path) -> None:
    """What is tried: the prefix, with the rest of each pattern behind it, its stars filled in."""
    compiled = compile_patterns(tuple(texts))
    rests = [tuple("a" if each in ("*", "**") else each for each in text.split("/")[at:]) for text in texts for at in range(7)]
    assert compiled.reach_below(prefix) == any(compiled.matches(prefix + rest) for rest in ((), *rests))


@pytest.mark.parametrize("pattern", ["tasks/[", "tasks/[0-9]", "tasks/{a,b}", "task?"])
def test_a_users_pattern_that_looks_like_a_shells_is_refused(pattern: str) -> None:
    """`mesh init --critical 'tasks/['` made a mesh whose tasks were not critical."""
    with pytest.raises(ConfigError, match="means nothing here"):
        checked_patterns([pattern])
