"""One data model, one encoding: everything else is refused, before it costs anything."""

from __future__ import annotations

import struct
import time
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import codec
from crdt.errors import Malformed as CrdtMalformed
from mesh.errors import Malformed
from mesh.wire import cbor

BOMBS = {
    "date as text": "c074323031332d30332d32315432303a30343a30305a",
    "date as number": "c11a514b67b0",
    "bignum": "c249010000000000000000",
    "bignum in disguise": "c24101",
    "negative bignum": "c349010000000000000000",
    "decimal": "c48221196ab3",
    "decimal of a huge exponent": "c4821b7fffffffffffffff01",
    "bigfloat": "c5822003",
    "COSE inside": "d28440a04040",
    "string reference": "d81900",
    "string reference namespace": "d9010080",
    "string references": "d901008263616161d81900",
    "shared value": "d81c80",
    "shared reference": "d81d00",
    "cycle": "d81c81d81d00",
    "rational": "d81e820102",
    "URI": "d8206161",
    "regular expression": "d8236161",
    "regular expression that explodes": "d823" + "6b" + b"(a+)+$|(b+)".hex(),
    "MIME": "d82463613a62",
    "UUID": "d825500102030405060708090a0b0c0d0e0f10",
    "IPv4": "d83444c0a80001",
    "days": "d86401",
    "set": "d90102814161",
    "IP address": "d9010444c0a80001",
    "IP network": "d90105a144c0a800001818",
    "complex": "d9a7f8820102",
    "self-described": "d9d9f700",
    "unknown tag": "d903e801",
    "tag on tag on tag": "c6" * 100_000 + "00",
    "simple value 0": "e0",
    "simple value 19": "f3",
    "simple value 32": "f820",
    "simple value 255": "f8ff",
    "simple value in a frozen map": "a16161f820",
    "simple value, reserved": "f818",
    "undefined": "f7",
    "undefined in an array": "81f7",
    "break": "ff",
    "indefinite array": "9f01ff",
    "indefinite map": "bf616101ff",
    "indefinite text": "7f6161ff",
    "indefinite bytes": "5f4101ff",
    "bytes of 2**64": "5bffffffffffffffff",
    "bytes of 2 GB": "5a7fffffff",
    "text of 2 GB": "7a7fffffff",
    "array of 2**64": "9bffffffffffffffff",
    "array of 2**31": "9a7fffffff",
    "map of 2**31": "ba7fffffff",
    "arrays that open only": "9a00ffffff" * 16,
    "integer in two bytes": "1801",
    "integer in three bytes": "190001",
    "length in two bytes": "580101",
    "array length in two bytes": "980101",
    "NaN in single precision": "fa7fc00000",
    "NaN with a payload": "f97e01",
    "NaN with a payload, double": "fb7ff8000000000001",
    "signalling NaN": "fb7ff0000000000001",
    "infinity in double precision": "fb7ff0000000000000",
    "1.0 in double precision": "fb3ff0000000000000",
    "17 arrays": "81" * 17 + "00",
    "17 maps": "a16161" * 17 + "00",
    "100,000 arrays": "81" * 100_000 + "00",
    "a key twice": "a2616101616102",
    "keys unsorted": "a2616201616101",
    "keys not length-first": "a262616101616202",
    "integer as key": "a10101",
    "float as key": "a1f93c0001",
    "null as key": "a1f601",
    "array as key": "a18001",
    "undefined as key": "a1f701",
    "text that is not UTF-8": "61ff",
    "surrogate": "63eda080",
    "reserved length": "1c",
    "nothing": "",
    "something after": "0101",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_malformed_and_cheap(name: str) -> None:
    raw = bytes.fromhex(BOMBS[name])
    began = time.process_time()
    with pytest.raises(Malformed):
        cbor.decode_untrusted(raw)
    assert time.process_time() - began < 0.05


@pytest.mark.parametrize("tag", [*range(300), 1004, 43000, 55799, 2**32, 2**64 - 1])
def test_every_tag_is_refused_whatever_it_is_on(tag: int) -> None:
    for content in (0, b"", "a", [1, 2], {"a": 1}, None, 1.5):
        with pytest.raises(Malformed):
            cbor.decode_untrusted(_tagged(tag, cbor.encode(content)))
        with pytest.raises(Malformed):
            cbor.decode_untrusted(b"\x81" + _tagged(tag, cbor.encode(content)))


def _tagged(tag: int, raw: bytes) -> bytes:
    head = cbor2.dumps(tag)
    return bytes((head[0] | 0xC0,)) + head[1:] + raw


def test_depth_16_is_the_last_that_is_taken() -> None:
    raw = b"\x81" * cbor.DEPTH_MAX + b"\x00"
    assert cbor.encode(cbor.decode_untrusted(raw)) == raw


def test_the_ends_of_the_data_model() -> None:
    for raw in ("1bffffffffffffffff", "3bffffffffffffffff", "f97e00", "f97c00", "f98000", "f6", "a0", "80", "40", "60"):
        assert cbor.encode(cbor.decode_untrusted(bytes.fromhex(raw))).hex() == raw


def test_what_is_decoded_cannot_be_changed() -> None:
    value = cbor.decode_untrusted(cbor.encode([{"a": [1]}]))
    assert type(value) is tuple
    assert type(value[0]) is cbor2.frozendict
    assert type(value[0]["a"]) is tuple


KEYS = st.one_of(st.text(max_size=8), st.binary(max_size=8))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**64), 2**64 - 1),
        st.floats(allow_nan=False),
        st.text(max_size=20),
        st.binary(max_size=20),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return cbor2.frozendict({key: _frozen(item) for key, item in value.items()})
    return value


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_a_value_comes_back(value: Any) -> None:
    raw = cbor.encode(value)
    again = cbor.decode_untrusted(raw)
    assert again == _frozen(value)
    assert cbor.encode(again) == raw


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_both_codecs_write_the_same_bytes(value: Any) -> None:
    assert codec.encode(value) == cbor.encode(value)


SEEDS = [bytes.fromhex(raw) for raw in BOMBS.values() if len(raw) < 200] + [
    cbor.encode([1, [1, 2], 1.5, 0.1, "abc", b"abc", {"a": None, "bb": True}, [[[-1]]], 2**63])
]


@given(st.data())
@settings(max_examples=1500, deadline=None)
def test_only_malformed_escapes_and_both_codecs_speak_one_language(data: st.DataObject) -> None:
    """Mutated bombs and random bytes: taken by both codecs, giving the same bytes back, or by neither."""
    raw = bytearray(b"".join(data.draw(st.lists(st.one_of(st.sampled_from(SEEDS), st.binary(max_size=12)), max_size=3))))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    mine = _taken(cbor.decode_untrusted, Malformed, bytes(raw))
    theirs = _taken(codec.decode_untrusted, CrdtMalformed, bytes(raw))
    assert (mine is None) == (theirs is None)
    if mine is not None:
        assert cbor.encode(mine[0]) == bytes(raw)


def _taken(decode: Any, error: type[Exception], raw: bytes) -> tuple[Any] | None:
    try:
        return (decode(raw),)
    except error:
        return None


def test_a_float_has_one_form() -> None:
    """2.5 fits half precision; any longer form of it is refused."""
    assert cbor.encode(2.5) == b"\xf9" + struct.pack(">e", 2.5)
    for longer in (b"\xfa" + struct.pack(">f", 2.5), b"\xfb" + struct.pack(">d", 2.5)):
        with pytest.raises(Malformed):
            cbor.decode_untrusted(longer)
