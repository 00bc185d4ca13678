"""Paths, and the last segments that sets, maps, lists and logs make of their elements.

A path is a tuple of text or bytes segments. People write it as text, split at `/`: `robots/7/pose`. Text never becomes bytes or
the other way round, so the segment that a set makes of an element (bytes) meets no path that somebody wrote by hand.

A set has one path per element: the last segment is the element's deterministic CBOR. Above 64 bytes it is `0xff` and 16 bytes of
its BLAKE2b, and the payload carries the element. No CBOR item begins with 0xff (it is the "break" of RFC 8949), nor does a
list position or a log entry, so the two cannot be confused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeAlias, TypeVar, Union

from crdt import codec
from crdt.errors import Malformed, PathError, UnsupportedValue
from crdt.ops import Path, Segment, Value

PathLike: TypeAlias = str | tuple[Segment, ...]

Element: TypeAlias = Union[bool, int, float, str, bytes, tuple["Element", ...], None]  # noqa: UP007
"""What may be in a set or name an entry of a map: the hashable part of the data model."""

SEGMENTS_MAX: Final = 16
SEGMENT_BYTES_MAX: Final = 256
"""Both from DESIGN section 1, Paths."""
SEGMENT_BYTES_INLINE: Final = 64
"""Longer elements and positions are named by their hash (DESIGN section 1, Paths)."""
HASH_MARK: Final = b"\xff"
HASH_BYTES: Final = 16
ELEMENT_DEPTH_MAX: Final = 12
"""Nested tuples. The wire allows 16 levels (DESIGN section 2), of which a body, its ops and an op take three."""
ORDERED_BYTES_MAX: Final = 8

R = TypeVar("R")


def parse_path(path: PathLike) -> Path:
    """`a/b/c` as a tuple of segments; a tuple is checked and taken as it is. Raises PathError, which names the offending part."""
    if not isinstance(path, str | tuple):
        raise PathError(f"{path!r:.80} is not a path: write text such as a/b, or a tuple of segments")
    segments = tuple(path.split("/")) if isinstance(path, str) else path
    if len(segments) > SEGMENTS_MAX:
        raise PathError(f"path {_brief(path)} has {len(segments)} segments: at most {SEGMENTS_MAX} are allowed")
    if not segments:
        raise PathError("the path is empty: it needs at least one segment")
    for number, segment in enumerate(segments, 1):
        if (type(segment) is bytes or (type(segment) is str and segment.isascii())) and 0 < len(segment) <= SEGMENT_BYTES_MAX:
            continue  # nearly all: nothing to complain about
        _check_segment(path, number, segment)
    return segments


def _check_segment(path: PathLike, number: int, segment: object) -> None:
    where = f"segment {number} of path {_brief(path)}"
    if not isinstance(segment, str | bytes):
        raise PathError(f"{where} is {type(segment).__name__} {_brief(segment)}: a segment is text or bytes")
    try:
        size = len(segment.encode() if isinstance(segment, str) else segment)
    except UnicodeEncodeError:
        raise PathError(f"{where}, {_brief(segment)}, has characters that UTF-8 cannot carry") from None
    if not size:
        raise PathError(f"{where} is empty: write a/b, with no / at either end and no two in a row")
    if size > SEGMENT_BYTES_MAX:
        raise PathError(f"{where}, {_brief(segment)}, has {size} bytes: at most {SEGMENT_BYTES_MAX} are allowed")


@lru_cache(maxsize=1024)  # guess: what watchers are told of again and again
def format_path(path: Path) -> str:
    """For people. Text as it is (quoted when it holds a `/` or is not printable), an element as `[element]`, other bytes as
    `0x...`.

    What `parse_path` reads back is only the part that is plain text.
    """
    return "/".join(_format_segment(segment) for segment in path)


def _format_segment(segment: Segment) -> str:
    if isinstance(segment, str):
        return (
            segment
            if segment.isprintable() and "/" not in segment and segment[:1] not in ('"', "[", "#")
            else json.dumps(segment)
        )
    if is_hashed(segment):
        return f"#{segment[1:].hex()}"
    try:
        return f"[{element_of_segment_untrusted(segment)!r}]"
    except Malformed:
        return f"0x{segment.hex()}"


def _brief(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- elements of sets, keys of maps


def normal_element(element: object, depth: int = 0) -> Element:
    """The one form of what Python holds equal: 1, 1.0 and True are one element, and so are (1, 2) and [1, 2].

    Raises UnsupportedValue for what has no place in a Python set (maps, sets, NaN) or in the data model.
    """
    match element:
        case None:
            return None
        case str():
            return str(element)
        case bytes() | bytearray():
            return bytes(element)
        case int():  # and bool, which Python holds equal to 0 and 1
            return int(element)
        case float() if math.isnan(element):
            raise UnsupportedValue("NaN does not equal itself, so it cannot be an element or a key")
        case float():
            return int(element) if element.is_integer() and -(2**64) <= element < 2**64 else float(element)
        case tuple() | list() if depth < ELEMENT_DEPTH_MAX:
            return tuple(normal_element(item, depth + 1) for item in element)
        case tuple() | list():
            raise UnsupportedValue(f"an element may nest {ELEMENT_DEPTH_MAX} deep, not more")
        case _:
            raise UnsupportedValue(
                f"{type(element).__name__} {_brief(element)} cannot be an element or a key: "
                f"use text, bytes, numbers or tuples of them"
            )


def element_segment(element: object) -> bytes:
    """The last segment of the path of this element. Raises UnsupportedValue."""
    return named_segment(codec.encode(normal_element(element)))


def named_segment(name: bytes) -> bytes:
    """`name` itself while it is short, else the mark and its hash."""
    return name if len(name) <= SEGMENT_BYTES_INLINE else HASH_MARK + blake2b(name, digest_size=HASH_BYTES).digest()


def is_hashed(segment: Segment) -> bool:
    return isinstance(segment, bytes) and len(segment) == 1 + HASH_BYTES and segment[:1] == HASH_MARK


@lru_cache(maxsize=4096)  # a view decodes the elements of a set again at every read
def element_of_segment_untrusted(segment: Segment) -> Element:
    """The element that a segment spells out. Raises Malformed: also for an encoding that this library would not choose."""
    if isinstance(segment, str):
        raise Malformed("a text segment is no element")
    element = _hashable(codec.decode_untrusted(segment))
    if _refused_as_malformed(element_segment, element) != segment:
        raise Malformed("not the one form of this element")
    return element


def _hashable(value: Value) -> Element:
    if isinstance(value, tuple | list):
        return tuple(_hashable(item) for item in value)
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise Malformed("a map is no element")


def element_of_untrusted(segment: Segment, payload: Value) -> Element:
    """The element at a path: from its last segment, or from the payload where the segment is a hash. Raises Malformed."""
    if not is_hashed(segment):
        return element_of_segment_untrusted(segment)
    element = _hashable(payload)
    if _refused_as_malformed(element_segment, element) != segment:
        raise Malformed("the payload is not the element that the segment names")
    return element


def key_segment(key: object) -> Segment:
    """The segment of a map's key: text as it is, so that `map("a")["b"]` and `register("a/b")` are one; all else its CBOR.

    Raises PathError above 256 bytes, where a key would have to be hidden behind a hash, with no payload to keep it in.
    """
    if isinstance(key, str) and key:
        segment: Segment = str(key)
    else:
        segment = codec.encode(normal_element(key))
    _check_segment((segment,), 1, segment)
    return segment


@lru_cache(maxsize=4096)
def key_of_segment_untrusted(segment: Segment) -> Element:
    """The key that a segment below a map stands for. Raises Malformed."""
    if isinstance(segment, str):
        return segment
    key = _hashable(codec.decode_untrusted(segment))
    if _refused_as_malformed(key_segment, key) != segment:
        raise Malformed("not the one form of this key")
    return key


def _refused_as_malformed(make: Callable[[object], R], element: Element) -> R:
    """What a peer says may be outside what we would write: that is its fault, not the reader's."""
    try:
        return make(element)
    except (UnsupportedValue, PathError) as error:
        raise Malformed(str(error)) from error


# --- numbers that sort as bytes


def ordered(number: int) -> bytes:
    """A number as bytes that compare like the number and are never a prefix of each other.

    A head (0x80 plus or minus the length) and 1 to 8 bytes, big-endian, those of a negative number complemented.
    """
    size = max(1, (abs(number).bit_length() + 7) // 8)
    if size > ORDERED_BYTES_MAX:
        raise OverflowError(f"{number} needs more than {ORDERED_BYTES_MAX} bytes")
    if number >= 0:
        return bytes((0x80 + size,)) + number.to_bytes(size, "big")
    return bytes((0x80 - size,)) + ((1 << 8 * size) - 1 + number).to_bytes(size, "big")


def read_ordered_untrusted(raw: bytes, start: int) -> tuple[int, int]:
    """The number at `start` and where it ends. Raises Malformed, also for a number written longer than need be."""
    size = abs(raw[start] - 0x80) if start < len(raw) else 0
    end = start + 1 + size
    if not 1 <= size <= ORDERED_BYTES_MAX or end > len(raw):
        raise Malformed("not an ordered number")
    number = int.from_bytes(raw[start + 1 : end], "big")
    if raw[start] < 0x80:
        number -= (1 << 8 * size) - 1
    if ordered(number) != raw[start:end]:
        raise Malformed("not the shortest form of an ordered number")
    return number, end
