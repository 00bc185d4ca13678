"""The simulated network: what happens to one datagram between two hosts.

A link is directed, so that asymmetric faults are the normal case and symmetric ones set two links. Whatever is lost is counted
by reason; a run that never lost anything for the reason that it was meant to test is seen in these counts.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from mesh.testing.clock import SECOND
from mesh.testing.delay import Delay, Fixed

IP_UDP_BYTES: Final = 28
"""IPv4 and UDP headers: counted against bandwidth and MTU."""

LAN_DELAY: Final = Fixed(500)
"""0.5 ms: a wired LAN with a loaded switch (guess)."""
MTU: Final = 1_500
"""Ethernet and Wi-Fi."""


@dataclass(frozen=True, slots=True)
class Link:
    """One direction between two hosts. Shares are probabilities per datagram."""

    delay: Delay = LAN_DELAY
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Share of datagrams held back by `reorder_delay`, so that later ones overtake them."""
    reorder_delay: int = 20_000
    mtu: int = MTU
    """Larger datagrams vanish in silence, as in a black hole of path MTU discovery."""
    bandwidth: int | None = None
    """Bytes per second, headers included."""
    queue: int = 64 * 1024
    """Bytes that wait for a link with a bandwidth; more are dropped (tail drop)."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Nothing passes from `sources` to `targets`."""

    sources: frozenset[int]
    targets: frozenset[int]


@dataclass(slots=True)
class Network:
    """Decides the fate of datagrams. Hosts are numbers; `World` knows their addresses."""

    rng: random.Random
    default: Link = field(default_factory=Link)
    links: dict[tuple[int, int], Link] = field(default_factory=dict)
    """Overrides by (source, target)."""
    cuts: list[Cut] = field(default_factory=list)
    delivered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    duplicated: int = 0
    reordered: int = 0
    waited: int = 0
    """Datagrams that had to wait for a link of limited bandwidth."""
    largest: int = 0
    """Bytes of the largest datagram offered."""
    drained_at: int = 0
    """Microseconds: when the last datagram that waits for such a link will have left it, whatever the link has become since."""
    _free_at: dict[tuple[int, int], int] = field(default_factory=dict)

    def cut(self, sources: Iterable[int], targets: Iterable[int], *, both_ways: bool = True) -> list[Cut]:
        """Returns what `mend` takes to undo exactly this. Cuts add up."""
        left, right = frozenset(sources), frozenset(targets)
        made = [Cut(left, right)]
        if both_ways:
            made.append(Cut(right, left))
        self.cuts += made
        return made

    def mend(self, cuts: Iterable[Cut]) -> None:
        gone = list(cuts)
        self.cuts = [cut for cut in self.cuts if not any(cut is other for other in gone)]

    def heal(self) -> None:
        """Every cut is over; links keep their properties."""
        self.cuts.clear()

    def set_links(self, sources: Iterable[int], targets: Iterable[int], link: Link | None) -> None:
        """Give every directed pair its own link, or (None) the default again."""
        right = list(targets)
        for source in sources:
            for target in right:
                if source == target:
                    continue
                if link is None:
                    self.links.pop((source, target), None)
                else:
                    self.links[source, target] = link

    @property
    def is_disturbed(self) -> bool:
        """Something is cut, or some link is not as the others."""
        return bool(self.cuts or self.links)

    def connected(self, source: int, target: int) -> bool:
        return not any(source in cut.sources and target in cut.targets for cut in self.cuts)

    def carry(self, time: int, source: int, target: int, size: int) -> tuple[int, ...]:
        """World times at which copies of one datagram arrive: none, one or two."""
        if size > self.largest:
            self.largest = size
        for cut in self.cuts:
            if source in cut.sources and target in cut.targets:
                self.dropped["cut"] += 1
                return ()
        link = self.links.get((source, target)) if self.links else None
        if link is None:
            link = self.default
        if size + IP_UDP_BYTES > link.mtu:
            self.dropped["mtu"] += 1
            return ()
        uniform = self.rng.random
        if link.bandwidth is not None:
            sent_at = self._transmit(time, source, target, size + IP_UDP_BYTES, link.bandwidth, link.queue)
            if sent_at is None:
                self.dropped["queue"] += 1
                return ()
            time = sent_at
        if link.loss and uniform() < link.loss:
            self.dropped["loss"] += 1
            return ()
        arrival = time + link.delay.draw(uniform, source, target)
        if link.reorder and uniform() < link.reorder:
            self.reordered += 1
            arrival += link.reorder_delay
        self.delivered += 1
        if link.duplicate and uniform() < link.duplicate:
            self.duplicated += 1
            return (arrival, time + link.delay.draw(uniform, source, target) + link.reorder_delay)
        return (arrival,)

    def _transmit(self, time: int, source: int, target: int, size: int, bandwidth: int, queue: int) -> int | None:
        """When the last bit leaves a link of limited bandwidth; None when its queue is full."""
        free_at = max(time, self._free_at.get((source, target), 0))
        if (free_at - time) * bandwidth > queue * SECOND:
            return None
        self.waited += free_at > time
        sent_at = free_at + size * SECOND // bandwidth
        self._free_at[source, target] = sent_at
        self.drained_at = max(self.drained_at, sent_at)
        return sent_at

    @contextmanager
    def during(self, sources: Iterable[int], targets: Iterable[int]) -> Iterator[None]:
        """A cut for the length of a `with` block."""
        cuts = self.cut(sources, targets)
        try:
            yield
        finally:
            self.mend(cuts)
