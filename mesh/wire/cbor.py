"""Deterministic CBOR, strict on the way in.

One data model on both sides: null, booleans, integers that CBOR carries without a tag (-2**64 to 2**64 - 1), floats, text,
bytes, arrays, and maps whose keys are text or bytes. Encoding is RFC 8949 section 4.2.3 (shortest forms, map keys length-first),
so that a value has exactly one encoding and hashes of bytes are hashes of values.

Decoding is hostile ground: cbor2 turns two dozen tags into native types (regular expressions, e-mail, decimals with an exponent
of the sender's choice), follows shared references and accepts what is not deterministic. What closes each of these doors is
noted at it.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from typing import Any, Final, NoReturn

import cbor2

from mesh.errors import Malformed
from mesh.wire.shortest import is_shortest, is_shortest_body

DEPTH_MAX: Final = 16
"""Nested arrays and maps, the outermost being 1 (DESIGN section 2)."""


class _NoTags(dict[int, Any]):
    """Refuses every tag before its content is read.

    cbor2 looks here for a tag's decoder before it falls back on its own, so a lookup that fails is the one place that sees all.
    """

    def __missing__(self, tag: int) -> NoReturn:
        raise Malformed(f"CBOR tag {tag} is not allowed here")


_NO_TAGS: Final = _NoTags()


def _refuse(_encoder: cbor2.CBOREncoder, value: object) -> NoReturn:
    raise Malformed(f"CBOR {value!r} is outside the data model")


_REFUSE_SIMPLE: Final[dict[type, Callable[[cbor2.CBOREncoder, Any], NoReturn]]] = {
    cbor2.CBORSimpleValue: _refuse,
    type(cbor2.undefined): _refuse,
}


def encode(value: object) -> bytes:
    """The deterministic encoding of our own value; what comes out of `decode_untrusted` goes back to the same bytes.

    For structures that this program built; that they are inside the data model is not checked (an integer above 64 bits would
    become a tag, which every receiver refuses). Values of users are checked where they are written.
    """
    return cbor2.dumps(value, canonical=True)


def decode_untrusted(raw: bytes) -> Any:
    """The value of exactly these bytes, immutable: arrays as tuples, maps as `cbor2.frozendict`.

    Raises `Malformed`, and nothing else, for anything that `encode` would not have produced from the data model. A length that
    came from the wire allocates nothing: cbor2 reads arrays item by item and strings in pieces of 64 KiB.
    """
    value = _load_untrusted(raw)
    if not is_shortest(value, raw):
        _require_deterministic_untrusted(value, raw)
    return value


def decode_body_untrusted(raw: bytes) -> Any:
    """`decode_untrusted`, made for bodies of deltas: arrays whose fourth item is an array of ops. The same values and the same
    refusals, for any bytes, in two thirds of the time where there are many ops.
    """
    value = _load_untrusted(raw)
    if not (is_shortest_body(value, raw) or is_shortest(value, raw)):
        _require_deterministic_untrusted(value, raw)
    return value


def _load_untrusted(raw: bytes) -> Any:
    try:
        return cbor2.loads(
            raw,
            semantic_decoders=_NO_TAGS,
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,  # map keys are text or bytes, whose hashes are keyed: no chosen collisions
            immutable=True,
        )
    except _NOT_CBOR as error:
        raise Malformed(f"not CBOR: {error}") from error


def _require_deterministic_untrusted(value: Any, raw: bytes) -> None:
    """Catches trailing bytes, longer forms, unsorted keys, and a NaN that carries a payload."""
    try:
        canonical = _encode_plain(value)
    except _NOT_CBOR as error:
        raise Malformed(f"not CBOR: {error}") from error
    if canonical != raw:
        raise Malformed("CBOR is not in its deterministic form")


_NOT_CBOR: Final = (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError)


def _encode_plain(value: Any) -> bytes:
    """`encode`, refusing what cbor2 decodes without a tag although it is outside the data model: simple values and undefined.

    marshal knows the types of the data model, frozen maps excepted, and no others that cbor2 makes without tags. It looks at a
    whole body of 30 ops in 3 us, where hooks in the encoder cost 30 us (measured). So the hooks run only where marshal objects.
    """
    try:
        marshal.dumps(value)
    except ValueError:
        return cbor2.dumps(value, canonical=True, encoders=_REFUSE_SIMPLE)
    return cbor2.dumps(value, canonical=True)
