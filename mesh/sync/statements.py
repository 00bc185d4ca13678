"""The grow-only set of trust statements, kept equal between peers: pulled before deltas, because a delta means
nothing without the credential of its author.

A digest carries 8 bytes of the set's hash. Where they differ, one side names the ids that it holds, in pages; the
other sends what is missing there and asks for what it lacks itself.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.port import Port
from mesh.sync.messages import TrustIds
from mesh.trust import Directory
from mesh.trust.endings import Cut, Fork
from mesh.trust.statements import Revocation, statement_from_bytes_untrusted
from mesh.wire.frames import Frame, Lane

IDS_PER_PAGE: Final = 128
"""1,024 bytes of ids: one datagram."""
LOWEST: Final = bytes(8)
HIGHEST: Final = b"\xff" * 8
ANSWERS_MAX: Final = 64
"""Statements sent for one page at most; what is left shows at the next digest."""
SPREAD_MAX: Final = 64
"""Members up to which every new statement goes straight to all, as deltas do."""
RELAYED_TO: Final = 3
"""Members to whom everybody who hears of a revocation, a cut or a fork passes it on: what loss or a liar kept from one comes by
another way at once. Three leave out one in a million at 1% loss.
"""
PAUSE_SECONDS: Final = 0.05
"""Between two offers to one peer, so that crossing digests do not send the ids twice. Guess: a round trip or two."""


class StatementExchange:
    def __init__(self, directory: Directory, port: Port, rng: random.Random) -> None:
        self._rng = rng
        self._directory = directory
        self._port = port
        self._offered: dict[ReplicaId, float] = {}
        self._heard: set[bytes] = set()

    def offer(self, peer: ReplicaId, now: Now) -> None:
        """Name all that I hold, in pages that together cover every id."""
        if now.monotonic < self._offered.get(peer, 0.0):
            return
        self._offered[peer] = now.monotonic + PAUSE_SECONDS
        ids = self._directory.ids()
        low = LOWEST
        for i in range(0, max(len(ids), 1), IDS_PER_PAGE):
            chunk = ids[i : i + IDS_PER_PAGE]
            high = HIGHEST if i + IDS_PER_PAGE >= len(ids) else chunk[-1]
            self._port.send(peer, Lane.FRESH, Frame.TRUST_IDS, TrustIds(low, high, b"".join(chunk)).encode())
            low = high

    def spread(self, added: Sequence[bytes], peers: Sequence[ReplicaId]) -> None:
        """Statements that are new here and that no peer sent (an own one, one that the operator brought, a newcomer's): straight
        to all, since a revocation is to be in force everywhere within a second. In a large mesh a newcomer's waits for the
        digests; a thousand newcomers would cost a million frames.
        """
        for raw in added:
            urgent = is_revocation_untrusted(raw)
            if raw in self._heard:
                targets = self._rng.sample(peers, min(RELAYED_TO, len(peers))) if urgent else []
            else:
                targets = list(peers) if urgent or len(peers) <= SPREAD_MAX else []
            for peer in targets:
                self._port.send(peer, Lane.CRITICAL, Frame.TRUST, raw)
        self._heard.clear()

    def forget(self, peer: ReplicaId) -> None:
        self._offered.pop(peer, None)

    def ids_untrusted(self, peer: ReplicaId, payload: bytes) -> None:
        page = TrustIds.decode_untrusted(payload)
        theirs = set(page.each())
        mine = self._directory.ids(page.low, page.high)
        for statement in [i for i in mine if i not in theirs][:ANSWERS_MAX]:
            self._send(peer, statement)
        known = set(mine)
        wanted = [i for i in page.each() if i not in known]
        if wanted:
            self._port.send(peer, Lane.FRESH, Frame.TRUST_WANT, TrustIds(page.low, page.high, b"".join(wanted)).encode())

    def want_untrusted(self, peer: ReplicaId, payload: bytes) -> None:
        for statement in TrustIds.decode_untrusted(payload).each()[:ANSWERS_MAX]:
            self._send(peer, statement)

    def statement_untrusted(self, peer: ReplicaId, raw: bytes, now: Now) -> None:
        """Raises Malformed or Refused."""
        if self._directory.add_untrusted(raw, now, peer) is not None:
            self._heard.add(raw)  # and nothing that was refused: it would be remembered until something is added

    def _send(self, peer: ReplicaId, statement: bytes) -> None:
        raw = self._directory.raw(statement)
        if raw is not None:
            self._port.send(peer, Lane.FRESH, Frame.TRUST, raw)

    def digest(self) -> bytes:
        return self._directory.digest[:8]


def is_revocation_untrusted(raw: bytes) -> bool:
    """Of a statement that the directory took. Raises Malformed."""
    return isinstance(statement_from_bytes_untrusted(raw).content, Revocation | Cut | Fork)
