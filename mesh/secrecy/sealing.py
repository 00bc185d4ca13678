"""One value under a prefix key, and one prefix key for one reader. XChaCha20-Poly1305 and X25519 by libsodium.

    value    magic (4) || epoch (8) || nonce (24) || ciphertext and tag      52 bytes more than its CBOR, as a byte string
    wrap     ephemeral key (32) || reader's key id (8) || sealed key (48)

What a value is bound to (the associated data) is the mesh, the epoch, its type, its whole path and the shelf that first issued
it: moved to another path or type, or copied to another author's shelf, it does not open. An author's own earlier value cannot be
put back by others either: the shelf is signed.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from crdt.ids import ShelfId
from crdt.ops import Key, Path, Value
from mesh.errors import Malformed
from mesh.trust.identity import Identity, key_id
from mesh.wire import cbor
from mesh.wire.crypto import KEY_BYTES, LIBSODIUM, NONCE_BYTES, PUBLIC_KEY_BYTES, SEED_BYTES, TAG_BYTES, Crypto

MAGIC: Final = b"\x00\xffms"
"""How a sealed payload begins. A plain byte string that begins so is refused below an encrypted prefix."""
EPOCH_BYTES: Final = 8
_NONCE_AT: Final = len(MAGIC) + EPOCH_BYTES
_SEALED_AT: Final = _NONCE_AT + NONCE_BYTES
OVERHEAD_BYTES: Final = _SEALED_AT + TAG_BYTES
KEY_ID_BYTES: Final = 8
WRAP_BYTES: Final = PUBLIC_KEY_BYTES + KEY_ID_BYTES + KEY_BYTES + TAG_BYTES
_NO_NONCE: Final = bytes(NONCE_BYTES)
"""A wrap's key is made of an ephemeral one, and seals once."""


class Sealed(NamedTuple):
    """Stands for a value whose key is not here."""

    epoch: bytes
    """Of the key that opens it."""

    def __str__(self) -> str:
        return f"(encrypted: its key {self.epoch.hex()} is not here)"


def epoch_of(payload: Value) -> bytes | None:
    """Of a sealed payload; None for any other."""
    if isinstance(payload, bytes) and payload.startswith(MAGIC) and len(payload) >= OVERHEAD_BYTES:
        return payload[len(MAGIC) : _NONCE_AT]
    return None


def seal_value(key: bytes, epoch: bytes, nonce: bytes, value: Value, bound_to: bytes) -> bytes:
    return MAGIC + epoch + nonce + LIBSODIUM.seal(key, nonce, cbor.encode(value), epoch + bound_to)


def open_value_untrusted(key: bytes, payload: bytes, bound_to: bytes) -> Any:
    """The value. Raises Malformed when it was not sealed with this key for this place."""
    if len(payload) < OVERHEAD_BYTES:
        raise Malformed("an encrypted value that is too short to be one")
    epoch, nonce = payload[len(MAGIC) : _NONCE_AT], payload[_NONCE_AT:_SEALED_AT]
    plain = LIBSODIUM.open(key, nonce, payload[_SEALED_AT:], epoch + bound_to)
    if plain is None:
        raise Malformed("an encrypted value that was altered, or moved from where its author put it")
    return cbor.decode_untrusted(plain)


def place_of(mesh_id: bytes, key: Key, origin: ShelfId) -> bytes:
    """What a value is bound to."""
    type_code, path = key
    return mesh_id + cbor.encode([type_code, list(path), origin])


def wrap_key(key: bytes, reader: bytes, where: bytes, entropy: Callable[[int], bytes], crypto: Crypto) -> bytes | None:
    """`key` for the holder of the Ed25519 public key `reader` alone; `where` says which key it is. None: no such point."""
    public_key, secret_key = crypto.keypair(entropy(SEED_BYTES))
    shared = crypto.agree(secret_key, reader)
    if shared is None:
        return None
    sealed = LIBSODIUM.seal(_wrapping(shared, public_key, reader), _NO_NONCE, key, where)
    return public_key + key_id(reader) + sealed


def unwrap_key_untrusted(wrap: Value, reader: Identity, where: bytes, crypto: Crypto) -> bytes | None:
    """The key, when it was wrapped for this identity."""
    if not isinstance(wrap, bytes) or len(wrap) != WRAP_BYTES:
        return None
    ephemeral, named = wrap[:PUBLIC_KEY_BYTES], wrap[PUBLIC_KEY_BYTES:][:KEY_ID_BYTES]
    if named != key_id(reader.public_key):
        return None
    shared = crypto.agree(crypto.keypair(reader.seed)[1], ephemeral)
    if shared is None:
        return None
    wrapping = _wrapping(shared, ephemeral, reader.public_key)
    return LIBSODIUM.open(wrapping, _NO_NONCE, wrap[PUBLIC_KEY_BYTES + KEY_ID_BYTES :], where)


def is_wrapped_for(wrap: Value, reader: bytes) -> bool:
    """Whether this is a wrap for the holder of that public key."""
    named = wrap[PUBLIC_KEY_BYTES:][:KEY_ID_BYTES] if isinstance(wrap, bytes) and len(wrap) == WRAP_BYTES else b""
    return named == key_id(reader)


def where_of(mesh_id: bytes, prefix: Path, epoch: bytes) -> bytes:
    """What a wrap is bound to."""
    return mesh_id + cbor.encode([list(prefix), epoch])


def _wrapping(shared: bytes, ephemeral: bytes, reader: bytes) -> bytes:
    return blake2b(shared + ephemeral + reader, digest_size=KEY_BYTES, person=b"mesh key wrap").digest()
