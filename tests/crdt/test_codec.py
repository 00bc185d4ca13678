"""Deterministic CBOR: what cbor2 writes, byte for byte, and nothing else is read."""

from __future__ import annotations

import copy
import enum
import math
import pickle
import struct
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crdt import codec
from crdt.errors import Malformed, UnsupportedValue
from crdt.frozen import FrozenMap

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64 - 1),
    st.floats(allow_nan=False),
    st.floats(width=16, allow_nan=False),
    st.floats(width=32, allow_nan=False),
    st.text(max_size=40),
    st.binary(max_size=40),
)
KEYS = st.text(max_size=30) | st.binary(max_size=30)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=20
)


def plain(value: Any) -> Any:
    """Lists for arrays, dicts for maps, so that two decoders can be compared."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {key: plain(item) for key, item in value.items()}
    return value


@settings(max_examples=300, deadline=None)
@given(VALUES)
@example(math.nan)
@example(-0.0)
@example({"": 0, b"": 1, "aa": 2, b"b": 3})
@example([0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1, -1, -24, -25, -256, -257, -(2**64)])
@example([65504.0, 65505.0, 2.0**-24, 2.0**-25, 3.4e38, 1e300, 5e-324, math.inf, -math.inf])
def test_writes_what_cbor2_writes(value: Any) -> None:
    raw = codec.encode(value)
    assert raw == cbor2.dumps(value, canonical=True)
    assert codec.encode(codec.decode_untrusted(raw)) == raw
    assert repr(plain(codec.decode_untrusted(raw))) == repr(plain(cbor2.loads(raw)))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60))
def test_reads_nothing_but_what_it_would_write(raw: bytes) -> None:
    try:
        value = codec.decode_untrusted(raw)
    except Malformed:
        return
    assert codec.encode(value) == raw


@settings(max_examples=300, deadline=None)
@given(VALUES, st.data())
def test_damaged_bytes_raise_only_malformed(value: Any, data: st.DataObject) -> None:
    raw = bytearray(codec.encode(value))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    raw += data.draw(st.binary(max_size=2))
    try:
        value = codec.decode_untrusted(bytes(raw))
    except Malformed:
        return
    assert codec.encode(value) == bytes(raw)


HOSTILE = {
    "nothing": "",
    "trailing byte": "0000",
    "number too long, 1 byte": "1817",
    "number too long, 2 bytes": "1900ff",
    "number too long, 8 bytes": "1b00000000ffffffff",
    "reserved length": "1c",
    "tag": "c074323031332d30332d32315432303a30343a30305a",
    "bignum": "c249010000000000000000",
    "indefinite array": "9f01ff",
    "indefinite text": "7f6161ff",
    "break": "ff",
    "undefined": "f7",
    "simple value": "e0",
    "simple value, one byte": "f8ff",
    "array that promises more than there is": "9bffffffffffffffff",
    "text that promises more than there is": "7bffffffffffffffff61",
    "text that is not UTF-8": "61ff",
    "surrogate": "63eda080",
    "map key is a number": "a10102",
    "map key is an array": "a18001",
    "duplicate key": "a2616101616102",
    "unsorted keys": "a2616201616101",
    "keys sorted bytewise, not length-first": "a2626161016162" + "02",
    "double that fits a half": "fb3ff8000000000000",
    "single that fits a half": "fa3fc00000",
    "NaN with a payload": "f97e01",
    "NaN as a double": "fb7ff8000000000000",
    "infinity as a single": "fa7f800000",
    "17 arrays deep": "81" * 17 + "00",
    "17 maps deep": "a16161" * 17 + "00",
    "a hundred thousand arrays": "81" * 100_000,
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_malformed(raw: str) -> None:
    with pytest.raises(Malformed):
        codec.decode_untrusted(bytes.fromhex(raw))


def test_sixteen_levels_are_read_and_written() -> None:
    value: Any = 1
    for _ in range(16):
        value = [value]
    assert codec.encode(codec.decode_untrusted(codec.encode(value))) == codec.encode(value)
    with pytest.raises(UnsupportedValue, match="16 deep"):
        codec.encode([value])


class Colour(enum.IntEnum):
    RED = 1


class Word(str):
    __slots__ = ()


def test_subclasses_are_written_as_what_they_extend() -> None:
    assert codec.encode([Colour.RED, Word("w")]) == codec.encode([1, "w"])
    frozen = codec.freeze({"k": [Colour.RED, Word("w")]})
    assert frozen == {"k": (1, "w")}
    assert codec.encode(frozen) == codec.encode({"k": (1, "w")})
    assert "Colour" not in repr(frozen)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (2**64, "64 bits"),
        (-(2**64) - 1, "64 bits"),
        (struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0], "NaN"),
        ({1: 2}, "map key 1"),
        ({"k": {3, 4}}, "set"),
        (object(), "object"),
        (bytearray(b"x"), "bytearray"),
        ("\ud800", "UTF-8"),
        ([2j], "complex"),
    ],
)
def test_what_is_outside_the_model_is_named(value: Any, names: str) -> None:
    for refuse in (codec.encode, codec.freeze):
        with pytest.raises(UnsupportedValue, match=names):
            refuse(value)


def test_frozen_values_cannot_be_changed() -> None:
    value = codec.freeze({"a": [1, {"b": b"c"}], b"d": None})
    assert isinstance(value, FrozenMap)
    assert value == {"a": (1, {"b": b"c"}), b"d": None}
    assert hash(value) == hash(codec.freeze({b"d": None, "a": (1, {"b": b"c"})}))
    for change in ("update", "pop", "popitem", "clear", "setdefault", "__setitem__", "__delitem__", "__ior__"):
        with pytest.raises(TypeError, match="cannot be changed"):
            getattr(value, change)("a", 1)
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value


def test_freezing_keeps_to_the_depth_it_is_given() -> None:
    assert codec.freeze([[1]], 2) == ((1,),)
    with pytest.raises(UnsupportedValue, match="too deep"):
        codec.freeze([[[1]]], 2)
    with pytest.raises(Malformed, match="too deep"):
        codec.freeze_untrusted([[[1]]], 2)
