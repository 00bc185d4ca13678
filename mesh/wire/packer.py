"""Frames into datagrams: lanes, shares, budgets.

A peer's frames wait in an outbox, one queue for each lane. What fits the peer's byte budget goes at once, lanes in order of
priority, frames in the order they came. When more waits than the budget allows, every lane that waits first gets its guaranteed
share, counted over time, then the rest goes by priority; inside a lane the newest goes first, because old state is what a newer
one replaces and what anti-entropy brings anyway. A queue is bounded in bytes and loses its oldest.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from mesh.wire.frames import Lane
from mesh.wire.session import DATA_OVERHEAD_BYTES

DATAGRAM_BYTES_MAX: Final = 1200
"""Sealed. Fits every path of the IPv6 minimum MTU of 1,280 with headers to spare; QUIC's figure (RFC 9000 section 14)."""
FRAME_HEAD_BYTES: Final = 3
PLAIN_BYTES_MAX: Final = DATAGRAM_BYTES_MAX - DATA_OVERHEAD_BYTES
"""What a datagram carries: frames with their heads."""
FRAME_BYTES_MAX: Final = PLAIN_BYTES_MAX - FRAME_HEAD_BYTES
"""The largest payload of a frame."""

SHARES: Final = (0.2, 0.2, 0.2, 0.1)
"""Of the bytes, guaranteed to each lane while it waits; what is left over goes by priority. (Guess.)"""
_CREDIT_MAX: Final = 2 * FRAME_BYTES_MAX
"""What a lane may save up of its share: enough for its largest frame, not for a burst that delays the others."""
_ROUNDING_S: Final = 1e-6
"""On top of a wait, or a bucket that is asked at that very moment is a rounding error short, and asked again, for ever."""
_LANES: Final = tuple(int(lane) for lane in Lane)
_HEAD: Final = struct.Struct(">BH")


def encode_frame(kind: int, payload: bytes) -> bytes:
    return _HEAD.pack(kind, len(payload)) + payload


def frames_untrusted(plain: bytes) -> list[tuple[int, bytes]] | None:
    """(kind, payload) of each frame, or None when the lengths do not add up."""
    frames = []
    at, end = 0, len(plain)
    while at < end:
        start = at + FRAME_HEAD_BYTES
        if start > end:
            return None
        kind, at = plain[at], start + (plain[at + 1] << 8 | plain[at + 2])
        frames.append((kind, plain[start:at]))
    return frames if at == end else None


class TokenBucket:
    """Allows `rate` units a second, and `burst` at once."""

    __slots__ = ("_at", "burst", "rate", "tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self.tokens = burst
        self._at = 0.0

    def refill(self, now: float) -> float:
        """The tokens that are there now. Negative after an overdraft."""
        if now > self._at:
            self.tokens = min(self.burst, self.tokens + (now - self._at) * self.rate)
            self._at = now
        return self.tokens

    def take(self, now: float) -> bool:
        """One unit, if there is one."""
        if self.refill(now) < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def ready_at(self, tokens: float) -> float:
        """When there will be so many; call after `refill`."""
        return self._at + max(0.0, tokens - self.tokens) / self.rate + _ROUNDING_S


class Parcel:
    """Frames of one lane that one datagram holds: mostly all that waits for a peer. It never changes, so those to whom the same
    goes share it."""

    __slots__ = ("frames", "lane", "plain")

    def __init__(self, lane: int, frames: tuple[bytes, ...]) -> None:
        self.lane = lane
        self.frames = frames
        self.plain = frames[0] if len(frames) == 1 else b"".join(frames)


class Outbox:
    """What waits for one peer, where it is more than a parcel."""

    __slots__ = ("_credit", "_lane_bytes", "_queues", "size")

    size: int
    """Bytes waiting, frame heads included."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[bytes]] = {}
        self._lane_bytes: dict[int, int] = {}
        self._credit: dict[int, float] = {}
        self.size = 0

    def put(self, lane: int, frame: bytes, bytes_max: int) -> int:
        """Queues an encoded frame. Returns how many of the lane's oldest had to go to stay within `bytes_max`."""
        size = len(frame)
        self.size += size
        queue = self._queues.get(lane)
        if queue is None:
            self._queues[lane] = deque((frame,))
            self._lane_bytes[lane] = size
            return 0
        queue.append(frame)
        self._lane_bytes[lane] += size
        dropped = 0
        while self._lane_bytes[lane] > bytes_max and len(queue) > 1:
            self._forget(lane, queue.popleft())
            dropped += 1
        return dropped

    def clear(self) -> int:
        """Forgets everything. Returns how many frames."""
        dropped = sum(map(len, self._queues.values()))
        self._queues.clear()
        self._lane_bytes.clear()
        self.size = 0
        return dropped

    def take_all(self) -> list[bytes]:
        """Everything, lanes by priority, frames as they came."""
        queues, self._queues = self._queues, {}
        self._lane_bytes.clear()
        self.size = 0
        if len(queues) == 1:
            return list(*queues.values())
        return [frame for lane in sorted(queues) for frame in queues[lane]]

    def take_kinds(self, lane: int, kinds: Collection[int], room: int) -> list[bytes]:
        """Of one lane, the frames of these kinds up to the first for which there is no room."""
        taken: list[bytes] = []
        left: deque[bytes] = deque()
        queue = self._queues.get(lane)
        for frame in queue or ():
            if frame[0] in kinds:
                room -= len(frame)
                if room >= 0:
                    taken.append(frame)
                    self._forget(lane, frame)
                    continue
            left.append(frame)
        if queue:
            self._queues[lane] = left
        return taken

    def put_back(self, lane: int, frames: Sequence[bytes]) -> None:
        """In front of what came later."""
        self._queues[lane] = deque([*frames, *self._queues.get(lane, ())])
        size = sum(map(len, frames))
        self._lane_bytes[lane] = self._lane_bytes.get(lane, 0) + size
        self.size += size

    def take(self, room: int) -> list[bytes]:
        """At most `room` bytes of frames: shares first, then by priority, newest first. In the order to send them."""
        waiting = sorted(lane for lane, queue in self._queues.items() if queue)
        taken: list[list[bytes]] = [[] for _ in _LANES]
        for lane in waiting:
            self._credit[lane] = min(self._credit.get(lane, 0.0) + SHARES[lane] * room, _CREDIT_MAX)
        for lane in waiting:
            used = self._take_newest(lane, min(room, int(self._credit[lane])), taken[lane])
            self._credit[lane] -= used
            room -= used
        for lane in waiting:
            room -= self._take_newest(lane, room, taken[lane])
            if not self._queues[lane]:
                self._credit[lane] = 0.0  # a lane that does not wait saves nothing up
        return [frame for frames in taken for frame in reversed(frames)]

    def _take_newest(self, lane: int, room: int, into: list[bytes]) -> int:
        queue = self._queues[lane]
        used = 0
        while queue and used + len(queue[-1]) <= room:
            frame = queue.pop()
            self._forget(lane, frame)
            used += len(frame)
            into.append(frame)
        return used

    def _forget(self, lane: int, frame: bytes) -> None:
        self._lane_bytes[lane] -= len(frame)
        self.size -= len(frame)


def pack(frames: Iterable[bytes]) -> list[bytes]:
    """Encoded frames, in this order, as the plain contents of few datagrams."""
    datagrams: list[bytes] = []
    part: list[bytes] = []
    room = PLAIN_BYTES_MAX
    for frame in frames:
        if len(frame) > room:
            datagrams.append(b"".join(part))
            part = []
            room = PLAIN_BYTES_MAX
        part.append(frame)
        room -= len(frame)
    if part:
        datagrams.append(b"".join(part))
    return datagrams
