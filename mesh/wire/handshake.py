"""The clear datagrams of a handshake, and cookies.

    INIT     version, mesh tag, nonce, our public key, padding      who is there? [and sealed deltas: mesh.wire.early]
    COOKIE   nonce, public key, cookie, receipt                     I am; show that you can hear me
    CONNECT  public key, nonce, cookie, counter, sealed frames      the session's first datagram: proves address and identity
    RESET    session tag                                            I don't know this session

The answering side keeps nothing until the cookie comes back: a cookie is a keyed hash of the asker's address, key and nonce under
a secret that rotates, so a forged source address gets one datagram, no larger than the one that caused it, and never costs memory
or public-key cryptography.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from hmac import compare_digest
from math import inf
from typing import Final, NamedTuple

from mesh.effects import Address
from mesh.wire.crypto import PUBLIC_KEY_BYTES, TAG_BYTES
from mesh.wire.session import COUNTER_BYTES, SESSION_TAG_BYTES

INIT: Final = 2
COOKIE: Final = 3
CONNECT: Final = 4
RESET: Final = 5

VERSION: Final = 1
MESH_TAG_BYTES: Final = 8
HANDSHAKE_NONCE_BYTES: Final = 16
COOKIE_BYTES: Final = 16
RECEIPT_BYTES: Final = 8
"""For what came sealed with the INIT: zeros where nothing was taken. Guess: nobody else can answer in time anyway."""
NO_RECEIPT: Final = bytes(RECEIPT_BYTES)

COOKIE_DATAGRAM_BYTES: Final = 1 + HANDSHAKE_NONCE_BYTES + PUBLIC_KEY_BYTES + COOKIE_BYTES + RECEIPT_BYTES
INIT_BYTES: Final = COOKIE_DATAGRAM_BYTES
"""Padded to what it is answered with: nothing here amplifies. More padding is taken, too: `mesh doctor` asks with as much as a
full datagram has, to learn whether those get through."""
_INIT_PADDING: Final = bytes(INIT_BYTES - 2 - MESH_TAG_BYTES - HANDSHAKE_NONCE_BYTES - PUBLIC_KEY_BYTES)
_CONNECT_CLEAR_BYTES: Final = 1 + PUBLIC_KEY_BYTES + HANDSHAKE_NONCE_BYTES + COOKIE_BYTES
CONNECT_OVERHEAD_BYTES: Final = _CONNECT_CLEAR_BYTES + COUNTER_BYTES + TAG_BYTES
RESET_BYTES: Final = 1 + SESSION_TAG_BYTES

COOKIE_SECRET_S: Final = 15.0
"""A cookie is good for one to two of these: longer than a handshake with all its retries, short because a CONNECT that is
recorded can be sent again while its cookie lasts, and has to be remembered as long. (Guess; WireGuard and DTLS servers use 60-120
s.)"""
COOKIE_LIFETIME_S: Final = 2 * COOKIE_SECRET_S


class Init(NamedTuple):
    nonce: bytes
    public_key: bytes


class Cookie(NamedTuple):
    nonce: bytes
    public_key: bytes
    cookie: bytes
    receipt: bytes = NO_RECEIPT


class Connect(NamedTuple):
    public_key: bytes
    nonce: bytes
    cookie: bytes
    counter: bytes
    sealed: bytes


def mesh_tag(mesh_id: bytes) -> bytes:
    """Tells meshes apart in the clear without showing the id that signatures are bound to."""
    return blake2b(mesh_id, digest_size=MESH_TAG_BYTES, person=b"mesh tag").digest()


def encode_init(tag: bytes, init: Init) -> bytes:
    return bytes((INIT, VERSION)) + tag + init.nonce + init.public_key + _INIT_PADDING


def init_untrusted(datagram: bytes, tag: bytes) -> Init | str:
    """The INIT, or the reason why it is none of ours."""
    if len(datagram) < INIT_BYTES:
        return "malformed"
    if datagram[1] != VERSION:
        return "other_version"
    if datagram[2:10] != tag:
        return "other_mesh"
    return Init(datagram[10:26], datagram[26:58])


def encode_cookie(cookie: Cookie) -> bytes:
    return bytes((COOKIE,)) + cookie.nonce + cookie.public_key + cookie.cookie + cookie.receipt


def cookie_untrusted(datagram: bytes) -> Cookie | None:
    if len(datagram) != COOKIE_DATAGRAM_BYTES:
        return None
    return Cookie(datagram[1:17], datagram[17:49], datagram[49:65], datagram[65:])


def connect_head(public_key: bytes, nonce: bytes, cookie: bytes) -> bytes:
    """What stands before the sealed part of a CONNECT."""
    return bytes((CONNECT,)) + public_key + nonce + cookie


def connect_untrusted(datagram: bytes) -> Connect | None:
    if len(datagram) < CONNECT_OVERHEAD_BYTES:
        return None
    return Connect(datagram[1:33], datagram[33:49], datagram[49:65], datagram[65:71], datagram[71:])


def encode_reset(tag: bytes) -> bytes:
    return bytes((RESET,)) + tag


class CookieJar:
    """Makes cookies and knows them again, without a record of any."""

    __slots__ = ("_entropy", "_epoch", "_former", "_secret")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._secret = entropy(32)
        self._former = entropy(32)
        self._epoch = -inf

    def make(self, address: Address, nonce: bytes, public_key: bytes, now: float) -> bytes:
        self._rotate(now)
        return _cookie(self._secret, address, nonce, public_key)

    def knows(self, cookie: bytes, address: Address, nonce: bytes, public_key: bytes, now: float) -> bool:
        """Whether we gave this cookie to this address for this nonce and key, at most COOKIE_LIFETIME_S ago."""
        self._rotate(now)
        return compare_digest(cookie, _cookie(self._secret, address, nonce, public_key)) or compare_digest(
            cookie, _cookie(self._former, address, nonce, public_key)
        )

    def _rotate(self, now: float) -> None:
        """By the clock's grid, not by use: a secret that nobody asked for at its end does not live on as the former one."""
        epoch = now // COOKIE_SECRET_S
        if epoch <= self._epoch:
            return
        self._former = self._secret if epoch == self._epoch + 1 else self._entropy(32)
        self._secret = self._entropy(32)
        self._epoch = epoch


def _cookie(secret: bytes, address: Address, nonce: bytes, public_key: bytes) -> bytes:
    where = f"{address[0]} {address[1]}".encode()
    return blake2b(nonce + public_key + where, digest_size=COOKIE_BYTES, key=secret, person=b"mesh cookie").digest()
