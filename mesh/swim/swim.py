"""Membership as a whole: who is here, who is not. Pure: bytes and time in, frames and events out through a `Port`.

    claims.py       the signed sentences, and which of two counts
    roster.py       what we believe of every member
    order.py        whom to probe next            probe.py      the probe itself, direct and through witnesses
    suspicion.py    how long to wait              health.py     am I the one who is ill?
    beliefs.py      from claims to beliefs        myself.py     what I say of myself
    news.py         gossip                        exchange.py   comparing whole lists
    reconnect.py    calling those who are gone    quota.py      how much one member may accuse
    roundtrip.py, coordinates.py, clock.py        what probes measure besides

A silent death, told in times of the `lan` preset: 0.2 s until somebody's probe comes by, 0.15 s until it has failed (directly,
through three witnesses, three others), a few ms until everybody has the accusation, 0.3 s until three of four checkers have
confirmed it, and 1.05 s of silence after the accusation, which a member that only stalled would have broken. Then everybody
buries it, each by itself and at the same time. Nothing is sent about that: who was not there sees the accusations in the lists.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final

from crdt.ids import ReplicaId, ShelfId, shelf_id
from mesh.effects import COURTESY_SECONDS, Address, Now
from mesh.port import Port
from mesh.store.rows import KnownPeer
from mesh.swim.beliefs import Beliefs
from mesh.swim.claims import INCARNATION_MAX, Reason, Sign, Verify, check_profile
from mesh.swim.config import SwimConfig
from mesh.swim.exchange import Exchange
from mesh.swim.health import LocalHealth
from mesh.swim.leave import INTERVALS as FAREWELL_INTERVALS
from mesh.swim.leave import Farewell
from mesh.swim.myself import Myself
from mesh.swim.news import News
from mesh.swim.order import ProbeOrder
from mesh.swim.probe import Probe, Prober
from mesh.swim.reconnect import Reconnect
from mesh.swim.roster import LIVING, Member, Picture, Rank, Record, Roster, State
from mesh.swim.suspicion import SMALL_MESH
from mesh.wire.frames import Frame, Lane

DEAF_INTERVALS: Final = 4
"""Probe intervals in which an agent that can hear anybody hears somebody, be it one in ten. Guess."""
ALONE_AFTER_PROBES: Final = 3
"""Failed probes in a row, with no word from anybody, before an agent believes that it is cut off. Guess."""


class Swim:
    def __init__(
        self,
        *,
        me: ReplicaId,
        birth: int,
        sign: Sign,
        verify: Verify,
        config: SwimConfig,
        rng: random.Random,
        port: Port,
        address: Address,
        incarnation: int = 0,
        name: str = "",
        meta: bytes = b"",
        known: Iterable[KnownPeer] = (),
        seeds: Iterable[Address] = (),
    ) -> None:
        """`incarnation`: the last one on the disk, 0 for none; this start uses a higher one. `known`: peers remembered from
        the disk, called until they answer. Raises ConfigError for a name or metadata that is too long.
        """
        check_profile(name, meta)
        self._config, self._rng, self._port = config, rng, port
        self.counters: Counter[str] = Counter()
        self.health = LocalHealth(config.health_levels)
        self._myself = Myself(me, birth, min(incarnation + 1, INCARNATION_MAX), address, name, meta, sign)
        self._roster = Roster(me)
        self._roster.set_mine(self._myself.incarnation, birth, left=False)
        self._order = ProbeOrder(me, config.probe_interval_seconds, rng)
        self._news = News(config, port, rng)
        self._prober = Prober(
            me=me,
            sign=sign,
            verify=verify,
            config=config,
            rng=rng,
            port=port,
            roster=self._roster,
            order=self._order,
            health=self.health,
            counters=self.counters,
            attach=self._attach,
        )
        self._exchange = Exchange(
            config,
            self._roster,
            port,
            self.counters,
            mine=lambda: self._myself.newest,
            patience=self._prober.patience,
            agrees=self._agrees,
            all_agree=self._news.forget_what_is_listed,
        )
        self._beliefs = Beliefs(
            config=config,
            roster=self._roster,
            myself=self._myself,
            news=self._news,
            exchange=self._exchange,
            health=self.health,
            port=port,
            sign=sign,
            verify=verify,
            counters=self.counters,
            look=self._look,
            ask=lambda peer, now: self._prober.ping(peer, None, now),
            patience=self._prober.patience,
        )
        self._reconnect = Reconnect(config, self._roster, port, rng, seeds, address, self._prober.ping_in_session)
        self._looks: dict[ReplicaId, float] = {}
        """Members to probe out of turn, and when."""
        self._next_probe = 0.0
        self._may_wait = False  # it may be put off yet
        self._started = False
        self._called_at = self._stalled_at = -inf
        self._stall_seconds = config.stall_seconds
        self._due = inf
        """When the next tick is wanted, ..."""
        self._stale = True
        """... unless something came in since that was computed."""
        self._heard_any = -inf
        self._unanswered = 0
        self._version_called = -1
        """Of the roster, when it was last decided how soon to call somebody."""
        self._cut_off: list[ReplicaId] = []
        """Members buried because we heard nobody."""
        self._farewell = Farewell(config, self._roster, port, rng)
        for peer in known:
            self._restore(peer)
        self._handlers: dict[Frame, Callable[[ReplicaId, bytes, Now], None]] = {
            Frame.PING: self._ping_untrusted,
            Frame.ACK: self._ack_untrusted,
            Frame.NACK: self._prober.nack_untrusted,
            Frame.PING_REQUEST: self._prober.request_untrusted,
            Frame.CLAIM: self._claim_untrusted,
            Frame.LEAVE_CONFIRM: lambda peer, payload, now: self._farewell.confirm_untrusted(peer, payload),
            Frame.MEMBERS: lambda peer, payload, now: self._exchange.members_untrusted(peer, payload),
            Frame.MEMBER_ROWS: self._exchange.rows_untrusted,
            Frame.MEMBER_WANT: lambda peer, payload, now: self._exchange.want_untrusted(peer, payload),
        }

    # ---- the ways in

    def handle_untrusted(self, peer: ReplicaId, kind: Frame, payload: bytes, now: Now) -> bool:
        """One frame of an authenticated peer. False when the kind is not ours. Raises Malformed, state as it was."""
        handler = self._handlers.get(kind)
        if handler is None:
            return False
        if now.monotonic != self._called_at:
            self._wake(now)
        if not self._farewell.over:
            self._stale = True
            handler(peer, payload, now)
        return True

    def heard_from(self, peer: ReplicaId, now: Now) -> None:
        """Any authenticated datagram of a peer, whatever it holds: it is alive. Call before `handle_untrusted`."""
        self._wake(now)
        if self._farewell.over or peer == self._myself.replica:
            return
        self._heard_any, self._unanswered = now.monotonic, 0
        record = self._roster.records.get(peer)
        if record is None:
            record = self._roster.obtain(peer, now.monotonic)
        record.heard, record.heard_wall = now.monotonic, now.wall
        if record.state is State.ALIVE and not self._cut_off:
            return
        self._stale = True
        if record.state is State.SUSPECT:
            self._beliefs.tell(record, now)
        elif record.state is not State.ALIVE:
            self._heard_from_beyond(record, now)
        if self._cut_off:
            self._rejoined(peer, now)

    def session_opened(self, peer: ReplicaId, now: Now, round_trip: float | None = None) -> None:
        """The transport has a session with this peer, a first or a new one. With strangers, and with those who were given up,
        lists are compared at once: this is how one joins and how cuts heal. `round_trip`: of its handshake, if it was measured.
        """
        self._wake(now)
        if round_trip is not None and now.monotonic - round_trip >= self._stalled_at:
            self._prober.round_trips.add(peer, round_trip)
        self._prober.open_sessions.add(peer)
        self._stale = True
        record = self._roster.get(peer)
        if record is not None:
            record.told_at = -inf
        self.heard_from(peer, now)
        if record is not None and record.state is State.ALIVE and not self.left:
            self._beliefs.tell(record, now)  # if that is not what it said itself, somebody else uses its identity

    def session_closed(self, peer: ReplicaId) -> None:
        self._prober.open_sessions.discard(peer)

    def refused(self, address: Address, now: Now) -> None:
        """The operating system says that nobody listens at this address (ICMP port unreachable), whatever was sent there. A hint:
        it is not authenticated, so it begins or hastens a probe and, when two members say so, suspicion; it accuses nobody.
        """
        self._wake(now)
        self._stale = True
        if not self._prober.refused(address, now) and not self._farewell.over:
            self._prober.search(address, self._beliefs.is_unrefused, now)

    @property
    def own_claim(self) -> bytes:
        """What this start says of itself, as it travels."""
        return self._myself.newest.raw

    def picture(self, other: Swim) -> Picture:
        """What this member and the other believe, who have both heard everybody; for `adopt`. Raises ValueError, see there."""
        return Picture.of(self._roster, other._roster)

    def adopt(self, picture: Picture) -> None:
        """This agent has been here for long: it believes what all believe of all, and the others have heard of it. Only at
        the start. Raises ValueError when the picture does not show it.
        """
        self._roster.adopt(picture)
        self._exchange.settled = True
        self._news.forget_what_is_listed()

    def tick(self, now: Now) -> None:
        """Do what is due; harmless when nothing is."""
        at = now.monotonic
        if at != self._called_at:
            self._wake(now)
        if at < (self.deadline if self._stale else self._due) or self._farewell.over:
            return
        if not self._started:
            self._started = True
            self._heard_any = at
            # Agents that start together must not probe in step.
            self._next_probe = at + self._rng.random() * self._config.probe_interval_seconds
        for probe in self._prober.tick(now):
            self._failed(probe, now)
        self._probe_in_turn(now)
        self._probe_out_of_turn(now)
        self._beliefs.tick(now)
        self._bury_all_if_alone(now)
        if self._roster.version != self._version_called:
            self._version_called = self._roster.version
            self._reconnect.hurry(at)
        self._exchange.tick(now)
        self._reconnect.tick(now)
        self._farewell.tick(at)
        self._news.push(self._roster.living, at)
        self._due, self._stale = self._earliest(), False

    @property
    def deadline(self) -> float:
        """Monotonic seconds of the next tick wanted. Computed anew only after something came in."""
        if self._stale:
            self._due, self._stale = self._earliest(), False
        return self._due

    def _earliest(self) -> float:
        if self.left:
            return inf
        if self._roster.version != self._version_called:
            return self._called_at  # whom to call may have to be decided anew, at once
        return min(
            self._next_probe if self._roster.living or not self._started else inf,
            min(self._looks.values(), default=inf),
            self._prober.deadline,
            self._beliefs.deadline,
            self._exchange.deadline,
            self._reconnect.deadline,
            self._news.push_at if self._roster.living else inf,
            self._farewell.deadline,
        )

    def put_off(self, now: Now) -> bool:
        """There was news, which others of this machine have yet to take in: a probe that is due soon lets them, once."""
        due, later = self._next_probe, self._next_probe + COURTESY_SECONDS
        if not self._may_wait or due >= now.monotonic + COURTESY_SECONDS or not self._order.are_of_one_round(due, later):
            return False
        self._next_probe, self._may_wait, self._stale = later, False, True
        return True

    # ---- what there is to know

    def members(self) -> list[Member]:
        """All other members ever met and not forgotten, ascending by id."""
        return [self._member(record) for record in self._roster.in_order() if record.address[1] or record.left is not None]

    def member(self, replica: ReplicaId) -> Member | None:
        record = self._roster.records.peek(replica)
        return self._member(record) if record is not None else None

    def alive(self) -> list[ReplicaId]:
        """Members that are not under suspicion, without me, ascending."""
        return [replica for replica in self._roster.living if replica not in self._roster.suspects]

    def suspects(self) -> list[ReplicaId]:
        """Ascending."""
        return sorted(self._roster.suspects)

    @property
    def living(self) -> Sequence[ReplicaId]:
        """Alive and suspect, without me, ascending: the list itself, which goes on changing."""
        return self._roster.living

    def is_living(self, peer: ReplicaId) -> bool:
        record = self._roster.records.peek(peer)
        return record is not None and record.state in LIVING

    def is_suspect(self, peer: ReplicaId) -> bool:
        return peer in self._roster.suspects

    @property
    def has_moved(self) -> bool:
        return bool(self._roster.moved)

    def take_moved(self) -> dict[ReplicaId, bool]:
        """Members of whom `members()` says something else since the last call, but for round trips; true: they were living."""
        moved, self._roster.moved = self._roster.moved, {}
        return moved

    @property
    def incarnation(self) -> int:
        """My own: to be kept on the disk."""
        return self._myself.incarnation

    @property
    def contested(self) -> bool:
        """Another living agent uses this identity."""
        return self._myself.contested

    @property
    def list_digest(self) -> int:
        """Hash over what was signed by and about all members: equal lists, equal hashes."""
        return self._roster.digest

    def address_of(self, peer: ReplicaId) -> Address | None:
        record = self._roster.records.peek(peer)
        return record.address if record is not None and record.address[1] else None

    def is_reachable(self, peer: ReplicaId) -> bool:
        """Alive, or accused but heard since."""
        record = self._roster.records.peek(peer)
        if record is None or record.state not in LIVING:
            return False
        return record.suspicion is None or record.heard > record.suspicion.since

    def is_open(self, peer: ReplicaId) -> bool:
        """Whether there is a session: else frames wait, and a handshake that is lost is tried again by itself."""
        return peer in self._prober.open_sessions

    def current_shelf(self, peer: ReplicaId) -> ShelfId | None:
        """The shelf that a living member writes now."""
        record = self._roster.records.peek(peer)
        if record is None or record.alive is None or record.state not in LIVING:
            return None
        return shelf_id(peer, record.alive.birth)

    def round_trip(self, peer: ReplicaId) -> float:
        """Seconds: measured, else predicted from coordinates, else typical."""
        return self._prober.predicted(peer)

    def typical_round_trip(self) -> float:
        return self._prober.round_trips.typical()

    def clock_offset(self, now: Now) -> int | None:
        """Median of the peers' wall clocks less ours, in microseconds; None without peers."""
        return self._prober.clocks.offset(now)

    def clock_outvoted(self, limit: int, now: Now) -> int | None:
        """The offset, when most of the mesh is further than `limit` microseconds from our clock; None when we may be right."""
        return self._prober.clocks.outvoted(limit, now)

    def snapshot(self) -> list[KnownPeer]:
        """Rows for the disk of all members."""
        return [record.as_known_peer() for record in self._roster.in_order() if record.address[1]]

    def take_changed(self) -> list[KnownPeer]:
        """Rows, as in `snapshot`, that changed since the last call."""
        if not self._beliefs.changed:
            return []
        changed, self._beliefs.changed = self._beliefs.changed, {}
        return [row.as_known_peer() for each in changed if (row := self._roster.get(each)) is not None and row.address[1]]

    # ---- what the node wants

    def readdress(self, address: Address, now: Now) -> None:
        """This agent can be reached at another address from now on."""
        self._myself.address = address
        self._announce()

    def repeat(self) -> None:
        """Say of this agent what was said before, signed anew: its key changed."""
        self._announce()

    def begin_again(self, birth: int) -> None:
        """This process writes another shelf from now on."""
        self._myself.birth = birth
        self._announce()

    def describe(self, meta: bytes, now: Now) -> None:
        """Other metadata. Raises ConfigError when it is too long."""
        check_profile(self._myself.name, meta)
        self._myself.meta = meta
        self._announce()

    def leave(self, now: Now) -> None:
        """Say good-bye. `left` becomes true when enough members have heard it, or after three probe intervals."""
        if self._myself.left is not None:
            return
        mine = self._myself.leave()
        self._stale = True
        self._beliefs.proclaim(mine, set(), to_all=False)
        self._farewell.begin(mine, now.monotonic)

    @property
    def left(self) -> bool:
        """Leaving is over: the agent may go."""
        return self._farewell.over

    @property
    def leave_confirmed(self) -> bool:
        """Enough members said that they know; false in the end means that the agent goes unconfirmed."""
        return self._farewell.confirmed

    def forget(self, peer: ReplicaId) -> None:
        """A member whose credential is gone: it is no member any more."""
        self._stale = True
        self._roster.forget(peer)
        self._news.forget(peer)
        self._prober.forget(peer)
        self._prober.round_trips.forget(peer)
        self._prober.coordinates.forget(peer)
        self._prober.clocks.forget(peer)
        self._prober.open_sessions.discard(peer)
        self._beliefs.quota.forget(peer)
        self._looks.pop(peer, None)

    # ---- inside

    def _wake(self, now: Now) -> None:
        """Notice that this process stood still: nobody could be heard meanwhile, so nobody was silent."""
        at = now.monotonic
        gap = at - (self._due if self._due > self._called_at else self._called_at)
        self._called_at = at
        if gap < self._stall_seconds or not self._started:
            return
        self.counters["stalls"] += 1
        self._stalled_at = at
        self.health.worse()
        self._prober.stood_still(gap)
        self._beliefs.stood_still(gap, now)
        self._exchange.stood_still(gap)
        self._heard_any += gap

    def _probe_in_turn(self, now: Now) -> None:
        if now.monotonic < self._next_probe:
            return
        self._order.begin(now, self._roster.living)
        partner, other = self._order.next(self._roster.living, now.monotonic)
        if partner is not None and (self._prober.lacks_clocks(now) or not self._has_spoken(partner, now)):
            if self._beliefs.is_settled(partner):
                other = other or self._order.another(self.alive())  # one more accuser would change nothing
            else:
                self._prober.probe(partner, now)
        if other is not None and self._beliefs.is_settled(other):
            other = self._order.another(self.alive())
        if other is not None:
            self._prober.probe(other, now)
        self._probe_in_next_round(now)

    def _has_spoken(self, partner: ReplicaId, now: Now) -> bool:
        """In this round: what a ping would bring to light."""
        record = self._roster.records[partner]
        return record.state is State.ALIVE and record.heard >= self._order.round_began(now.monotonic)

    def _probe_in_next_round(self, now: Now) -> None:
        pause = self._config.probe_interval_seconds * (self.health.factor - 1)
        self._next_probe, self._may_wait = self._order.moment(now.monotonic) + pause, True

    def _probe_out_of_turn(self, now: Now) -> None:
        for target in sorted(target for target, at in self._looks.items() if at <= now.monotonic):
            del self._looks[target]
            if self._beliefs.is_worth_a_look(target):
                self._prober.probe(target, now)

    def _look(self, target: ReplicaId, at: float) -> None:
        self._looks[target] = min(at, self._looks.get(target, inf))

    def _failed(self, probe: Probe, now: Now) -> None:
        """A probe went through all its rounds. Is it them, or is it me?"""
        record = self._roster.get(probe.target)
        self.counters["probes_failed"] += 1
        if record is None or not self._roster.is_living(probe.target):
            return
        if record.heard > probe.began:
            self.counters["heard_instead"] += 1
        elif (
            self._heard_any <= probe.began - DEAF_INTERVALS * self._config.probe_interval_seconds
            and len(self._roster) > SMALL_MESH
        ):
            self._unanswered += 1  # nobody at all has spoken to me for long
            self.health.worse()
        else:
            self.health.worse(probe.doubts(self._roster))
            if self._beliefs.accuse(record, Reason.REFUSED if probe.refused else Reason.SILENT, now):
                self._prober.ping(probe.target, None, now)

    def _bury_all_if_alone(self, now: Now) -> None:
        living = self._roster.living
        silence = now.monotonic - self._heard_any
        enough = min(ALONE_AFTER_PROBES, len(living))
        if living and self._unanswered >= enough and silence > self._config.suspicion_max_seconds:
            self.counters["cut_off"] += 1
            self._cut_off = list(living)
            for replica in self._cut_off:
                self._beliefs.bury_alone(self._roster.records[replica], now)

    def _rejoined(self, peer: ReplicaId, now: Now) -> None:
        """Somebody speaks to us again; whether the others are still there, probes and the others' lists will tell."""
        cut_off, self._cut_off = self._cut_off, []
        for replica in cut_off:
            record = self._roster.get(replica)
            if record is not None:
                self._beliefs.revive(record, now)
        self._exchange.compare(peer)

    def _heard_from_beyond(self, record: Record, now: Now) -> None:
        """Somebody speaks whom we do not count among the living: it hears what is believed of it, and lists are compared. This is
        how one joins, and how cuts heal.
        """
        at, interval = now.monotonic, self._config.probe_interval_seconds
        just_left = record.state is State.LEFT and at - record.since < 2 * FAREWELL_INTERVALS * interval
        if at - record.told_at < interval or just_left:
            return
        if record.state is State.DEAD and record.buried_alone and record.alive is not None:
            self._beliefs.revive(record, now)
        self._port.send(record.replica, Lane.LIVENESS, Frame.CLAIM, self._myself.newest.raw)
        if record.claim is None and record.left is None:
            self._exchange.want(record.replica, [record.replica])
            record.told_at = at
        else:
            self._beliefs.tell(record, now)
        self._exchange.compare(record.replica)

    def _attach(self, peer: ReplicaId) -> None:
        """What rides along with a ping or an ack."""
        record = self._roster.get(peer)
        if record is not None and record.accusations:
            self._beliefs.buddy_notice(record)
        self._news.ride_along(peer, len(self._roster))

    def _ping_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        digest = self._prober.ping_untrusted(peer, payload, now)
        if digest is None or not self._roster.is_living(peer):
            return
        order, at = self._order, now.monotonic
        ends = order.round_began(at) + self._config.probe_interval_seconds
        may_be_skipped = self._next_probe < ends and not order.is_own and not self._prober.lacks_clocks(now)
        if may_be_skipped and order.partner(self._roster.living, at) == peer:
            order.skip()  # it came first
            self._probe_in_next_round(now)
        self._exchange.noticed(peer, digest, now)

    def _ack_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        digest = self._prober.ack_untrusted(peer, payload, now)
        if digest is not None and self._roster.is_living(peer):
            self._exchange.noticed(peer, digest, now)

    def _claim_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        self._beliefs.claim_untrusted(peer, payload, now)
        record = self._roster.get(peer)
        if record is not None and record.left is not None and record.left.raw == payload:
            self._farewell.confirm(peer)

    def _agrees(self, replica: ReplicaId, rank: Rank, now: Now) -> None:
        """A peer's list says the same as what was signed to us; so a burial of our own making was a mistake."""
        record = self._roster.get(replica) if rank.finality == 0 and not self._roster.is_living(replica) else None
        if record is not None:
            self._beliefs.revive(record, now)

    def _announce(self) -> None:
        self._stale = True
        self._beliefs.proclaim(self._myself.announce(), set())

    def _restore(self, peer: KnownPeer) -> None:
        if peer.replica != self._myself.replica:
            record = self._roster.obtain(peer.replica, 0.0)
            record.address, record.name, record.heard_wall = peer.address, peer.name, peer.last_seen
            self._roster.moved[peer.replica] = False

    def _member(self, record: Record) -> Member:
        return record.as_member(self._prober.round_trips.measured(record.replica))
