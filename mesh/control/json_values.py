"""Values of the mesh as JSON, for the control socket and for `--json`. Every value survives the way there and back.

JSON has no bytes, no infinite floats and no maps with keys of bytes. Those become an object with one key that starts with `$`;
a map whose own keys could be mistaken for that is written as `$map`.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Set
from typing import Any, Final

from crdt.ops import Value
from mesh.errors import Malformed
from mesh.secrecy.sealing import Sealed

BYTES: Final = "$bytes"
FLOAT: Final = "$float"
MAP: Final = "$map"
SEALED: Final = "$sealed"
"""A value whose key is not here. Nothing reads it back."""


DEPTH_MAX: Final = 32
"""Lists and maps in each other; what a payload may hold (crdt.codec.DEPTH_MAX) is checked where it is written."""


def to_json(value: Any) -> Any:
    """A value, or what a view makes of values: a set becomes an array, in an order that is the same everywhere."""
    match value:
        case Sealed():
            return {SEALED: value.epoch.hex()}
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else {FLOAT: repr(value)}
        case bytes():
            return {BYTES: base64.b64encode(value).decode()}
        case Mapping():
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: to_json(item) for key, item in value.items()}
            return {MAP: [[to_json(key), to_json(item)] for key, item in value.items()]}
        case Set():
            return sorted((to_json(item) for item in value), key=_order)
        case list() | tuple():
            return [to_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json_untrusted(value: Any, depth: int = DEPTH_MAX) -> Value:
    """What `json.loads` gave, as a value. Raises Malformed for an object that starts with `$` and is none of ours, and for one
    nested deeper than a payload may be.
    """
    if depth < 0:
        raise Malformed(f"nested deeper than {DEPTH_MAX} levels")
    depth -= 1
    match value:
        case {"$bytes": str(text), **rest} if not rest:
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise Malformed(f"{BYTES} is not base64: {error}") from error
        case {"$float": "inf" | "-inf" | "nan" as text, **rest} if not rest:
            return float(text)
        case {"$map": list(items), **rest} if not rest:
            pairs = [
                (from_json_untrusted(item[0], depth), from_json_untrusted(item[1], depth)) for item in items if _is_pair(item)
            ]
            if len(pairs) < len(items) or not all(isinstance(key, str | bytes) for key, _ in pairs):
                raise Malformed(f"{MAP} is an array of [key, value], its keys text or {BYTES}")
            return {key: item for key, item in pairs if isinstance(key, str | bytes)}
        case dict():
            if strange := next((key for key in value if key.startswith("$")), None):
                raise Malformed(f"an object with the key {strange!r}: keys that start with $ are written as {MAP}")
            return {key: from_json_untrusted(item, depth) for key, item in value.items()}
        case list():
            return [from_json_untrusted(item, depth) for item in value]
        case bool() | int() | float() | str() | None:
            return value
    raise Malformed(f"{type(value).__name__} is not JSON")


def _order(item: Any) -> tuple[int, float, str]:
    if isinstance(item, int | float):
        return (0, item, "")
    return (1, 0, item) if isinstance(item, str) else (2, 0, repr(item))


def _is_pair(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2
