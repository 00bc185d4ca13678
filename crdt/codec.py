"""Deterministic CBOR in the standard library alone (RFC 8949 section 4.2.3: shortest forms, map keys length-first).

The data model is `crdt.ops.Value`: null, booleans, integers of 64 bits and a sign, floats, text, bytes, arrays, maps with
text or bytes keys. A value has exactly one encoding, byte-identical to `cbor2.dumps(value, canonical=True)`, which `mesh`
injects in place of this module because it is written in C. For the few bytes of a ping this one is half as fast, and where it is
compiled as fast; with cold caches it then fetches 380 lines of memory to read and answer one, and cbor2 830: so those use it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from crdt.errors import Malformed, UnsupportedValue
from crdt.frozen import FrozenMap
from crdt.ops import Value

DEPTH_MAX: Final = 16
"""Nested arrays and maps, the outermost being 1 (DESIGN section 2)."""

_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE, _NULL = 0xF4, 0xF5, 0xF6
_HALF, _SINGLE, _DOUBLE = 25, 26, 27
_NAN: Final = b"\xf9\x7e\x00"
_NAN_BITS: Final = b"\x7f\xf8\x00\x00\x00\x00\x00\x00"
_INT_LIMIT: Final = 1 << 64


# --- encoding


def encode(value: object) -> bytes:
    """The one encoding of `value`. Raises UnsupportedValue, which names what is outside the data model."""
    out = bytearray()
    _write(out, value, 1)
    return bytes(out)


def head(major: int, number: int) -> bytes:
    """The first bytes of an item: its major type and a number (a length, a count or the integer itself), in the shortest form."""
    first = major << 5
    if 0 <= number < 24:
        return _BYTE[first | number]
    if number < 1 << 8:
        return ((first | 24) << 8 | number).to_bytes(2, "big")
    if number < 1 << 16:
        return ((first | 25) << 16 | number).to_bytes(3, "big")
    if number < 1 << 32:
        return ((first | 26) << 32 | number).to_bytes(5, "big")
    return _BYTE[first | 27] + number.to_bytes(8, "big")


_BYTE: Final = tuple(bytes((value,)) for value in range(256))


def unsigned(number: int) -> bytes:
    """An unsigned integer of up to 64 bits. For what has a fixed layout."""
    return head(_UINT, number)


def byte_string(raw: bytes) -> bytes:
    return head(_BYTES, len(raw)) + raw


def big_endian(raw: bytes) -> int:
    """As `int.from_bytes`, for a few bytes: compiled, a call of that takes ten times as long, and more with cold caches."""
    value = 0
    for at in range(len(raw)):  # not `for byte in raw`, which makes an object of each, compiled
        value = value << 8 | raw[at]
    return value


def number_untrusted(raw: bytes, at: int) -> tuple[int, int]:
    """The unsigned integer that begins at `at`, which is inside, and where it ends: perhaps beyond the end of `raw`, as the
    caller has to see. For what has a fixed layout. Raises Malformed for anything else, and for a longer form than the shortest.
    """
    first = raw[at]
    if first < 24:
        return first, at + 1
    if first > 27:
        raise Malformed("not an unsigned integer")
    size = 1 << first - 24
    end = at + 1 + size
    value = big_endian(raw[at + 1 : end])
    if value < (24 if size == 1 else 1 << 4 * size):
        raise Malformed("an integer is not in its shortest form")
    return value, end


def encode_by(encode: Callable[[object], bytes], value: object) -> bytes:
    """As `encode`, which is asked for what is neither a number, nor text, nor a list of our own: to wake up a whole encoder for a
    path and a number takes longer than all else about a write, where it finds cold caches."""
    kind = type(value)
    if kind is int:
        return _encode_int(value)  # type: ignore[arg-type]
    if kind is str:
        return _encode_string(value)
    if kind is list:
        items: list[object] = value  # type: ignore[assignment]
        return array_head(len(items)) + b"".join([encode_by(encode, item) for item in items])
    return encode(value)


def array_head(count: int) -> bytes:
    """What precedes the encoded items of an array of `count`."""
    return head(_ARRAY, count)


def _write(out: bytearray, value: object, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is bytes:
        out += _encode_string(value)
    elif kind is int:
        out += _encode_int(value)  # type: ignore[arg-type]
    elif value is None or kind is bool:
        out.append(_NULL if value is None else _TRUE if value else _FALSE)
    elif kind is float:
        out += _encode_float(value)  # type: ignore[arg-type]
    elif isinstance(value, tuple | list):
        _check_depth(depth)
        out += head(_ARRAY, len(value))
        for item in value:
            _write(out, item, depth + 1)
    elif isinstance(value, Mapping):
        _check_depth(depth)
        _write_map(out, value, depth)
    else:
        _write(out, _plain(value), depth)


def _write_map(out: bytearray, value: Mapping[Any, object], depth: int) -> None:
    rows = []
    for key, item in value.items():
        if not isinstance(key, str | bytes):
            raise UnsupportedValue(f"map key {key!r} is a {type(key).__name__}: keys are str or bytes")
        encoded = bytearray()
        _write(encoded, item, depth + 1)
        rows.append((_encode_string(key), encoded))
    rows.sort(key=lambda row: (len(row[0]), row[0]))
    out += head(_MAP, len(rows))
    for name, encoded in rows:
        out += name
        out += encoded


def _encode_string(value: object) -> bytes:
    if isinstance(value, bytes):
        return byte_string(value)
    try:
        raw = str.encode(value)  # type: ignore[arg-type]
    except UnicodeEncodeError:
        raise UnsupportedValue(f"text {value!r:.80} has characters that UTF-8 cannot carry") from None
    return head(_TEXT, len(raw)) + raw


def _encode_int(value: int) -> bytes:
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        raise UnsupportedValue(f"the integer {value:#x} does not fit into 64 bits and a sign: write it as text or bytes")
    return head(_UINT, value) if value >= 0 else head(_NINT, -1 - value)


def _encode_float(value: float) -> bytes:
    if value != value:
        if struct.pack(">d", value) != _NAN_BITS:
            raise UnsupportedValue("a NaN with a payload or a sign: write math.nan")
        return _NAN
    for initial, form in ((_HALF, ">e"), (_SINGLE, ">f")):
        try:
            raw = struct.pack(form, value)
        except OverflowError:
            continue
        if struct.unpack(form, raw)[0] == value:
            return bytes((_SIMPLE << 5 | initial,)) + raw
    return struct.pack(">Bd", _SIMPLE << 5 | _DOUBLE, value)


def _check_depth(depth: int) -> None:
    if depth > DEPTH_MAX:
        raise UnsupportedValue(f"arrays and maps nested more than {DEPTH_MAX} deep")


def _plain(value: object) -> Value:
    """Subclasses (an enum member, numpy's float64) as the plain value that they extend; all else is outside the data model."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return "".join((value,)) if type(value) is str else str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    raise UnsupportedValue(
        f"{type(value).__name__} {value!r:.80} cannot be stored: use None, bool, int, float, str, bytes, "
        "lists, and maps with str or bytes keys"
    )


def freeze(value: object, depth_max: int = DEPTH_MAX) -> Value:
    """`value` with tuples for arrays and FrozenMap for maps, so that nobody can change it later. Raises UnsupportedValue."""
    kind = type(value)
    if value is None or kind is bool:
        return value  # type: ignore[return-value]
    if kind is int:
        _encode_int(value)  # type: ignore[arg-type]
        return value  # type: ignore[return-value]
    if kind is str or kind is float:
        _encode_string(value) if kind is str else _encode_float(value)  # type: ignore[arg-type]
        return value  # type: ignore[return-value]
    if kind is bytes:
        return value  # type: ignore[return-value]
    if isinstance(value, tuple | list | Mapping):
        if depth_max < 1:
            raise UnsupportedValue("arrays and maps nested too deep: a payload may have 13 levels")
        if isinstance(value, Mapping):
            return _freeze_map(value, depth_max)
        return tuple([freeze(item, depth_max - 1) for item in value])
    return freeze(_plain(value), depth_max)


def _freeze_map(value: Mapping[Any, object], depth_max: int) -> FrozenMap:
    rows: dict[str | bytes, Value] = {}
    for key, item in value.items():
        if not isinstance(key, str | bytes):
            raise UnsupportedValue(f"map key {key!r} is a {type(key).__name__}: keys are str or bytes")
        _encode_string(key)
        rows[_plain(key)] = freeze(item, depth_max - 1)  # type: ignore[index]
    return FrozenMap(rows)


def freeze_untrusted(value: object, depth_max: int = DEPTH_MAX) -> Value:
    """`freeze` for what an injected decoder made of somebody's bytes. Raises Malformed."""
    try:
        return freeze(value, depth_max)
    except UnsupportedValue as error:
        raise Malformed(str(error)) from None


# --- decoding


def decode_untrusted(raw: bytes) -> Value:
    """The value of exactly these bytes, immutable: tuples for arrays, FrozenMap for maps. Raises Malformed for anything else
    than `encode` gives.

    A length that came from the wire sizes nothing: items are read one by one and strings are cut out of `raw`.
    """
    value, end = _read_untrusted(raw, 0, 1)
    if end != len(raw):
        raise Malformed(f"{len(raw) - end} bytes follow the CBOR item")
    return value


def _read_untrusted(raw: bytes, at: int, depth: int) -> tuple[Value, int]:
    if at >= len(raw):
        raise Malformed("CBOR ends too early")
    initial = raw[at]
    major = initial >> 5
    if major == _SIMPLE:
        return _read_simple_untrusted(raw, at)
    number, at = _read_head_untrusted(raw, at)
    if major == _UINT:
        return number, at
    if major == _NINT:
        return -1 - number, at
    if major in (_BYTES, _TEXT):
        return _read_string_untrusted(raw, at, number, major)
    if major == _TAG:
        raise Malformed(f"CBOR tag {number} is not allowed here")
    if depth > DEPTH_MAX:
        raise Malformed(f"CBOR nested more than {DEPTH_MAX} deep")
    if number > len(raw) - at:
        raise Malformed("a CBOR count above what is there")  # each item takes a byte: nothing is read in vain
    return _read_array_untrusted(raw, at, number, depth) if major == _ARRAY else _read_map_untrusted(raw, at, number, depth)


def _read_head_untrusted(raw: bytes, at: int) -> tuple[int, int]:
    short = raw[at] & 31
    at += 1
    if short < 24:
        return short, at
    if short > 27:
        raise Malformed("CBOR of indefinite length, or a reserved form")
    size = 1 << short - 24
    if at + size > len(raw):
        raise Malformed("CBOR ends too early")
    number = int.from_bytes(raw[at : at + size], "big")
    if number < (24 if size == 1 else 1 << 4 * size):
        raise Malformed("a CBOR number longer than it need be")
    return number, at + size


def _read_string_untrusted(raw: bytes, at: int, size: int, major: int) -> tuple[str | bytes, int]:
    end = at + size
    if end > len(raw):
        raise Malformed("a CBOR string ends too early")
    if major == _BYTES:
        return raw[at:end], end
    try:
        return raw[at:end].decode(), end
    except UnicodeDecodeError:
        raise Malformed("CBOR text that is not UTF-8") from None


def _read_array_untrusted(raw: bytes, at: int, count: int, depth: int) -> tuple[tuple[Value, ...], int]:
    items = []
    for _ in range(count):
        item, at = _read_untrusted(raw, at, depth + 1)
        items.append(item)
    return tuple(items), at


def _read_map_untrusted(raw: bytes, at: int, count: int, depth: int) -> tuple[FrozenMap, int]:
    rows: dict[str | bytes, Value] = {}
    before = b""
    for _ in range(count):
        start = at
        key, at = _read_untrusted(raw, at, depth + 1)
        if not isinstance(key, str | bytes):
            raise Malformed("a CBOR map key that is neither text nor bytes")
        encoded = raw[start:at]
        if before and (len(before), before) >= (len(encoded), encoded):
            raise Malformed("CBOR map keys out of order, or one twice")
        before = encoded
        rows[key], at = _read_untrusted(raw, at, depth + 1)
    return FrozenMap(rows), at


def _read_simple_untrusted(raw: bytes, at: int) -> tuple[Value, int]:
    initial = raw[at]
    if initial in (_FALSE, _TRUE, _NULL):
        return (None if initial == _NULL else initial == _TRUE), at + 1
    short = initial & 31
    if short not in (_HALF, _SINGLE, _DOUBLE):
        raise Malformed(f"CBOR simple value {short} is not allowed here")
    end = at + 1 + (2 << short - _HALF)
    if end > len(raw):
        raise Malformed("CBOR ends too early")
    value: float = struct.unpack({_HALF: ">e", _SINGLE: ">f", _DOUBLE: ">d"}[short], raw[at + 1 : end])[0]
    shortest = _NAN if value != value else _encode_float(value)
    if raw[at:end] != shortest:
        raise Malformed("a CBOR float longer than it need be, or a NaN with a payload")
    return value, end


def join_arrays(parts: Iterable[bytes]) -> bytes:
    """An array of items that are already encoded."""
    items = list(parts)
    return array_head(len(items)) + b"".join(items)
