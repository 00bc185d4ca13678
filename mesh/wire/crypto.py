"""The five primitives that everything else is built from, as one small object that can be swapped.

Nodes use libsodium. The simulator injects an implementation that remembers which (key, message, signature) was already verified,
so that a thousand peers in one process do not verify one delta a thousand times.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Protocol, final

from nacl import bindings
from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # compiled; why it is used: see `Libsodium`
from nacl.exceptions import CryptoError

SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SECRET_KEY_BYTES: Final = 64
"""Ed25519 secret key as libsodium keeps it: seed, then public key."""
SIGNATURE_BYTES: Final = 64
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
TAG_BYTES: Final = 16
CONVERTED_MAX: Final = 256
"""Keys kept as X25519 takes them: finding that of a member costs as much as agreeing with it, and its own one uses each time.
Guess: who meets again and again."""


class Crypto(Protocol):
    """Pure functions of their arguments. Only lengths fixed by our own code are passed in, except where a docstring says so."""

    def keypair(self, seed: bytes) -> tuple[bytes, bytes]:
        """(public key, secret key) of an Ed25519 seed."""

    def sign(self, secret_key: bytes, message: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """False for anything that is not a valid signature: wrong lengths, low-order and non-canonical keys included."""

    def agree(self, secret_key: bytes, public_key: bytes) -> bytes | None:
        """X25519 of two Ed25519 identities, not yet hashed; None when the other key is not a point of the main group."""

    def seal(self, key: bytes, nonce: bytes, message: bytes, associated: bytes) -> bytes:
        """XChaCha20-Poly1305: ciphertext, then the tag."""

    def open(self, key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
        """The message, or None when it was not sealed like this. `sealed` may have any length."""


@lru_cache(maxsize=CONVERTED_MAX)
def _public_on_the_curve(public_key: bytes) -> bytes:
    return bindings.crypto_sign_ed25519_pk_to_curve25519(public_key)


@lru_cache(maxsize=CONVERTED_MAX)
def _secret_on_the_curve(secret_key: bytes) -> bytes:
    return bindings.crypto_sign_ed25519_sk_to_curve25519(secret_key)


class Libsodium:
    """`Crypto` by libsodium. Costs on the reference machine: sign 14 us, verify 38 us, agree 35 us, seal and open 1.4 us.

    What every datagram needs goes past `nacl.bindings` to the functions that it wraps: its checks of types and lengths, which our
    own code fixes, take 2 us of the 3.4 us of a seal or an open (measured), and several times that with cold caches.
    """

    def keypair(self, seed: bytes) -> tuple[bytes, bytes]:
        return bindings.crypto_sign_seed_keypair(seed)

    def sign(self, secret_key: bytes, message: bytes) -> bytes:
        if len(secret_key) != SECRET_KEY_BYTES:
            raise ValueError(f"a secret key has {SECRET_KEY_BYTES} bytes, not {len(secret_key)}")
        size = len(message)
        space = _space(SIGNATURE_BYTES + size)
        _crypto_sign(space.there, _NULL, message, size, secret_key)  # cannot fail
        return space.taken(SIGNATURE_BYTES)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
            return False
        signed = signature + message
        size = len(signed)
        space = _space(size)
        failed = _crypto_sign_open(space.there, _NULL, signed, size, public_key)
        space.taken(0)
        return not failed

    def agree(self, secret_key: bytes, public_key: bytes) -> bytes | None:
        if len(public_key) != PUBLIC_KEY_BYTES:
            return None
        try:
            return bindings.crypto_scalarmult(_secret_on_the_curve(secret_key), _public_on_the_curve(public_key))
        except CryptoError:
            return None

    def seal(self, key: bytes, nonce: bytes, message: bytes, associated: bytes) -> bytes:
        if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:  # libsodium reads as many, whatever is there
            raise ValueError(f"a key has {KEY_BYTES} bytes and a nonce {NONCE_BYTES}, not {len(key)} and {len(nonce)}")
        size = len(message)
        space = _space(size + TAG_BYTES)
        _aead_encrypt(space.there, _NULL, message, size, associated, len(associated), _NULL, nonce, key)  # cannot fail
        return space.taken(size + TAG_BYTES)

    def open(self, key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        size = len(sealed)
        if size < TAG_BYTES or len(nonce) != NONCE_BYTES:  # of an encrypted value, the nonce is its author's word
            return None
        space = _space(size)
        failed = _aead_decrypt(space.there, _NULL, _NULL, sealed, size, associated, len(associated), nonce, key)
        message = space.taken(size - TAG_BYTES)
        return None if failed else message


@final
class _Space:
    """Where libsodium writes. It is used again: to make one, and a view of it, takes a quarter of an open, and 200 of the 500
    lines of memory that one fetched with cold caches."""

    __slots__ = ("_view", "there")

    def __init__(self, size: int) -> None:
        self.there = _new_bytes(_BYTES, size)
        self._view = _buffer(self.there)

    def taken(self, size: int) -> bytes:
        """What was written. The next one may have this space."""
        written: bytes = self._view[:size]
        if len(self._view) == _SPACE_BYTES:
            _FREE.append(self)
        return written


def _space(size: int) -> _Space:
    """Of at least so many bytes. Nobody else has it until it is taken: agents may run in several threads of a process."""
    if size > _SPACE_BYTES:
        return _Space(size)
    try:
        return _FREE.pop()
    except IndexError:
        return _Space(_SPACE_BYTES)


_SPACE_BYTES: Final = 2_048
"""Room for the longest datagram."""
_FREE: Final[list[_Space]] = []
_crypto_sign: Final = lib.crypto_sign
_crypto_sign_open: Final = lib.crypto_sign_open
_aead_encrypt: Final = lib.crypto_aead_xchacha20poly1305_ietf_encrypt
_aead_decrypt: Final = lib.crypto_aead_xchacha20poly1305_ietf_decrypt
_new_bytes: Final = ffi.new_allocator(should_clear_after_alloc=False)
_BYTES: Final = ffi.typeof("unsigned char[]")
_NULL: Final = ffi.NULL
_buffer: Final = ffi.buffer


LIBSODIUM: Final[Crypto] = Libsodium()
