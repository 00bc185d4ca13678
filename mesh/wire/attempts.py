"""Addresses that are being asked who lives there: the retries of a handshake."""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Final

from crdt.ids import ReplicaId
from mesh.effects import Address, Now
from mesh.estimate import Estimate
from mesh.wire.handshake import HANDSHAKE_NONCE_BYTES
from mesh.wire.limits import TransportLimits
from mesh.wire.tables import Attempt, Entry

HURRIES: Final = 2
"""Times that each question is asked again after as long as answers take here, before the doubled waits begin: one lost datagram
is likelier than a dead peer. Guess: at 10% loss each way one of 150 is left."""
HURRY_SECONDS_MIN: Final = 0.02
"""Guess: a busy machine lets a process wait as long."""


class Attempts:
    """One attempt for an address at a time, retried with doubled waits until it ends or nobody answers.

    `ask` sends an attempt's next datagram, `abandon` forgets a session that came of none, `give_back` takes frames that were not
    taken at the other end, `give_up` tells that nobody answers.
    """

    __slots__ = (
        "_abandon",
        "_ask",
        "_by_address",
        "_by_nonce",
        "_entropy",
        "_give_back",
        "_give_up",
        "_limits",
        "_rng",
        "_round_trips",
        "_timer_count",
        "_timers",
    )

    def __init__(
        self,
        limits: TransportLimits,
        rng: random.Random,
        entropy: Callable[[int], bytes],
        *,
        ask: Callable[[Attempt], None],
        abandon: Callable[[Entry], None],
        give_back: Callable[[Attempt], None],
        give_up: Callable[[Attempt], None],
    ) -> None:
        self._limits = limits
        self._rng = rng
        self._entropy = entropy
        self._ask = ask
        self._abandon = abandon
        self._give_back = give_back
        self._give_up = give_up
        self._round_trips: Estimate | None = None
        self._by_address: dict[Address, Attempt] = {}
        self._by_nonce: dict[bytes, Attempt] = {}
        self._timers: list[tuple[float, int, Attempt]] = []
        self._timer_count = 0

    def at(self, address: Address) -> Attempt | None:
        return self._by_address.get(address)

    def with_nonce(self, nonce: bytes) -> Attempt | None:
        return self._by_nonce.get(nonce)

    def start(self, address: Address, peer: ReplicaId | None, now: Now, *, insist: bool = False, expected: bool = False) -> bool:
        """Ask, unless the address is being asked already. False when too many are. With `insist`, an attempt that waits for
        its next try asks once more in between: whoever calls has a reason to hope. `expected`: it is about to ask us, so its
        handshake has the length of a try to come first.
        """
        attempt = self._by_address.get(address)
        if attempt is not None:
            attempt.peer = attempt.peer or peer
            if insist and now.monotonic >= attempt.asked_at + self._limits.handshake_retry_s:
                self._ask_now(attempt, now)
            return True
        if len(self._by_address) >= self._limits.attempts_max:
            return False
        attempt = Attempt(address, self._entropy(HANDSHAKE_NONCE_BYTES), peer)
        self._by_address[address] = attempt
        self._by_nonce[attempt.nonce] = attempt
        if expected:
            attempt.asked_at = now.monotonic
            self._arm(attempt, now.monotonic + self._limits.handshake_retry_s)
        else:
            self._try(attempt, now)
        return True

    def proceed(self, attempt: Attempt, entry: Entry, connect_head: bytes, now: Now) -> None:
        """A cookie came, and with it the session to be: connect."""
        if attempt.asked == 1:  # else nobody knows which question it answers (Karn)
            self._measured(attempt, now.monotonic - attempt.asked_at)
        attempt.entry = entry
        entry.attempt = attempt
        attempt.connect_head = connect_head
        if not attempt.answered:  # once: who only ever makes cookies is given up too
            attempt.answered = True
            attempt.tries = attempt.asked = attempt.hurries = 0
        self._try(attempt, now)

    def end(self, attempt: Attempt) -> None:
        del self._by_address[attempt.address]
        del self._by_nonce[attempt.nonce]
        attempt.wake_at = inf  # its timer finds nothing to do
        if attempt.entry is not None and attempt.entry.peer is None:
            self._abandon(attempt.entry)
        if attempt.early:
            self._give_back(attempt)

    def end_of(self, peer: ReplicaId) -> None:
        """End what was started for this peer."""
        for attempt in [attempt for attempt in self._by_address.values() if attempt.peer == peer]:
            self.end(attempt)

    def end_all(self) -> None:
        """End every attempt: what was begun with another key of ours leads nowhere."""
        for attempt in list(self._by_address.values()):
            self.end(attempt)

    @property
    def deadline(self) -> float:
        timers = self._timers
        while timers and timers[0][0] != timers[0][2].wake_at:  # ended or moved meanwhile
            heappop(timers)
        return timers[0][0] if timers else inf

    def tick(self, now: Now) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now.monotonic:
            wake_at, _, attempt = heappop(timers)
            if wake_at == attempt.wake_at:
                self._try(attempt, now)

    def _try(self, attempt: Attempt, now: Now) -> None:
        limits = self._limits
        if attempt.tries >= limits.handshake_tries:
            self._give_up(attempt)
            return
        if attempt.connects >= limits.connects_before_init:
            self._start_over(attempt)
        attempt.connects += attempt.entry is not None
        self._arm(attempt, now.monotonic + self._next_wait(attempt) * self._rng.uniform(0.75, 1.25))
        self._ask_now(attempt, now)

    def _next_wait(self, attempt: Attempt) -> float:
        retry = self._limits.handshake_retry_s
        if self._round_trips is not None and attempt.hurries < HURRIES:
            wait = max(HURRY_SECONDS_MIN, self._round_trips.patience) * 2.0**attempt.hurries
            if wait < retry:
                attempt.hurries += 1
                return wait
        attempt.tries += 1
        return retry * 2.0 ** (attempt.tries - 1)

    def _ask_now(self, attempt: Attempt, now: Now) -> None:
        attempt.asked += 1
        attempt.asked_at = now.monotonic
        self._ask(attempt)

    def _arm(self, attempt: Attempt, wake_at: float) -> None:
        attempt.wake_at = wake_at
        self._timer_count += 1  # two attempts may wake at once; they are never compared
        heappush(self._timers, (wake_at, self._timer_count, attempt))

    def _measured(self, attempt: Attempt, round_trip: float) -> None:
        attempt.round_trip = round_trip
        if self._round_trips is None:
            self._round_trips = Estimate(round_trip)
        else:
            self._round_trips.add(round_trip)

    def _start_over(self, attempt: Attempt) -> None:
        """Nobody answers this cookie: it may be of a start of the peer that ended meanwhile."""
        if attempt.entry is not None:
            self._abandon(attempt.entry)
            attempt.entry = None
        attempt.connects = 0
        attempt.sealed = b""
        del self._by_nonce[attempt.nonce]
        attempt.nonce = self._entropy(HANDSHAKE_NONCE_BYTES)
        self._by_nonce[attempt.nonce] = attempt
