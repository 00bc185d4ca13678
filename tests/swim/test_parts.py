"""The small parts, one by one: how long to wait, whom to probe, what to tell, how far away."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.errors import ConfigError
from mesh.events import Event
from mesh.presets import LAN, PRESETS, preset
from mesh.swim.claims import Accusation, Alive, Reason, Signed, seal
from mesh.swim.clock import PeerClocks
from mesh.swim.coordinates import COORDINATE_BYTES, ORIGIN, Coordinate, Coordinates, coordinate_untrusted
from mesh.swim.exchange import Exchange
from mesh.swim.health import LocalHealth
from mesh.swim.news import News, transmissions
from mesh.swim.order import PLACES, ROUNDS, STEPS, UNTOLD_TURNS, ProbeOrder, partner
from mesh.swim.quota import WRONG_BURST, Quota
from mesh.swim.roster import BUCKETS, Roster, State
from mesh.swim.roundtrip import RoundTrips
from mesh.swim.suspicion import Credit, Suspicion, accusers_needed, timeout
from mesh.wire.frames import Frame, Lane
from tests.swim.harness import fake_signature, replica

SWIM = LAN.swim
LOW, HIGH = SWIM.suspicion_min_seconds, SWIM.suspicion_max_seconds


# ---- suspicion (Lifeguard: LHA-Suspicion)


def test_one_accuser_gets_the_longest_time_and_k_confirmations_the_shortest() -> None:
    times = [timeout(SWIM, 64, accusers, 0) for accusers in range(1, 7)]
    assert times[0] == HIGH
    assert times[SWIM.confirmations] == times[-1] == LOW
    assert times == sorted(times, reverse=True)


def test_the_first_confirmation_counts_most() -> None:
    first, second, third = (timeout(SWIM, 64, count, 0) - timeout(SWIM, 64, count + 1, 0) for count in (1, 2, 3))
    assert first > second > third > 0


def test_where_nobody_can_confirm_the_time_is_short_at_once() -> None:
    assert timeout(SWIM, 2, 1, 0) == LOW


def test_two_accusers_are_needed_where_more_than_three_live() -> None:
    assert [accusers_needed(members) for members in (1, 2, 3, 4, 64)] == [1, 1, 1, 2, 2]


def test_two_refusals_hasten_and_one_does_not() -> None:
    assert timeout(SWIM, 64, 2, 1) > LOW
    assert timeout(SWIM, 64, 2, 2) == SWIM.suspicion_refused_seconds
    assert timeout(SWIM, 2, 1, 1) == SWIM.suspicion_refused_seconds


def test_larger_meshes_are_given_time_for_more_hops() -> None:
    assert timeout(SWIM, 100, 4, 0) == LOW < timeout(SWIM, 1_000, 4, 0) < timeout(SWIM, 10_000, 4, 0) <= 2 * LOW


def test_silence_counts_from_the_last_word_of_the_accused() -> None:
    suspicion = Suspicion(since=10.0)
    assert suspicion.ends_at(SWIM, 64, heard=-inf) == inf  # nobody accuses
    suspicion.reasons = dict.fromkeys((b"a", b"b", b"c", b"d"), Reason.SILENT)
    assert suspicion.ends_at(SWIM, 64, heard=5.0) == 10.0 + LOW
    assert suspicion.ends_at(SWIM, 64, heard=10.5) == 10.5 + LOW


def test_whoever_was_suspected_wrongly_lately_gets_more_time() -> None:
    credit = Credit()
    assert credit.factor(100.0) == 1.0
    credit.spoke_up(100.0)
    assert credit.factor(100.0) == 1.5
    credit.spoke_up(110.0)
    credit.spoke_up(120.0)
    assert credit.factor(120.0) == 2.0  # and no more
    assert 1.4 < credit.factor(180.0) < 1.6
    assert credit.factor(1_000.0) == 1.0
    accused = Suspicion(since=10.0, patience=1.5)
    accused.reasons = dict.fromkeys((b"a", b"b", b"c", b"d"), Reason.SILENT)
    assert accused.ends_at(SWIM, 64, heard=0.0) == 10.0 + 1.5 * LOW


# ---- local health (Lifeguard: LHA-Probe)


def test_health_stays_between_its_limits() -> None:
    health = LocalHealth(8)
    health.better()
    assert health.factor == 1
    health.worse(20)
    assert health.factor == 8
    for _ in range(3):
        health.better()
    assert health.factor == 5


# ---- the order of probes


@given(members=st.integers(2, 120), cycle=st.integers(0, 300))
def test_in_a_cycle_everybody_meets_everybody_once(members: int, cycle: int) -> None:
    circle = members - 1 + members % 2
    for place in {0, members // 2, members - 1}:
        met = [partner(cycle * circle + step, place, members) for step in range(circle)]
        assert met.count(None) == members % 2, "left over once, where the number is odd"
        assert sorted(each for each in met if each is not None) == [other for other in range(members) if other != place]


@given(members=st.integers(1, 120), number=st.integers(0, ROUNDS - 1))
def test_a_round_is_made_of_pairs(members: int, number: int) -> None:
    met = [partner(number, place, members) for place in range(members)]
    assert all(other is None or met[other] == place for place, other in enumerate(met))
    assert met.count(None) == members % 2


def in_round(me: ReplicaId, seed: int = 1, *, place: int = 0) -> ProbeOrder:
    """One that was told a round at time 0."""
    order = ProbeOrder(me, 0.25, random.Random(seed))
    order.heard(place, 0.0)
    return order


def test_partners_agree_about_each_other_from_their_own_lists() -> None:
    members = sorted(replica(number) for number in range(13))
    orders = {member: in_round(member) for member in members}
    for step in range(30):
        now = 0.25 * step + 0.1
        met = {me: order.partner([other for other in members if other != me], now) for me, order in orders.items()}
        assert all(other is None or met[other] == me for me, other in met.items())
        assert sum(other is None for other in met.values()) == 1


def test_a_probe_comes_at_any_time_of_the_next_round() -> None:
    order = in_round(replica(0))
    moments = [order.moment(10.1) - order.round_began(10.1) for _ in range(200)]
    assert all(0.25 <= moment <= 0.5 for moment in moments)
    assert min(moments) < 0.26
    assert max(moments) > 0.49


def test_members_that_hear_each_other_come_to_be_in_step() -> None:
    """Rounds only followed whoever named a later one, wherever in its round that one was: agents that had just started were a
    third of a round apart for half a minute, pairs did not match, and a crash waited for luck: one of 64 processes for 1.9 s."""
    rng = random.Random(1)
    orders = [in_round(replica(number), number, place=rng.randrange(PLACES // 2)) for number in range(16)]
    now = 100.0
    for turn in range(20 * len(orders)):  # each is told twenty times: in five seconds
        now += 0.25 / len(orders)
        listener = orders[turn % len(orders)]
        place = rng.choice(orders).place(now)
        assert place is not None
        listener.heard(place, now)
    places = [order.place(now) or 0 for order in orders]
    assert max(places) - min(places) <= 2


def test_who_starts_drags_nobody_along() -> None:
    """A start began with a round drawn by lot, which was ahead of the mesh's in half of all cases: then the mesh followed, and
    for seconds pairs did not match."""
    newcomer, member = ProbeOrder(replica(1), 0.25, random.Random(1)), in_round(replica(2), place=1000 * STEPS)
    assert newcomer.place(5.0) is None
    assert newcomer.partner([replica(2)], 5.0) is None, "but it probes in an order of its own"
    assert newcomer.next([replica(2)], 5.0) == (None, replica(2))
    place = member.place(5.0)
    assert place is not None
    newcomer.heard(place, 5.0)
    assert newcomer.round(5.0) == member.round(5.0) == 1020
    assert newcomer.partner([replica(2)], 5.0) == replica(2)


def test_where_all_have_just_started_their_clocks_say_where_to_begin() -> None:
    orders = [ProbeOrder(replica(number), 0.25, random.Random(number)) for number in range(3)]
    for order, monotonic in zip(orders, (1.0, 500.0, 7e6), strict=True):
        for turn in range(UNTOLD_TURNS):
            assert order.place(monotonic) is None
            order.begin(Now(monotonic, 1_700_000_000_123_456 + turn * 10), [replica(9)])
        assert order.round(monotonic) == 1_700_000_000_123_456 // 250_000 % ROUNDS
        place = order.place(monotonic)
        order.begin(Now(monotonic, 0), [replica(9)])
        assert order.place(monotonic) == place, "once"


def test_a_liar_about_rounds_keeps_nobody_from_being_probed() -> None:
    """Whatever rounds others name, each member still comes up in one's own shuffled order."""
    order = in_round(replica(0))
    living = sorted(replica(number) for number in range(1, 9))
    now, probed = 0.0, Counter[ReplicaId]()
    for _ in range(400):
        now += 0.25
        order.heard((order.round(now) // 8 + 1) * 8 * STEPS, now)  # always the same place in the cycle
        for target in order.next(living, now):
            if target is not None:
                probed[target] += 1
    assert set(probed) == set(living)
    assert min(probed.values()) >= 5


def test_nobody_to_probe() -> None:
    assert ProbeOrder(replica(0), 0.25, random.Random(1)).next([], 1.0) == (None, None)


# ---- news


class Outbox:
    """A Port that remembers."""

    def __init__(self) -> None:
        self.sent: list[tuple[ReplicaId, bytes]] = []

    def send(self, peer: ReplicaId, lane: Lane, kind: Frame, payload: bytes) -> None:
        self.sent.append((peer, payload))

    def send_all(self, peers: Sequence[ReplicaId], lane: Lane, kind: Frame, payload: bytes) -> None:
        for peer in peers:
            self.send(peer, lane, kind, payload)

    def contact(self, address: tuple[str, int]) -> None:
        raise AssertionError("news contacts nobody")

    def notify(self, event: Event) -> None:
        raise AssertionError("news tells the user nothing")


def accusation(subject: int, accuser: int, incarnation: int = 1) -> Signed:
    claim = Accusation(replica(subject), incarnation, replica(accuser), 1, Reason.SILENT)
    return seal(claim, lambda purpose, payload: fake_signature(replica(accuser), purpose, payload))


def alive(subject: int, incarnation: int = 1) -> Signed:
    claim = Alive(replica(subject), incarnation, 7, ("10.0.0.1", 1), "", b"", b"")
    return seal(claim, lambda purpose, payload: fake_signature(replica(subject), purpose, payload))


def new_news() -> tuple[News, Outbox]:
    outbox = Outbox()
    return News(SWIM, outbox, random.Random(1)), outbox


def test_news_is_pushed_at_once_and_rides_along_until_it_was_sent_often_enough() -> None:
    news, outbox = new_news()
    members = [replica(number) for number in range(1, 33)]
    news.add(alive(40), 3)
    assert news.push_at < 1.0
    news.push(members, 1.0)
    assert len({peer for peer, _ in outbox.sent}) == 3
    assert news.push_at == inf
    for _ in range(50):
        news.ride_along(members[0], 33)
    assert len(outbox.sent) == transmissions(SWIM.retransmit_factor, 33)
    assert len(news) == 0


def test_what_was_sent_least_goes_first_and_of_that_the_newest() -> None:
    news, outbox = new_news()
    claims = [accusation(number, 99) for number in range(10)]
    for claim in claims:
        news.add(claim, 0)
    news.ride_along(replica(50), 33)
    first = [payload for _, payload in outbox.sent]
    assert 2 <= len(first) < 10  # bounded by the room in one datagram
    assert set(first) == {claim.raw for claim in claims[-len(first) :]}
    outbox.sent.clear()
    news.ride_along(replica(51), 33)
    assert not {payload for _, payload in outbox.sent} & set(first)


def test_a_word_of_the_subject_ends_the_accusations_on_their_way() -> None:
    news, outbox = new_news()
    news.add(accusation(5, 1), 3)
    news.add(accusation(5, 2), 0)
    news.add(alive(5, incarnation=2), 0)
    for _ in range(20):
        news.ride_along(replica(50), 33)
    assert {payload for _, payload in outbox.sent} == {alive(5, incarnation=2).raw}


def test_what_everybody_lists_is_told_no_more_but_accusations_are() -> None:
    news, outbox = new_news()
    news.add(alive(5), 3)
    news.add(alive(6), 0)
    news.add(accusation(7, 1), 0)
    news.forget_what_is_listed()
    assert len(news) == 1
    assert news.push_at == inf
    news.ride_along(replica(50), 33)
    assert [payload for _, payload in outbox.sent] == [accusation(7, 1).raw]


def test_a_flood_of_news_is_pushed_in_pieces() -> None:
    news, outbox = new_news()
    for number in range(300):
        news.add(alive(number), 3)
    news.push([replica(number) for number in range(400, 410)], 1.0)
    sent = Counter(peer for peer, _ in outbox.sent)
    assert len(sent) == 3
    assert all(20 < count < 60 for count in sent.values())
    assert news.push_at == 1.0 + SWIM.push_spacing_seconds


# ---- quota


def test_an_accuser_that_is_always_wrong_is_heard_a_few_times() -> None:
    quota, heard = Quota(0.25), 0
    for second in range(60):
        if quota.allows(replica(1), float(second)):
            heard += 1
            quota.accused(replica(1), float(second))
            quota.was_wrong(replica(1), float(second))
    assert WRONG_BURST <= heard <= WRONG_BURST + 60 / 25 + 1


def test_an_accuser_that_is_right_may_accuse_at_the_pace_of_probes() -> None:
    quota = Quota(0.25)
    for step in range(400):
        assert quota.allows(replica(1), step * 0.25)
        quota.accused(replica(1), step * 0.25)


# ---- round trips, coordinates, clocks


def test_timeouts_follow_what_was_measured() -> None:
    trips = RoundTrips(0.05, 0.5)
    assert trips.timeout(replica(1)) == 0.5  # nothing is known
    for _ in range(20):
        trips.add(replica(1), 0.001)
        trips.add(replica(2), 0.1)
    assert trips.timeout(replica(1)) == 0.05
    assert 0.1 < trips.timeout(replica(2)) < 0.2
    assert trips.timeout(replica(3), guess=0.15) >= 0.3
    assert trips.measured(replica(9)) is None


def test_what_was_measured_while_everything_was_slow_does_not_last() -> None:
    """64 processes that started on two cores gave each other 0.15 to 0.5 s for an answer for a minute, since each pair measures
    itself three times in that: a silent death was noticed half a second later than by the timers."""
    trips, peers = RoundTrips(0.05, 0.5), [replica(number) for number in range(20)]
    for peer in peers:
        trips.add(peer, 0.15)  # once
    for _ in range(5):
        for peer in peers[:5]:
            trips.add(peer, 0.001)
    assert max(trips.timeout(peer) for peer in peers) < 0.06


def test_who_is_far_away_is_given_the_time_of_its_way() -> None:
    trips = RoundTrips(0.05, 0.5)
    near, far = [replica(number) for number in range(20)], replica(99)
    for _ in range(10):
        for peer in near:
            trips.add(peer, 0.001)
        trips.add(far, 0.2)
    for peer in near:
        trips.add(peer, 0.001)
    assert trips.timeout(near[0]) == 0.05
    assert 0.2 < trips.timeout(far) < 0.3


def test_coordinates_learn_to_predict_round_trips() -> None:
    """Twelve members in three places, 2 ms inside a place, 40 to 80 ms between them."""
    place = {number: number % 3 for number in range(12)}
    between = {(0, 1): 0.040, (0, 2): 0.080, (1, 2): 0.060}

    def round_trip(one: int, other: int) -> float:
        pair = (min(place[one], place[other]), max(place[one], place[other]))
        return between.get(pair, 0.002)

    rng = random.Random(3)
    members = [Coordinates(random.Random(number)) for number in range(12)]
    for _ in range(4_000):
        one, other = rng.sample(range(12), 2)
        noisy = round_trip(one, other) * rng.uniform(0.9, 1.3) + (0.2 if rng.random() < 0.05 else 0.0)
        members[one].update(replica(other), members[other].mine, noisy)
    errors = sorted(
        abs(members[one].mine.distance(members[other].mine) - round_trip(one, other)) / round_trip(one, other)
        for one in range(12)
        for other in range(12)
        if place[one] != place[other]
    )
    assert errors[len(errors) // 2] < 0.15
    near, far = members[0].mine.distance(members[3].mine), members[0].mine.distance(members[1].mine)
    assert near < far / 3


def test_coordinates_travel_and_nonsense_does_not() -> None:
    where = Coordinate((0.01, -0.02, 0.0, 0.25), 0.001, 0.5)
    read = coordinate_untrusted(where.to_bytes())
    assert read is not None
    assert read.distance(where) == pytest.approx(where.height * 2, abs=1e-3)
    for raw in (
        b"",
        bytes(COORDINATE_BYTES - 1),
        bytes.fromhex("7c00" * 6),
        bytes.fromhex("7e00" * 6),
        bytes.fromhex("6000" * 6),
    ):
        assert coordinate_untrusted(raw) is None


@settings(max_examples=200)
@given(st.binary(min_size=COORDINATE_BYTES, max_size=COORDINATE_BYTES), st.floats(1e-6, 10.0))
def test_no_coordinate_of_a_liar_throws_us_out_of_this_world(raw: bytes, round_trip: float) -> None:
    mine = Coordinates(random.Random(1))
    theirs = coordinate_untrusted(raw)
    for _ in range(20):
        if theirs is not None:
            mine.update(replica(1), theirs, round_trip)
    assert coordinate_untrusted(mine.mine.to_bytes()) is not None
    assert mine.mine.distance(ORIGIN) < 60


def test_the_clock_offset_is_a_median_that_one_liar_does_not_move() -> None:
    clocks, now = PeerClocks(), Now(7.0, 1_000_000)
    assert clocks.offset(now) is None
    for number, offset_us in enumerate((100, -200, 0, 10**15, 50)):
        clocks.add(replica(number), 1_000_000 + offset_us, now, 0.0)
    assert clocks.offset(now) == 50
    clocks.forget(replica(3))
    assert clocks.offset(now) == 0  # of the two in the middle, 0 and 50, the one nearer to ours


def test_one_right_clock_among_wrong_ones_outvotes_nobody_however_late_it_comes() -> None:
    """The short cut asks how far the widest is, not the last."""
    clocks, now = PeerClocks(), Now(7.0, 1_000_000)
    for number, offset_us in enumerate((10**12, -(10**12), 10**12, 0)):
        clocks.add(replica(number), 1_000_000 + offset_us, now, 0.0)
    assert clocks.outvoted(10**9, now) == 0
    assert clocks.outvoted(10**12, now) is None


def test_which_moments_are_of_one_round() -> None:
    order = ProbeOrder(replica(0), 0.5, random.Random(1))
    order.heard(3 * STEPS, 10.0)  # the third round begins now
    assert order.are_of_one_round(10.0, 10.49)
    assert order.are_of_one_round(10.51, 10.99)
    assert not order.are_of_one_round(10.49, 10.5)
    assert not order.are_of_one_round(9.99, 10.0), "one that is late for its round"


def test_what_was_measured_before_the_clock_was_set_is_forgotten() -> None:
    """Found by `mesh sim --scenario clock-jumps`: an agent whose clock had jumped ten years ahead wrote on for 10 s, and when the
    clock was right again it was refused for as long: peers say what time it is only now and then."""
    hour, day = 3_600 * 10**6, 86_400 * 10**6
    clocks, right, ahead = PeerClocks(), Now(7.0, day), Now(8.0, day + 10 * hour)
    for number in range(8):
        clocks.add(replica(number), right.wall, right, 0.0)
    assert clocks.outvoted(hour, right) is None
    for number in range(2):
        clocks.add(replica(number), right.wall, ahead, 0.0)
    assert clocks.outvoted(hour, ahead) == -10 * hour
    assert clocks.outvoted(hour, Now(9.0, day + 2 * 10**6)) is None, "set right"


# ---- lists


def test_two_starts_that_speak_with_one_incarnation_make_lists_differ() -> None:
    """Found by `mesh sim --seeds`, 10115: an agent whose disk was full spoke with one incarnation in two starts. Who had missed
    the second one's claim agreed with everybody about the list, and took the first for alive for ever: presence never showed."""
    lists = [Roster(replica(0)), Roster(replica(0))]
    for birth, one in zip((7, 8), lists, strict=True):
        one.set_mine(3, birth, left=False)
    first, second = (one.ranks((1 << BUCKETS) - 1) for one in lists)
    assert first[0][1] < second[0][1], "the second counts, as outranks says"
    assert lists[0].digest != lists[1].digest
    for one in lists:
        one.set_mine(3, 7, left=True)
    assert lists[0].digest == lists[1].digest


def test_news_has_come_round_when_several_say_so_not_one_several_times() -> None:
    """Regression: answers were counted, so a liar that repeated its own made an agent forget what it had to tell."""
    everybody_agrees: list[bool] = []
    roster = Roster(replica(0))
    for number in range(1, 7):
        roster.become(roster.obtain(replica(number), 0.0), State.ALIVE, 0.0)
    exchange = Exchange(
        SWIM,
        roster,
        Outbox(),
        Counter(),
        mine=lambda: alive(0),
        patience=lambda _peer: 1.0,
        agrees=lambda _peer, _rank, _now: None,
        all_agree=lambda: everybody_agrees.append(True),
    )
    for _ in range(20):
        exchange.noticed(replica(1), roster.short_digest(), Now(1.0, 0))
    assert not everybody_agrees
    for number in range(2, 7):
        exchange.noticed(replica(number), roster.short_digest(), Now(1.0, 0))
    assert everybody_agrees == [True]


# ---- presets


def test_presets_are_named_and_checked() -> None:
    assert preset("lan") is LAN
    assert sorted(PRESETS) == ["lan", "local", "lora", "robot_wifi", "wan"]
    with pytest.raises(ConfigError, match="robot_wifi"):
        preset("lna")
    with pytest.raises(ConfigError, match="probe_interval_seconds"):
        replace(SWIM, probe_interval_seconds=0.0)
    with pytest.raises(ConfigError, match="suspicion_max_seconds"):
        replace(SWIM, suspicion_max_seconds=0.5)
