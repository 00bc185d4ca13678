"""The primitives against PyNaCl's own wrappers: what goes past those must do the same."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from nacl import bindings

from mesh.wire import crypto
from mesh.wire.crypto import LIBSODIUM, NONCE_BYTES, TAG_BYTES

RNG = random.Random(1)
KEY, NONCE = RNG.randbytes(32), RNG.randbytes(NONCE_BYTES)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 1_169, 2_032, 2_048, 70_000])
@pytest.mark.parametrize("associated", [b"", b"head"])
def test_seals_and_opens_as_the_wrappers_do(size: int, associated: bytes) -> None:
    message = RNG.randbytes(size)
    sealed = LIBSODIUM.seal(KEY, NONCE, message, associated)
    assert sealed == bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(message, associated, NONCE, KEY)
    assert LIBSODIUM.open(KEY, NONCE, sealed, associated) == message


def test_opens_nothing_that_was_altered() -> None:
    sealed = LIBSODIUM.seal(KEY, NONCE, b"message", b"head")
    for at in range(len(sealed)):
        assert LIBSODIUM.open(KEY, NONCE, sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :], b"head") is None
        assert LIBSODIUM.open(KEY, NONCE, sealed[:at], b"head") is None
    assert LIBSODIUM.open(KEY, NONCE, sealed, b"") is None
    assert LIBSODIUM.open(KEY, NONCE, bytes(TAG_BYTES - 1), b"") is None


@pytest.mark.parametrize("size", [0, 1, 100, 1_000, 1_984, 1_985, 2_048, 70_000])
def test_verifies_what_the_wrappers_sign(size: int) -> None:
    public_key, secret_key = bindings.crypto_sign_seed_keypair(KEY)
    message = RNG.randbytes(size)
    signature = bindings.crypto_sign(message, secret_key)[:64]
    assert LIBSODIUM.sign(secret_key, message) == signature
    assert LIBSODIUM.verify(public_key, message, signature)
    assert not LIBSODIUM.verify(public_key, message + b"x", signature)
    assert not LIBSODIUM.verify(public_key, message, signature[:63] + bytes((signature[63] ^ 1,)))
    assert not LIBSODIUM.verify(public_key, message, signature[:63])
    assert not LIBSODIUM.verify(public_key[:31], message, signature)


def test_never_lets_libsodium_read_past_a_short_key_or_nonce() -> None:
    for key, nonce in ((KEY[:31], NONCE), (KEY, NONCE[:23])):
        with pytest.raises(ValueError, match="a key has 32 bytes"):
            LIBSODIUM.seal(key, nonce, b"message", b"")
    with pytest.raises(ValueError, match="a key has 32 bytes"):
        LIBSODIUM.open(KEY[:31], NONCE, bytes(32), b"")
    for size in (0, 23, 25):
        assert LIBSODIUM.open(KEY, bytes(size), bytes(32), b"") is None, (
            "an encrypted value of a liar was a traceback at its readers"
        )


def test_agents_in_several_threads_do_not_share_what_libsodium_writes_to() -> None:
    """It lets other threads run meanwhile."""

    def work(number: int) -> bool:
        rng = random.Random(number)
        messages = [rng.randbytes(rng.randrange(2_000)) for _ in range(500)]
        sealed = [LIBSODIUM.seal(KEY, NONCE, message, b"") for message in messages]
        return [LIBSODIUM.open(KEY, NONCE, each, b"") for each in sealed] == messages

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(32)))


def test_where_libsodium_wrote_it_writes_again() -> None:
    LIBSODIUM.seal(KEY, NONCE, b"message", b"")
    ready = len(crypto._FREE)
    for _ in range(10):
        LIBSODIUM.open(KEY, NONCE, LIBSODIUM.seal(KEY, NONCE, b"message", b""), b"")
        LIBSODIUM.seal(KEY, NONCE, bytes(70_000), b"")
    assert len(crypto._FREE) == ready > 0
