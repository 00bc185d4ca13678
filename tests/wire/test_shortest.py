"""The short cut through bodies: it says yes to deterministic CBOR only, and the decoder that takes it differs in nothing else."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.errors import Malformed
from mesh.wire import cbor
from mesh.wire.shortest import is_shortest, is_shortest_body

HEAD: list[Any] = [[3, 1], 1_760_000_000_000_000, [b"twelve bytes"]]
NUMBERS = st.sampled_from([0, 1, 2, 3, 23, 24, -1, 255, True])
SEGMENTS = st.sampled_from(["robots", "r7", "x" * 23, "x" * 24, "naïve", "", b"raw", 5])
PAYLOADS = st.sampled_from(
    [0.5, 0.1, 1e300, float("nan"), float("inf"), -0.0, 7, -(2**40), "text", b"bytes", None, True, [1, 2], {"a": 1}]
)
OPS = st.lists(st.tuples(NUMBERS, NUMBERS, st.lists(NUMBERS | SEGMENTS, max_size=4), PAYLOADS), max_size=9)


def verdict(decode: Any, raw: bytes) -> str:
    try:
        return repr(decode(raw))
    except Malformed as error:
        return f"Malformed {error}"


def op(number: int, payload: Any = 0.5) -> list[Any]:
    return [0, 1, [2 if number else 0, *([] if number else ["robots", "r7"]), f"value-{number}"], payload]


def body(ops: list[Any]) -> bytes:
    return cbor2.dumps([*HEAD, ops], canonical=True)


def test_a_usual_body_takes_the_short_cut() -> None:
    raw = body([op(number) for number in range(30)])
    assert is_shortest_body(cbor2.loads(raw, immutable=True), raw)
    assert cbor.decode_body_untrusted(raw) == cbor.decode_untrusted(raw)


@given(OPS)
@settings(max_examples=200, deadline=None)
def test_both_decoders_say_the_same_of_bodies(ops: list[Any]) -> None:
    raw = body(ops)
    assert verdict(cbor.decode_body_untrusted, raw) == verdict(cbor.decode_untrusted, raw)


@given(OPS, st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(["replace", "insert", "delete"]))
@settings(max_examples=400, deadline=None)
@example([tuple(op(number)) for number in range(9)], 0, 0, "insert")
def test_both_decoders_say_the_same_of_damaged_bodies(ops: list[Any], at: int, byte: int, how: str) -> None:
    raw = bytearray(body(ops))
    at %= len(raw)
    if how == "replace":
        raw[at] = byte
    elif how == "insert":
        raw.insert(at, byte)
    else:
        del raw[at]
    assert verdict(cbor.decode_body_untrusted, bytes(raw)) == verdict(cbor.decode_untrusted, bytes(raw))


LONGER = {
    "a small number in two bytes": (b"\x84\x00\x01", b"\x84\x18\x00\x01"),
    "a string with a head of two bytes": (b"\x67value-3", b"\x78\x07value-3"),
    "a float that would fit into two bytes": (b"\xf9\x38\x00", b"\xfa\x3f\x00\x00\x00"),
    "an array with a head of two bytes": (b"\x82\x02\x67value-3", b"\x98\x02\x02\x67value-3"),
    "a NaN that carries a payload": (b"\xf9\x38\x00", b"\xf9\x7e\x01"),
    "false in two bytes": (b"\xf9\x38\x00", b"\xf8\x14"),
    "a simple value": (b"\xf9\x38\x00", b"\xe0"),
    "undefined": (b"\xf9\x38\x00", b"\xf7"),
    "a tag": (b"\xf9\x38\x00", b"\xc1\x00"),
    "an indefinite string": (b"\x67value-3", b"\x7f\x67value-3\xff"),
}


@pytest.mark.parametrize("what", LONGER)
def test_other_encodings_are_refused(what: str) -> None:
    raw = body([op(number) for number in range(9)])
    usual, other = LONGER[what]
    assert usual in raw
    with pytest.raises(Malformed):
        cbor.decode_body_untrusted(raw.replace(usual, other, 1))


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(Malformed):
        cbor.decode_body_untrusted(body([op(number) for number in range(9)]) + b"\x00")


ATOMS = (
    st.sampled_from([0, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1, -1, -24, -25, -256, -257, -(2**64)])
    | st.floats(allow_nan=True)
    | st.text(max_size=30)
    | st.binary(max_size=30)
    | st.sampled_from(["é" * 12, b"x" * 255, b"x" * 256, "x" * 65_536, None, True, False])
)
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=40
)


def canonical_only(raw: bytes) -> str:
    """What is said of these bytes without any short cut: decoded and encoded again."""
    try:
        value = cbor._load_untrusted(raw)
        cbor._require_deterministic_untrusted(value, raw)
        return repr(value)
    except Malformed as error:
        return f"Malformed {error}"


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_the_short_cut_knows_the_length_of_every_value(value: Any) -> None:
    raw = cbor2.dumps(value, canonical=True)
    has_map_or_nan = b"{" in repr(value).encode() or "nan" in repr(value)
    assert is_shortest(cbor2.loads(raw, immutable=True), raw) or has_map_or_nan
    assert verdict(cbor.decode_untrusted, raw) == canonical_only(raw)


@given(VALUES, st.integers(0, 70_000), st.integers(0, 255), st.sampled_from(["replace", "insert", "delete"]))
@settings(max_examples=600, deadline=None)
@example((1, 2), 1, 24, "insert")  # a number in a longer form
@example((b"x",), 1, 0x58, "insert")
@example((True, None), 1, 0xF8, "insert")
def test_the_short_cut_says_the_same_of_damaged_values(value: Any, at: int, byte: int, how: str) -> None:
    raw = bytearray(cbor2.dumps(value, canonical=True))
    at %= len(raw)
    if how == "replace":
        raw[at] = byte
    elif how == "insert":
        raw.insert(at, byte)
    else:
        del raw[at]
    assert verdict(cbor.decode_untrusted, bytes(raw)) == canonical_only(bytes(raw))
