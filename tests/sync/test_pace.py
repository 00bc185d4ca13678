"""When digests are due: soon after news of a quiet mesh, rarely where deltas flow and nothing is lost."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from mesh.effects import Now
from mesh.presets import LAN
from mesh.sync.pace import QUIET_SHARE_MAX, Pace


def at(seconds: float) -> Now:
    return Now(seconds, int(seconds * 1e6))


def rested() -> tuple[Pace, float]:
    """In sync for long; and the time."""
    pace, now = Pace(LAN.sync, random.Random(1)), 100.0
    pace.begin_anew(at(now))
    for _ in range(10):
        now = pace.due
        pace.sent(at(now), alone=False, lossy=False)
    assert pace.due - now >= 0.75 * LAN.sync.digest_max_seconds
    return pace, now


def digests(pace: Pace, now: float, *, lossy: bool) -> list[float]:
    """The pauses between them in a minute of ten writes a second."""
    sent = [now]
    for _ in range(600):
        now += 0.1
        pace.news(at(now))
        if pace.due <= now:
            pace.sent(at(now), alone=False, lossy=lossy)
            sent.append(now)
    return [after - before for before, after in pairwise(sent)]


def test_news_after_a_quiet_time_hurries_a_digest() -> None:
    pace, now = rested()
    pace.news(at(now + 0.1))
    assert pace.due <= now + 0.1 + QUIET_SHARE_MAX * LAN.sync.digest_quiet_seconds


@pytest.mark.parametrize(("lossy", "pause"), [(True, LAN.sync.digest_quiet_seconds), (False, LAN.sync.digest_max_seconds / 2)])
def test_where_somebody_always_writes_digests_are_as_rare_as_losses_allow(lossy: bool, pause: float) -> None:
    """They were one a second, and with their answers a third of what a delivery cost an agent among 32."""
    pauses = digests(*rested(), lossy=lossy)[4:]
    assert all(0.7 * pause <= each <= 1.3 * pause + 0.1 for each in pauses)


def test_after_the_writes_the_next_news_hurries_again() -> None:
    pace, now = rested()
    digests(pace, now, lossy=False)
    now += 60.0
    for _ in range(3):
        now = max(now, pace.due)
        pace.sent(at(now), alone=False, lossy=False)
    pace.news(at(now + 0.1))
    assert pace.due <= now + 0.1 + QUIET_SHARE_MAX * LAN.sync.digest_quiet_seconds


def test_who_is_alone_sends_none_until_somebody_comes() -> None:
    pace, now = rested()
    pace.sent(at(now), alone=True, lossy=False)
    assert pace.due == float("inf")
    pace.begin_anew(at(now))
    assert pace.due == now + LAN.sync.digest_min_seconds
