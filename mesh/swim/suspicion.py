"""How long an accused member may stay silent (Lifeguard, LHA-Suspicion).

    timeout(c) = max(low, high - (high - low) * log(c + 1) / log(K + 1))        c: accusers beyond the first

One accuser alone may be the one who is ill, so its word is given `high`; each further, independent accuser brings the time down,
logarithmically, to `low`. Counted is *silence*: from the first accusation or from the last authenticated word of the accused to
us, whichever is later. When the time is over the member is buried if enough accuse it: two where more than three live, so that no
single liar or blind member can bury anybody; one in smaller meshes, where there need not be a second.

Not in Lifeguard: whoever was suspected and spoke up lately (it stalls now and then, or its radio does) gets half as much time
again, and twice the time after a second one, for a while (`Credit`).
"""

from __future__ import annotations

from functools import lru_cache
from math import inf, log, log10
from typing import Final

from mesh.swim.claims import Reason
from mesh.swim.config import SwimConfig

SMALL_MESH: Final = 3
"""Members up to which one accuser is enough."""
CREDIT_FOR_ONE: Final = 0.5
CREDIT_MAX: Final = 1.0
CREDIT_FADES_PER_SECOND: Final = 1 / 120
"""All guesses: a member that stalls every 10 s keeps double time, one that stalled once is as all others after a minute."""
REFUSALS_NEEDED: Final = 2
"""Members told that nobody listens at the suspect's address before that hastens anything (one in a small mesh)."""


def accusers_needed(members: int) -> int:
    """`members`: living ones, the accused and oneself included."""
    return 1 if members <= SMALL_MESH else 2


@lru_cache(maxsize=1024)
def timeout(config: SwimConfig, members: int, accusers: int, refusals: int) -> float:
    """Seconds of silence after which a member with so many accusers is given up.

    Rounded to milliseconds, so that the last bit of the C library's logarithm never decides.
    """
    if refusals >= min(REFUSALS_NEEDED, accusers_needed(members)):
        return config.suspicion_refused_seconds
    # News takes log(n) hops; up to 100 members that hides in the minimum (guess; memberlist scales from 10 on).
    scale = max(1.0, log10(max(members, 1)) / 2)
    low, high = config.suspicion_min_seconds * scale, config.suspicion_max_seconds * scale
    wanted = min(config.confirmations, members - 2)  # neither the accused nor the first accuser confirms
    if wanted <= 0:
        return round(low, 3)
    share = log(min(accusers - 1, wanted) + 1) / log(wanted + 1)
    return round(max(low, high - (high - low) * share), 3)


class Credit:
    """Patience with a member that was suspected wrongly lately."""

    __slots__ = ("_amount", "_at")

    def __init__(self) -> None:
        self._amount = 0.0
        self._at = 0.0

    def factor(self, now: float) -> float:
        """1 to 2: what its time is multiplied by."""
        return 1.0 + max(0.0, self._amount - (now - self._at) * CREDIT_FADES_PER_SECOND)

    def spoke_up(self, now: float) -> None:
        self._amount = min(CREDIT_MAX, self.factor(now) - 1.0 + CREDIT_FOR_ONE)
        self._at = now


class Suspicion:
    """The clock of one accused member."""

    __slots__ = ("asked", "not_before", "patience", "reasons", "since")

    def __init__(self, since: float, patience: float = 1.0) -> None:
        self.since = since
        """Monotonic seconds of the first accusation."""
        self.patience = patience
        """From `Credit`."""
        self.reasons: dict[bytes, Reason] = {}
        """By accuser."""
        self.not_before = -inf
        """Monotonic seconds: after this process stood still, what came meanwhile must be read first."""
        self.asked = 0
        """How often we asked it ourselves, with the end near."""

    def ends_at(self, config: SwimConfig, members: int, heard: float) -> float:
        """Monotonic seconds. `heard`: when the accused itself was last heard; minus infinity for never."""
        if not self.reasons:
            return inf
        refusals = sum(reason is Reason.REFUSED for reason in self.reasons.values())
        ends_at = max(self.since, heard) + self.patience * timeout(config, members, len(self.reasons), refusals)
        return max(ends_at, self.not_before)
