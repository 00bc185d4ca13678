"""What goes along with the first question of a handshake: deltas that should not wait for two more datagrams.

A first contact is a round trip and a half before the first frame arrives, at every hop of a push tree, and each of its three
datagrams may be lost. So an INIT to a member whose key is known brings along the deltas that wait for it, sealed under a key that
both ends derive from their static keys and the INIT's nonce. The COOKIE says with eight bytes of the same derivation that they
were taken; else they go again with the CONNECT.

What came this way was sealed by the member that it names, but perhaps long ago: neither time nor place is proved. So only frames
that anybody may repeat without harm go along (a delta is signed by its author and numbered), they are no sign of life, the answer
is a COOKIE as for any other INIT, and how many are looked at is bounded: a flood, or somebody who sends recordings again, only
brings back the ordinary handshake.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple

from mesh.wire.counters import Counters
from mesh.wire.crypto import KEY_BYTES, NONCE_BYTES, TAG_BYTES, Crypto
from mesh.wire.frames import Frame
from mesh.wire.handshake import INIT_BYTES, NO_RECEIPT, RECEIPT_BYTES, Init
from mesh.wire.packer import DATAGRAM_BYTES_MAX, FRAME_HEAD_BYTES, TokenBucket, frames_untrusted
from mesh.wire.sender import EARLY_KINDS, Sender
from mesh.wire.tables import Attempt, Peer

EARLY_BYTES_MAX: Final = DATAGRAM_BYTES_MAX - INIT_BYTES - TAG_BYTES
EARLY_TRIES: Final = 3
"""Datagrams of a handshake that bring frames along; later ones are small, for paths that lose large datagrams. Guess."""
EARLY_PER_S: Final = 1_000.0
"""INITs with something sealed that are looked at, all together: 10 us each, so 1% of a core under attack. Then the sealed part is
ignored."""
EARLY_PER_PEER_PER_S: Final = 1.0
EARLY_PER_PEER_BURST: Final = 16.0
"""Of one member, taken: an honest one needs one for each of its starts. As CONNECTS_PER_S and CONNECTS_BURST."""

_NONCE: Final = bytes(NONCE_BYTES)
"""Each key seals one text: an INIT that is sent again is the same bytes, and another nonce of the handshake is another key."""


class EarlyKey(NamedTuple):
    """Of one INIT."""

    key: bytes
    receipt: bytes
    """Shows in a COOKIE that what was sealed has arrived and was taken."""


def early_key(shared: bytes, init: Init, responder_key: bytes, mesh_id: bytes) -> EarlyKey:
    """`shared`: the X25519 of both identities. Every input has a fixed length, so their concatenation says what they are."""
    material = shared + init.public_key + responder_key + init.nonce + mesh_id
    derived = blake2b(material, digest_size=KEY_BYTES + RECEIPT_BYTES, person=b"mesh early").digest()
    return EarlyKey(derived[:KEY_BYTES], derived[KEY_BYTES:])


class Early:
    """Both ends of it. `agree`: the X25519 with a member, kept for the next time."""

    __slots__ = ("_agree", "_all", "_counters", "_crypto", "_drops", "_mesh_id", "_sender")

    def __init__(
        self,
        crypto: Crypto,
        mesh_id: bytes,
        sender: Sender,
        counters: Counters,
        agree: Callable[[bytes, Peer | None], bytes | None],
    ) -> None:
        self._crypto = crypto
        self._mesh_id = mesh_id
        self._sender = sender
        self._counters = counters
        self._drops = counters.drops
        self._agree = agree
        self._all = TokenBucket(EARLY_PER_S, EARLY_PER_S)

    # ---- who asks

    def along(self, attempt: Attempt, peer: Peer | None, init: Init, room: int) -> bytes:
        """What this INIT to a member brings along. `room`: bytes, as many as a CONNECT has, should it have to go with that."""
        if peer is None or peer.sessions or attempt.asked > EARLY_TRIES:
            return b""
        if not attempt.sealed:
            attempt.early = attempt.early or self._sender.take_deltas(peer, min(room, EARLY_BYTES_MAX))
            shared = self._agree(peer.public_key, peer) if attempt.early else None
            if shared is None:
                return b""
            key = early_key(shared, init, peer.public_key, self._mesh_id)
            attempt.sealed = self._crypto.seal(key.key, _NONCE, b"".join(attempt.early), b"")
            attempt.receipt = key.receipt
        return attempt.sealed

    def again(self, attempt: Attempt, peer: Peer, room: int) -> bytes:
        """What of it a CONNECT to this member brings along. What waits since then joins it the first time."""
        if attempt.peer != peer.replica or attempt.asked > EARLY_TRIES:
            return b""
        if attempt.asked == 1:
            attempt.early += self._sender.take_deltas(peer, room - sum(map(len, attempt.early)))
        return b"".join(attempt.early)

    def connected(self, attempt: Attempt, peer: Peer) -> None:
        """This attempt ends. If a CONNECT to who was meant was answered, and each brought all of it along, it has arrived."""
        if attempt.entry is not None and attempt.peer == peer.replica and attempt.asked <= EARLY_TRIES:
            attempt.early.clear()

    # ---- who is asked

    def open_untrusted(
        self, peer: Peer, init: Init, public_key: bytes, sealed: bytes, now: float
    ) -> tuple[bytes, list[tuple[Frame, bytes]]]:
        """The receipt for the cookie, and the frames of a member's INIT; `public_key` is ours. NO_RECEIPT: nothing was taken."""
        nothing: tuple[bytes, list[tuple[Frame, bytes]]] = (NO_RECEIPT, [])
        if not self._all.take(now):
            self._drops["early_rate"] += 1
            return nothing
        shared = self._agree(init.public_key, peer)
        if shared is None:
            return nothing
        key = early_key(shared, init, public_key, self._mesh_id)
        plain = self._crypto.open(key.key, _NONCE, sealed, b"")
        frames = None if plain is None else frames_untrusted(plain)
        if frames is None:
            self._drops["early_forged"] += 1
        elif init.nonce == peer.early_nonce:  # taken already: its cookie was lost, or it comes twice
            return key.receipt, []
        elif not _may_take(peer, now):
            self._drops["early_rate"] += 1
        else:
            peer.early_nonce = init.nonce
            peer.knocked_at = now
            return key.receipt, [frame for number, payload in frames if (frame := self._taken(number, payload))]
        return nothing

    def _taken(self, number: int, payload: bytes) -> tuple[Frame, bytes] | None:
        if number not in EARLY_KINDS:
            self._drops["early_kind"] += 1
            return None
        self._counters.frames_received[number] += 1
        self._counters.frame_bytes_received[number] += FRAME_HEAD_BYTES + len(payload)
        return Frame(number), payload


def _may_take(peer: Peer, now: float) -> bool:
    """Asked when it has been opened: garbage takes nothing from anybody's share."""
    if peer.early is None:
        peer.early = TokenBucket(EARLY_PER_PEER_PER_S, EARLY_PER_PEER_BURST)
    return peer.early.take(now)
