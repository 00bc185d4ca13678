"""Receiver-paced flow: how much a replica lets others send it at once.

Everything asked for is entered here with an estimate of the bytes that will come. New requests wait while the
estimates in flight fill the window; answers widen it, a missing answer halves it (AIMD, as RFC 5681 section 3.1 with
bytes for segments). So a newcomer is filled as fast as its own socket and link allow, and live traffic keeps its
place in the buffers.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

from crdt.ids import ReplicaId

WINDOW_START_BYTES: Final = 16 * 1024
"""As RFC 6928's initial window of ten segments, about."""
WINDOW_MIN_BYTES: Final = 4 * 1024
"""Below this a single listing page would not be asked for."""
WINDOW_MAX_BYTES: Final = 96 * 1024
"""A default Linux receive buffer (212,992 bytes) holds about 90 full datagrams with their overhead: stay below it.
Measured.
"""
SEGMENT_BYTES: Final = 1200

Token: TypeAlias = tuple[Any, ...]


class Request(NamedTuple):
    peer: ReplicaId
    estimate_bytes: int
    deadline: float


class Window:
    """Requests in flight, by a token of the caller's choice."""

    def __init__(self, limit_bytes: int = WINDOW_MAX_BYTES) -> None:
        self._limit = limit_bytes
        self._size = float(min(WINDOW_START_BYTES, limit_bytes))
        self._threshold = float(limit_bytes)
        self._in_flight: dict[Token, Request] = {}
        self.bytes = 0
        """In flight."""
        self._calm_until = -inf

    @property
    def has_room(self) -> bool:
        return self.bytes < self._size

    def __contains__(self, token: Token) -> bool:
        return token in self._in_flight

    def __len__(self) -> int:
        return len(self._in_flight)

    def open(self, token: Token, request: Request) -> None:
        self.forget(token)
        self._in_flight[token] = request
        self.bytes += request.estimate_bytes

    def forget(self, token: Token) -> Request | None:
        """Out of flight without a word about the link: answered in another way, or not wanted any more."""
        request = self._in_flight.pop(token, None)
        if request:
            self.bytes -= request.estimate_bytes
        return request

    def answered(self, token: Token) -> bool:
        """An answer came: slow start below the threshold, then one segment a window."""
        request = self.forget(token)
        if not request:
            return False
        grown = request.estimate_bytes if self._size < self._threshold else SEGMENT_BYTES * request.estimate_bytes / self._size
        self._size = min(self._size + grown, self._limit)
        return True

    def expired(self, now: float) -> list[Token]:
        """Tokens whose answer did not come in time, taken out of flight; the window halves, once per round trip."""
        late = [token for token, request in self._in_flight.items() if request.deadline <= now]
        longest = 0.0
        for token in late:
            request = self.forget(token)
            if request:
                longest = max(longest, now - request.deadline)
        if late and now >= self._calm_until:
            self._threshold = self._size = max(self._size / 2, WINDOW_MIN_BYTES)
            self._calm_until = now + longest + 0.1
        return late

    @property
    def deadline(self) -> float:
        return min((request.deadline for request in self._in_flight.values()), default=inf)


class Windows:
    """One window for every peer, so that who answers slowly, or never, takes nothing from the others; and a limit for all of
    them together, since one socket buffer takes all answers.
    """

    def __init__(self, limit_bytes: int = WINDOW_MAX_BYTES) -> None:
        self._limit = limit_bytes
        self._windows: dict[ReplicaId, Window] = {}
        self._asked: dict[Token, Request] = {}
        self._bytes = 0

    @property
    def has_any_room(self) -> bool:
        return self._bytes < self._limit

    def has_room(self, peer: ReplicaId) -> bool:
        window = self._windows.get(peer)
        return self._bytes < self._limit and (window is None or window.has_room)

    def in_flight(self, peer: ReplicaId) -> int:
        """Bytes asked of this peer, and not answered yet."""
        window = self._windows.get(peer)
        return window.bytes if window is not None else 0

    def __contains__(self, token: Token) -> bool:
        return token in self._asked

    def open(self, token: Token, request: Request) -> None:
        self.forget(token)
        self._asked[token] = request
        self._bytes += request.estimate_bytes
        window = self._windows.get(request.peer)
        if window is None:
            window = self._windows[request.peer] = Window(self._limit)
        window.open(token, request)

    def forget(self, token: Token) -> None:
        window = self._out_of_flight(token)
        if window is not None:
            window.forget(token)

    def answered(self, token: Token) -> None:
        window = self._out_of_flight(token)
        if window is not None:
            window.answered(token)

    def expired(self, now: float) -> list[tuple[Token, ReplicaId]]:
        """Tokens whose answer did not come in time, and who was asked."""
        if self.deadline > now:
            return []
        late = [(token, peer) for peer, window in self._windows.items() for token in window.expired(now)]
        for token, _ in late:
            self._out_of_flight(token)
        return late

    def lost(self, peer: ReplicaId) -> None:
        """It is gone, and starts anew when it returns. The caller has forgotten what was in flight."""
        window = self._windows.get(peer)
        if window is not None and not len(window):
            del self._windows[peer]

    @property
    def deadline(self) -> float:
        return min((request.deadline for request in self._asked.values()), default=inf)

    def _out_of_flight(self, token: Token) -> Window | None:
        request = self._asked.pop(token, None)
        if request is None:
            return None
        self._bytes -= request.estimate_bytes
        return self._windows[request.peer]
