"""What one member may make this agent do: a budget of work per peer, in microseconds of this agent's time.

Anybody may send a datagram, and an outsider's is refused for a microsecond or two. A member's is opened, and a small frame of
it can ask for much: a page of a listing, 64 repairs, a signature. So each kind of frame has a price, about what it costs here
at most, and every peer an allowance that refills at a fixed rate; what is over it is dropped before the work is begun. Whoever
is over it loses frames, no rights: what is dropped comes again by anti-entropy.

Answers to what we asked for (repairs, listings, bodies) are free, because the window of `mesh.sync.pull` paces them; unasked
repairs are charged afterwards. No honest member comes near its allowance: its own pushes are limited to 250 deltas a second
(`mesh.peer.EAGER_PER_SECOND`), and comparing state costs it as much as us.
"""

from __future__ import annotations

from typing import Final

from crdt.ids import ReplicaId
from mesh.wire.frames import Frame
from mesh.wire.packer import TokenBucket

WORK_PER_SECOND: Final = 200_000.0
"""Microseconds of work a second for one peer: a fifth of a core. Guess: two hostile members leave more than half."""
WORK_BURST: Final = 250_000.0
"""At once. Guess: a quarter of a second is well below the time in which silence becomes suspicion (1 s with `lan`)."""
MALFORMED_MICROSECONDS: Final = 50.0
"""Raising and counting included. Measured on the reference machine, as the prices below (`tools.measure flood`)."""

PRICES: Final[dict[Frame, float]] = {
    Frame.PING: 40.0,  # 15; 35 when a signature is asked for
    Frame.ACK: 15.0,
    Frame.NACK: 10.0,
    Frame.PING_REQUEST: 25.0,
    Frame.CLAIM: 80.0,  # a verification among it
    Frame.LEAVE_CONFIRM: 10.0,
    Frame.MEMBERS: 200.0,  # rows of all members
    Frame.MEMBER_ROWS: 300.0,
    Frame.MEMBER_WANT: 300.0,  # 64 claims
    Frame.TRUST_IDS: 200.0,  # 64 statements
    Frame.TRUST_WANT: 200.0,
    Frame.TRUST: 100.0,  # a verification among it
    Frame.DELTA: 150.0,  # a verification among it, and up to 30 ops
    Frame.FLOOR: 30.0,
    Frame.DIGEST: 400.0,  # a digest back, and floors of buckets that differ
    Frame.BUCKETS: 200.0,
    Frame.WANT: 500.0,  # 64 repairs
    Frame.WANT_BODIES: 300.0,  # 32 bodies
    Frame.COLLECT: 100.0,  # hashes, and a digest
    Frame.HOLDING: 100.0,  # a verification among it
    Frame.BLOCK: 40.0,  # hashed, decoded and kept; unasked it is the leader's, a thousand a second at most
    Frame.PROOF: 60.0,  # a verification or two among it
    Frame.STANDING: 20.0,
    Frame.WANT_BLOCKS: 400.0,  # 64 blocks
    Frame.REQUEST: 150.0,  # a verification among it, and a block perhaps
    Frame.ANSWER: 15.0,
    Frame.WANT_LISTING: 300.0,  # pages; the budget for making listings is in mesh.sync.pins
}
UNASKED_MICROSECONDS: Final = PRICES[Frame.DELTA]
"""Of a repair that nobody asked for."""


class Allowance:
    """`PRICES` against one bucket per peer."""

    def __init__(self, per_second: float = WORK_PER_SECOND, burst: float = WORK_BURST) -> None:
        self._per_second, self._burst = per_second, burst
        self._buckets: dict[ReplicaId, TokenBucket] = {}

    def take(self, peer: ReplicaId, kind: Frame, now: float) -> bool:
        """Whether a frame of this kind may be looked at now; then it is paid for. `now`: monotonic seconds."""
        bucket = self._buckets.get(peer) or self._bucket(peer)
        price = PRICES.get(kind, 0.0)
        tokens = bucket.refill(now)
        if tokens < price or tokens <= 0.0:
            return False
        bucket.tokens -= price
        return True

    def charge(self, peer: ReplicaId, microseconds: float) -> None:
        """For what turned out to be useless; may leave a debt."""
        self._bucket(peer).tokens -= microseconds

    def forget(self, peer: ReplicaId) -> None:
        self._buckets.pop(peer, None)

    def _bucket(self, peer: ReplicaId) -> TokenBucket:
        """One per member that a session was open to: as many as there are credentials."""
        bucket = self._buckets.get(peer)
        if bucket is None:
            bucket = self._buckets[peer] = TokenBucket(self._per_second, self._burst)
        return bucket
