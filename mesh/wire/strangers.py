"""How many keys that were never seen before may cost us a key agreement: all together, and from one place.

Whoever gets here has returned our cookie, so it can be reached where it says that it lives. One place may use half of the budget,
so that an attacker with one machine does not keep newcomers out; one with many machines slows them down, and their retries
get through by luck.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

from mesh.effects import Address
from mesh.wire.packer import TokenBucket

PLACES_MAX: Final = 256
"""Remembered at once, those heard last. Guess: 100 kB."""
SHARE_OF_ONE: Final = 0.5
"""Of the whole budget. Guess: a whole mesh may start on one machine."""
_NETWORK_BITS: Final = 64
"""Of an IPv6 address: one customer gets at least so much of it (RFC 6177)."""


class Strangers:
    def __init__(self, per_second: float, burst: float) -> None:
        self._all = TokenBucket(per_second, burst)
        self._places: OrderedDict[str | int, TokenBucket] = OrderedDict()

    def take(self, address: Address, now: float) -> bool:
        """Whether a stranger who lives there may cost us something now."""
        place = _place(address[0])
        bucket = self._places.get(place)
        if bucket is None:
            burst = max(1.0, self._all.burst * SHARE_OF_ONE)
            bucket = self._places[place] = TokenBucket(self._all.rate * SHARE_OF_ONE, burst)
            if len(self._places) > PLACES_MAX:
                self._places.popitem(last=False)
        self._places.move_to_end(place)
        return bucket.take(now) and self._all.take(now)


def _place(host: str) -> str | int:
    if ":" not in host:
        return host
    try:
        return int(ipaddress.IPv6Address(host)) >> (128 - _NETWORK_BITS)
    except ValueError:
        return host
