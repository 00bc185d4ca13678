"""Fates of datagrams: each fault does what it says and is counted."""

from __future__ import annotations

import hashlib
import random

import pytest

from mesh.testing import SECOND, Fixed, Link, LogNormal, Network, PerLink, Uniform
from mesh.testing.delay import _lognormal_quantiles


def network(link: Link) -> Network:
    return Network(random.Random(5), link)


def test_loss_duplication_and_reordering_have_their_shares() -> None:
    net = network(Link(delay=Fixed(100), loss=0.1, duplicate=0.2, reorder=0.3, reorder_delay=1_000))
    fates = [net.carry(0, 0, 1, 100) for _ in range(20_000)]
    lost = sum(not fate for fate in fates)
    assert lost == net.dropped["loss"] == pytest.approx(2_000, rel=0.1)
    assert sum(len(fate) == 2 for fate in fates) == net.duplicated == pytest.approx(3_600, rel=0.1)
    assert sum(bool(fate) and fate[0] == 1_100 for fate in fates) == net.reordered == pytest.approx(5_400, rel=0.1)


def test_a_cut_may_go_one_way_and_cuts_add_up() -> None:
    net = network(Link())
    one_way = net.cut({0}, {1}, both_ways=False)
    assert (bool(net.carry(0, 0, 1, 9)), bool(net.carry(0, 1, 0, 9))) == (False, True)
    both = net.cut({0, 1}, {2})
    assert not net.connected(2, 1)
    net.mend(one_way)
    assert net.connected(0, 1)
    assert not net.connected(0, 2)
    net.mend(both)
    assert net.connected(0, 2)
    with net.during({0}, {1, 2}):
        assert not net.connected(1, 0)
    assert net.connected(1, 0)
    net.cut({0}, {1})
    net.heal()
    assert net.carry(0, 0, 1, 9)
    assert net.dropped["cut"] == 1


def test_a_black_hole_swallows_what_is_too_large_with_its_headers() -> None:
    net = network(Link(mtu=1_000))
    assert net.carry(0, 0, 1, 972)
    assert not net.carry(0, 0, 1, 973)
    assert (net.dropped["mtu"], net.largest) == (1, 973)


def test_a_link_of_limited_bandwidth_delays_then_drops() -> None:
    net = network(Link(delay=Fixed(0), bandwidth=10_000, queue=3_000))
    arrivals = [net.carry(0, 0, 1, 972) for _ in range(8)]
    assert arrivals[:4] == [(100_000,), (200_000,), (300_000,), (400_000,)]
    assert arrivals[4:] == [()] * 4
    assert net.dropped["queue"] == 4
    assert net.carry(0, 1, 0, 972) == (100_000,), "the other direction is a link of its own"
    assert net.carry(SECOND, 0, 1, 972) == (SECOND + 100_000,), "the queue has run empty"


def test_links_can_be_set_by_direction_and_reset() -> None:
    net = network(Link(delay=Fixed(1)))
    net.set_links([0], [0, 1, 2], Link(delay=Fixed(9)))
    assert (net.carry(0, 0, 2, 1), net.carry(0, 2, 0, 1)) == ((9,), (1,))
    net.set_links([0], [2], None)
    assert net.carry(0, 0, 2, 1) == (1,)


def test_distributions() -> None:
    rng = random.Random(1).random
    assert {Uniform(3, 5).draw(rng, 0, 1) for _ in range(100)} == {3, 4, 5}
    per_link = PerLink(10_000, 50_000, seed=4)
    assert per_link.draw(rng, 3, 7) == per_link.draw(rng, 7, 3) == PerLink(10_000, 50_000, seed=4).draw(rng, 3, 7)
    assert len({per_link.draw(rng, 0, peer) for peer in range(1, 50)}) > 40
    draws = sorted(LogNormal(10_000, 0.5).draw(rng, 0, 1) for _ in range(20_000))
    assert draws[10_000] == pytest.approx(10_000, rel=0.03)
    assert draws[19_000] == pytest.approx(10_000 * 2.276, rel=0.05), "exp(1.645 * 0.5)"


def test_the_lognormal_table_is_the_same_everywhere() -> None:
    """A golden value: it may not depend on the machine's libm or the Python version."""
    assert hashlib.sha256(repr(_lognormal_quantiles(0.5)).encode()).hexdigest()[:16] == "e37a4afe9b854aed"
