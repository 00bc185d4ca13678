"""Encrypted values and the keys of their prefixes, as a reader gets them from a member that it has no reason to trust."""

from __future__ import annotations

from typing import Final

from crdt.ops import Value
from mesh.errors import Malformed
from mesh.secrecy.sealing import open_value_untrusted, seal_value, unwrap_key_untrusted, wrap_key
from mesh.testing import stream
from mesh.trust import Identity
from mesh.wire.crypto import LIBSODIUM, NONCE_BYTES

_KEY: Final = bytes(range(32))
_EPOCH: Final = b"epoch 01"
_PLACE: Final = b"this mesh, this path, this author"
_READER: Final = Identity(bytes(range(32, 64)))


def sealed_values() -> list[bytes]:
    rng = stream(1, "sealed values")
    values: tuple[Value, ...] = (None, 7, "text", (1, 2, {"a": b"b"}))
    return [seal_value(_KEY, _EPOCH, rng.randbytes(NONCE_BYTES), value, _PLACE) for value in values]


def read_value(raw: bytes) -> object:
    return open_value_untrusted(_KEY, raw, _PLACE)


def wraps() -> list[bytes]:
    rng = stream(1, "wraps")
    made = (wrap_key(_KEY, _READER.public_key, _PLACE, rng.randbytes, LIBSODIUM) for _ in range(3))
    return [wrap for wrap in made if wrap is not None]


def read_wrap(raw: bytes) -> object:
    key = unwrap_key_untrusted(raw, _READER, _PLACE, LIBSODIUM)
    if key is None:
        raise Malformed("nothing that was wrapped for this reader")
    if key != _KEY:
        raise AssertionError("a key that nobody wrapped")
    return key
