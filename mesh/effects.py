"""What the pure core is told and what it asks for.

The peer core never touches a socket, a clock or a disk. It is given a `Now` with every call and returns effects; the driver in
`mesh.net` and the simulator are two short loops over the same effects.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

Address: TypeAlias = tuple[str, int]
"""(numeric host, port)."""
REST_SECONDS: Final = 0.25
"""How long both loops let the rest of a turn wait after what came in was told. What came is in memory meanwhile, and at whoever
sent it. Nearly the probe interval of `lan`: by then most agents have woken up for something else, so this costs few wake-ups
of its own (with 0.1 s and ten writes a second, half of the deliveries had one, during the deliveries of the next write).
"""


COURTESY_SECONDS: Final = 0.01
"""By how much news puts off a probe of one's own that is due so soon, within its round: all by as much, so that they do not speak
at once. Of 32 agents that share two processors, one has its probe due in the time that a write takes to reach the others, and
the question and its answer wake up three. Measured: about as long as that takes.
"""


@final
class Now:
    """Both clocks, read once per call. Timers use `monotonic`; only write times, expiry and clock checks see `wall`."""

    __slots__ = ("monotonic", "wall")

    def __init__(self, monotonic: float, wall: int) -> None:
        self.monotonic = monotonic
        """Seconds, from an arbitrary start, never falling."""
        self.wall = wall
        """Microseconds since 1970, as this machine believes."""

    def __repr__(self) -> str:
        return f"Now({self.monotonic}, {self.wall})"


@final
class Transmit:
    """Send this datagram. It may be lost; nothing waits for it."""

    __slots__ = ("address", "datagram")

    def __init__(self, address: Address, datagram: bytes) -> None:
        self.address = address
        self.datagram = datagram
