"""One sealed session: two keys, two counters, a replay window.

A DATA datagram is `type (1) || tag (8) || counter (6) || ciphertext and Poly1305 tag`. The session tag comes out of the key
derivation, one per direction, so it is known to the two ends (and to who sees the wire) and to nobody else: garbage of an
outsider who is not on the path misses a dictionary, and costs no cryptography at all.

Both ends add 16 fresh bytes to the derivation (`nonce` and `cookie` of the handshake), so no two sessions share a key, and a
restart of either side ends what was recorded before it. There is no forward secrecy: who steals an identity key can read what was
recorded of it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from mesh.effects import Address
from mesh.wire.crypto import KEY_BYTES, NONCE_BYTES, TAG_BYTES, Crypto

DATA: Final = 1
"""Type byte of a sealed datagram; the handshake's are in `mesh.wire.handshake`."""
SESSION_TAG_BYTES: Final = 8
COUNTER_BYTES: Final = 6
"""2**48 datagrams: at a million a second, nine years."""
COUNTER_AT: Final = 1 + SESSION_TAG_BYTES
SEALED_AT: Final = COUNTER_AT + COUNTER_BYTES
DATA_OVERHEAD_BYTES: Final = SEALED_AT + TAG_BYTES

REPLAY_WINDOW: Final = 1024
"""Datagrams by which one may be late (DESIGN section 4); WireGuard keeps 8,128, IPsec 64 at least (RFC 4303)."""
_WINDOW_BYTES: Final = REPLAY_WINDOW // 8 + 1
"""A bit for each counter, at its place modulo this (as RFC 6479): the byte of the newest is begun while the window still reaches
into that of the oldest."""
_NONCE_PAD: Final = bytes(NONCE_BYTES - COUNTER_BYTES)
_KEYS_BYTES: Final = KEY_BYTES + SESSION_TAG_BYTES


class Session:
    """Seals and opens. Knows nothing of peers, frames or time."""

    __slots__ = (
        "_counter",
        "_head",
        "_highest",
        "_key_in",
        "_key_out",
        "_open",
        "_seal",
        "_seen",
        "address",
        "public_key",
        "tag_in",
    )

    address: Address
    """Where the other end proved to be, by answering what was sent there."""
    public_key: bytes
    """The other end's."""
    tag_in: bytes
    """Names this session in datagrams that we receive."""

    def __init__(self, crypto: Crypto, keys_in: bytes, keys_out: bytes, address: Address, public_key: bytes) -> None:
        self._open, self._seal = crypto.open, crypto.seal  # found once: each datagram asks
        self._key_in = keys_in[:KEY_BYTES]
        self.tag_in = keys_in[KEY_BYTES:]
        self._key_out = keys_out[:KEY_BYTES]
        self._head = bytes((DATA,)) + keys_out[KEY_BYTES:]
        self._counter = 0
        self._highest = 0
        self._seen = bytearray(_WINDOW_BYTES)  # of counters that were opened
        self._seen[0] = 1  # they start at 1
        self.address = address
        self.public_key = public_key

    @property
    def tag_out(self) -> bytes:
        """Names this session in datagrams that we send."""
        return self._head[1:]

    @property
    def heard(self) -> bool:
        """Whether the other end has proved that it holds the key."""
        return self._highest > 0

    def seal(self, message: bytes) -> bytes:
        """The next DATA datagram."""
        return self._head + self.seal_part(message)

    def seal_part(self, message: bytes) -> bytes:
        """Counter and sealed message, for a datagram that brings its own head."""
        self._counter += 1
        counter = self._counter.to_bytes(COUNTER_BYTES, "big")
        return counter + self._seal(self._key_out, _NONCE_PAD + counter, message, b"")

    def is_replay(self, counter: int) -> bool:
        """Whether this counter was opened before, or is too old to tell. Costs nothing, so it is asked before
        `open_untrusted`."""
        behind = self._highest - counter
        return behind >= 0 and (behind >= REPLAY_WINDOW or bool(self._seen[(counter >> 3) % _WINDOW_BYTES] >> (counter & 7) & 1))

    def open_untrusted(self, counter: bytes, sealed: bytes) -> bytes | None:
        """The message, or None when it was not sealed in this session. Does not mark the counter: `accept` does."""
        return self._open(self._key_in, _NONCE_PAD + counter, sealed, b"")

    def accept(self, counter: int) -> int:
        """Marks an opened counter that is no replay. By how much it is ahead of the newest so far: 1 where nothing was lost on
        the way; not above 0 for one that others have overtaken."""
        ahead, byte = counter - self._highest, counter >> 3
        if ahead > 0:
            former = self._highest >> 3
            for at in range(former + 1, min(byte, former + _WINDOW_BYTES) + 1):  # never as far as the other end says
                self._seen[at % _WINDOW_BYTES] = 0
            self._highest = counter
        elif ahead <= -REPLAY_WINDOW:
            return ahead  # its place is another's by now
        at = byte % _WINDOW_BYTES
        self._seen[at] = self._seen[at] | 1 << (counter & 7)
        return ahead


def derive(
    crypto: Crypto,
    shared: bytes,
    *,
    initiator_key: bytes,
    responder_key: bytes,
    nonce: bytes,
    cookie: bytes,
    mesh_id: bytes,
    is_initiator: bool,
    address: Address,
) -> Session:
    """The session of one handshake, as one of its ends sees it.

    `shared` is the X25519 of both identities. Every input has a fixed length, so their concatenation says what they are.
    """
    material = shared + initiator_key + responder_key + nonce + cookie + mesh_id
    forward = blake2b(material, digest_size=_KEYS_BYTES, person=b"mesh init->resp").digest()
    back = blake2b(material, digest_size=_KEYS_BYTES, person=b"mesh resp->init").digest()
    if is_initiator:
        return Session(crypto, back, forward, address, responder_key)
    return Session(crypto, forward, back, address, initiator_key)
