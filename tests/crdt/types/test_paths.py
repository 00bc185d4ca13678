"""Paths and the segments of elements: one spelling each, order kept, clear errors."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import codec
from crdt.errors import CrdtError, Malformed, PathError, UnsupportedValue
from crdt.ops import Segment
from crdt.types.paths import (
    element_of_segment_untrusted,
    element_of_untrusted,
    element_segment,
    format_path,
    is_hashed,
    key_of_segment_untrusted,
    key_segment,
    named_segment,
    normal_element,
    ordered,
    parse_path,
    read_ordered_untrusted,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=80)
    | st.binary(max_size=80)
)
elements = st.recursive(scalars, lambda inner: st.tuples(inner, inner) | st.tuples(inner), max_leaves=4)


class TestPaths:
    @given(
        st.lists(
            st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=60),
            min_size=1,
            max_size=16,
        )
    )
    def test_text_splits_at_slashes_and_reads_back(self, segments: list[str]) -> None:
        assert parse_path("/".join(segments)) == tuple(segments)

    def test_a_tuple_is_taken_as_it_is(self) -> None:
        assert parse_path(("a/b", b"\x00")) == ("a/b", b"\x00")

    @pytest.mark.parametrize(
        ("path", "part"),
        [
            ("", "segment 1 of path '' is empty"),
            ("a//b", "segment 2 of path 'a//b' is empty"),
            ("/a", "segment 1"),
            ("a/", "segment 2"),
            ("/".join("abcdefghijklmnopq"), "17 segments: at most 16"),
            ("a/" + "é" * 129, "segment 2 of path.*has 258 bytes: at most 256"),
            ("a/\ud800", "segment 2 .*UTF-8"),
            ((), "the path is empty"),
            (("a", 5), "segment 2 .* is int 5"),
            (("a", b""), "segment 2 .* is empty"),
        ],
    )
    def test_an_error_names_the_offending_part(self, path: str | tuple[Segment, ...], part: str) -> None:
        with pytest.raises(PathError, match=part):
            parse_path(path)

    def test_the_longest_path_is_taken(self) -> None:
        assert len(parse_path("/".join(["x" * 256] * 16))) == 16

    def test_bytes_are_shown_readably(self) -> None:
        path = ("plan", "a/b", element_segment(5), element_segment("x" * 100), b"\xf0\x01")
        assert format_path(path) == f'plan/"a/b"/[5]/#{element_segment("x" * 100)[1:].hex()}/0xf001'


class TestElements:
    @given(elements)
    def test_a_segment_spells_its_element(self, element: object) -> None:
        segment = element_segment(element)
        normal = normal_element(element)
        assert normal == element
        assert element_of_untrusted(segment, normal) == element
        if not is_hashed(segment):
            assert element_of_segment_untrusted(segment) == element

    @given(elements, elements)
    def test_equal_in_python_is_equal_in_the_state(self, one: object, other: object) -> None:
        assert (one == other) == (element_segment(one) == element_segment(other))

    @pytest.mark.parametrize(
        "pair", [(1, 1.0), (1, True), (0, -0.0), (2**53, 2.0**53), (-(2**64), -(2.0**64)), ((1, 2), [1.0, 2])]
    )
    def test_what_python_holds_equal_is_one_element(self, pair: tuple[object, object]) -> None:
        assert element_segment(pair[0]) == element_segment(pair[1])

    def test_above_64_bytes_the_hash_names_it(self) -> None:
        assert not is_hashed(element_segment("x" * 62))
        assert is_hashed(element_segment("x" * 63))
        assert len(element_segment("x" * 63)) == 17

    def test_a_hash_is_no_element_and_no_element_a_hash(self) -> None:
        hashed = element_segment("x" * 100)
        with pytest.raises(Malformed):
            codec.decode_untrusted(hashed)
        with pytest.raises(Malformed):
            element_of_untrusted(hashed, "y" * 100)

    @pytest.mark.parametrize("element", [math.nan, {1: 2}, {1}, object(), 2**64, (1, {}), "\ud800"])
    def test_what_cannot_be_an_element_is_refused(self, element: object) -> None:
        with pytest.raises(UnsupportedValue):
            element_segment(element)

    def test_endless_nesting_is_refused(self) -> None:
        endless: list[object] = []
        endless.append(endless)
        with pytest.raises(UnsupportedValue, match="12 deep"):
            element_segment(endless)

    @given(
        st.binary(max_size=70)
        | st.binary(max_size=16).map(codec.encode)
        | (st.floats(allow_nan=False) | st.just(math.nan)).map(codec.encode)
    )
    def test_any_segment_is_read_or_malformed(self, segment: bytes) -> None:
        for read in (element_of_segment_untrusted, key_of_segment_untrusted):
            try:
                element = read(segment)
            except Malformed:
                continue
            assert (element_segment if read is element_of_segment_untrusted else key_segment)(element) == segment


class TestKeys:
    def test_text_keys_are_the_segments_that_people_write(self) -> None:
        assert key_segment("pose") == "pose"
        assert key_segment("a/b") == "a/b"

    @given(elements)
    def test_a_key_reads_back(self, key: object) -> None:
        try:
            segment = key_segment(key)
        except CrdtError:
            assert len(codec.encode(normal_element(key))) > 256
            return
        assert key_of_segment_untrusted(segment) == key

    def test_a_key_too_long_for_a_segment_is_refused(self) -> None:
        with pytest.raises(PathError, match="300 bytes"):
            key_segment("x" * 300)
        with pytest.raises(PathError, match="at most 256"):
            key_segment(("x" * 300,))


class TestOrderedNumbers:
    numbers = st.integers(-(2**64) + 1, 2**64 - 1)

    @given(numbers, numbers)
    def test_bytes_compare_like_the_numbers(self, one: int, other: int) -> None:
        assert (one < other) == (ordered(one) < ordered(other))
        assert one == other or not ordered(one).startswith(ordered(other))

    @given(numbers, st.binary(max_size=5))
    def test_a_number_reads_back_and_says_where_it_ends(self, number: int, rest: bytes) -> None:
        assert read_ordered_untrusted(b"ab" + ordered(number) + rest, 2) == (number, 2 + len(ordered(number)))

    @given(st.binary(max_size=12))
    def test_any_bytes_are_the_shortest_form_or_malformed(self, raw: bytes) -> None:
        try:
            number, end = read_ordered_untrusted(raw, 0)
        except Malformed:
            return
        assert ordered(number) == raw[:end]

    def test_too_large_for_eight_bytes(self) -> None:
        with pytest.raises(OverflowError):
            ordered(2**64)


def test_a_short_name_is_itself() -> None:
    assert named_segment(b"x" * 64) == b"x" * 64
    assert is_hashed(named_segment(b"x" * 65))
