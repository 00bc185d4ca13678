"""Probes: is that member there?

    prober                       k witnesses                        target
      | PING ---------------------------------------------------------> |      direct
      |                        (no ACK within its usual time)           |
      | PING_REQUEST ----------> | PING, for the prober --------------> |      round 1: k witnesses at once, and
      | PING ---------------------------------------------------------> |      one more direct ping
      | <------------------ ACK, vouched | <------- ACK, vouched ------ |
      | <------------------------- ACK --------------------------------- |
      | <----------------- NACK  | (before the prober's time is over)   |
      |                        (nothing)                                |
      | round 2: k other witnesses ... then the probe has failed        |

A witness's word is not enough: the target signs the prober's random number (`vouch`), so that a lying witness can hide a
crash from nobody. A witness that says neither ACK nor NACK tells the prober that perhaps the prober itself is badly
connected.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any, Final, TypeGuard

from crdt.codec import decode_untrusted, encode
from crdt.ids import REPLICA_ID_BYTES, ReplicaId
from mesh.effects import Address, Now
from mesh.errors import Malformed
from mesh.port import Port
from mesh.swim.claims import PURPOSE_VOUCH, SIGNATURE_BYTES, Sign, Verify
from mesh.swim.clock import PeerClocks
from mesh.swim.config import SwimConfig
from mesh.swim.coordinates import COORDINATE_BYTES, Coordinates, coordinate_untrusted
from mesh.swim.health import LocalHealth
from mesh.swim.order import PLACES, ProbeOrder
from mesh.swim.roster import BUCKET_HASH_BYTES, Record, Roster, State
from mesh.swim.roundtrip import RoundTrips
from mesh.wire.frames import Frame, Lane

STAGE_BITS: Final = 2
"""Low bits of a ping's number: which ping of the probe it was, so that every answer gives a round trip (Karn's problem)."""
NUMBER_BITS: Final = 16
"""Of pings. Sessions keep outsiders and replays away; the number only tells which ping an answer belongs to."""
NONCE_BITS: Final = 32
"""Of what a target signs for a prober: random, so that no witness has an old signature for it."""
INDIRECT_WAIT: Final = 1.5
"""Rounds of indirect probes last this many times a direct ping's time: two hops, but the floor is there already. Guess."""
NACK_AT: Final = 0.6
"""Share of the prober's patience after which a witness says NACK. Guess: leaves the rest for the way back."""
RELAYS_MAX: Final = 256
"""Pings under way on behalf of others."""
RELAYS_PER_PROBER_MAX: Final = 16
PATIENCE_MAX_MS: Final = 120_000
DETAILS_EVERY: Final = 3
"""One ACK of so many carries the wall clock and the coordinate. Guess: saves 60 bytes a second."""


class Probe:
    """One question under way, through all its rounds."""

    __slots__ = (
        "asked",
        "deadline",
        "nacks",
        "nacks_wanted",
        "nonce",
        "number",
        "refused",
        "rounds",
        "sent_at",
        "stage",
        "target",
        "timed",
    )

    def __init__(self, target: ReplicaId, number: int, began: float) -> None:
        self.target = target
        self.number = number
        self.stage = 0
        self.sent_at = [began]
        """Of the direct ping of each stage."""
        self.timed = True
        """Whether the answer's time says something: not so while a session is only being opened, or when we stood still."""
        self.deadline = inf
        self.asked: set[ReplicaId] = set()
        self.rounds: list[list[ReplicaId]] = []
        """The witnesses of each round."""
        self.nacks: set[ReplicaId] = set()
        self.nonce: int | None = None
        """What the target is to sign, in indirect rounds."""
        self.refused = False
        """The target's machine said that nobody listens there."""

    @property
    def began(self) -> float:
        return self.sent_at[0]

    def doubts(self, roster: Roster) -> int:
        """What a failure says about ourselves: one for each round in which none of the witnesses said even nack, suspects not
        counted; one if nobody could be asked. (Lifeguard counts each missing nack; with 10% loss, or with two thirds of the
        witnesses beyond a cut, that would slow down the healthy, measured: a cut was understood after 8 s instead of 4.)
        """
        silent = [
            witnesses
            for witnesses in self.rounds
            if not self.nacks.intersection(witnesses)
            and any(roster.is_living(peer) and peer not in roster.suspects for peer in witnesses)
        ]
        return len(silent) if self.asked else 1


class _Relay:
    """A ping that we sent as a witness."""

    __slots__ = ("expires_at", "nack_at", "number", "prober", "target")

    def __init__(self, prober: ReplicaId, number: int, target: ReplicaId, now: float, patience: float) -> None:
        self.prober, self.number, self.target = prober, number, target
        self.nack_at = now + patience * NACK_AT
        self.expires_at = now + patience * 2


class Prober:
    """Pings of our own and on behalf of others. Its results: `Failed` probes from `tick`, evidence of life in the roster."""

    def __init__(
        self,
        *,
        me: ReplicaId,
        sign: Sign,
        verify: Verify,
        config: SwimConfig,
        rng: random.Random,
        port: Port,
        roster: Roster,
        order: ProbeOrder,
        health: LocalHealth,
        counters: Counter[str],
        attach: Callable[[ReplicaId], None],
    ) -> None:
        """`attach` puts claims into the datagram that is being made for a member."""
        self._me, self._sign, self._verify = me, sign, verify
        self._config, self._rng, self._port = config, rng, port
        self._roster, self._order, self._health = roster, order, health
        self._counters, self._attach = counters, attach
        self.round_trips = RoundTrips(config.probe_timeout_min_seconds, config.probe_timeout_max_seconds)
        self.coordinates = Coordinates(rng)
        self.clocks = PeerClocks()
        self.open_sessions: set[ReplicaId] = set()
        self._patience_max = config.probe_timeout_max_seconds * config.health_levels * INDIRECT_WAIT
        """Seconds that an honest prober of the same settings waits at most."""
        self._probes: dict[int, Probe] = {}
        self._targets: dict[ReplicaId, Probe] = {}
        self._nonces: dict[int, Probe] = {}
        self._last_number = rng.getrandbits(NUMBER_BITS)
        self._searched_at = -inf
        """When it was last looked up who lives at an address."""
        self._relays: dict[int, _Relay] = {}

    # ---- asking

    def probe(self, target: ReplicaId, now: Now, *, refused: bool = False) -> None:
        """Begin, unless we are asking it already. `refused`: its machine said just now that nobody listens there."""
        if target in self._targets:
            return
        probe = Probe(target, self._new_number(detailed=self.lacks_clocks(now)), now.monotonic)
        probe.refused = refused
        self._probes[probe.number] = self._targets[target] = probe
        probe.timed = target in self.open_sessions
        probe.deadline = now.monotonic + self.patience(target)
        self._counters["probes"] += 1
        self.ping(target, probe.number, now)
        self._hasten(probe, now)

    def ping(self, target: ReplicaId, number: int | None, now: Now) -> None:
        """One ping. Without a number: not a probe, the answer counts as a sign of life only."""
        if number is None:
            number = self._new_number()
        self._attach(target)
        self._send_ping(target, number, now)

    def _send_ping(self, target: ReplicaId, number: int, now: Now) -> None:
        ping = [number, self._order.place(now.monotonic), self._roster.short_digest()]
        self._port.send(target, Lane.LIVENESS, Frame.PING, encode(ping))

    def ping_in_session(self, target: ReplicaId, now: Now) -> bool:
        """One bare ping to somebody who is gone, if no session has to be opened for it."""
        if target in self.open_sessions:
            self._send_ping(target, self._new_number(), now)
        return target in self.open_sessions

    def is_probing(self, target: ReplicaId) -> bool:
        return target in self._targets

    def tick(self, now: Now) -> list[Probe]:
        """Go on with what has waited long enough. Returns the probes that have failed."""
        due = [probe for probe in self._probes.values() if probe.deadline <= now.monotonic]
        failed = [probe for probe in due if not self._next_stage(probe, now)]
        for number, relay in list(self._relays.items()):
            if relay.nack_at <= now.monotonic:
                self._nack(relay)
            if relay.expires_at <= now.monotonic:
                del self._relays[number]
        return failed

    @property
    def deadline(self) -> float:
        probes = min((probe.deadline for probe in self._probes.values()), default=inf)
        relays = min((min(relay.nack_at, relay.expires_at) for relay in self._relays.values()), default=inf)
        return min(probes, relays)

    def stood_still(self, seconds: float) -> None:
        """Nobody had a chance to be heard meanwhile."""
        for probe in self._probes.values():
            probe.deadline += seconds
            probe.timed = False
        for relay in self._relays.values():
            relay.nack_at += seconds
            relay.expires_at += seconds

    def forget(self, target: ReplicaId) -> None:
        """No answer is wanted any more."""
        probe = self._targets.pop(target, None)
        if probe is not None:
            del self._probes[probe.number]
            if probe.nonce is not None:
                del self._nonces[probe.nonce]

    def refused(self, address: Address, now: Now) -> bool:
        """The machine there says that nobody listens: do not wait for the time that an answer would take. Whether anybody there
        was being asked.
        """
        asked = False
        for probe in self._probes.values():
            if self._lives_at(probe.target, address):
                asked = probe.refused = True
                self._hasten(probe, now)
        for relay in self._relays.values():
            if self._lives_at(relay.target, address):
                asked = True
                if relay.nack_at < inf:
                    self._nack(relay)
        return asked

    def search(self, address: Address, is_worth_it: Callable[[Record], bool], now: Now) -> None:
        """Probe who lives where nobody listens. Not every datagram is a ping, and the word of a machine comes once: a probe that
        begins while a handshake waits for its next try would not hear of it. Once in an interval and member: others can send
        such words, too.
        """
        at, roster = now.monotonic, self._roster
        if at - self._searched_at < self._config.push_spacing_seconds:
            return
        self._searched_at = at  # goes through all members
        target = roster.living_at(address)
        record = roster.get(target) if target is not None else None
        if record is None or at - record.checked_at < self._config.probe_interval_seconds:
            return
        record.checked_at = at
        if is_worth_it(record):
            self.probe(record.replica, now, refused=True)

    def _lives_at(self, member: ReplicaId, address: Address) -> bool:
        record = self._roster.records.peek(member)
        return record is not None and record.address == address

    def _next_stage(self, probe: Probe, now: Now) -> bool:
        if probe.stage >= self._config.indirect_rounds:
            self.forget(probe.target)
            return False
        probe.stage += 1
        probe.sent_at.append(now.monotonic)
        witnesses = self._witnesses(probe)
        patience = self.patience(probe.target) * INDIRECT_WAIT
        probe.deadline = now.monotonic + patience
        request = encode([self._nonce(probe), probe.target, min(int(patience * 1000), PATIENCE_MAX_MS)])
        for witness in witnesses:
            self._port.send(witness, Lane.LIVENESS, Frame.PING_REQUEST, request)
        probe.asked.update(witnesses)
        probe.rounds.append(witnesses)
        self._counters["indirect_probes"] += 1
        self.ping(probe.target, probe.number + probe.stage, now)
        return True

    def _nonce(self, probe: Probe) -> int:
        while probe.nonce is None:
            nonce = self._rng.getrandbits(NONCE_BITS)
            if nonce not in self._nonces:
                probe.nonce, self._nonces[nonce] = nonce, probe
        return probe.nonce

    def _witnesses(self, probe: Probe) -> list[ReplicaId]:
        """k members of whom all but one are the nearest of twice as many drawn by lot: near ones answer in time, and the last
        one keeps a long way round in the game.
        """
        wanted = self._config.witnesses
        fit = [
            member
            for member in self._roster.living
            if member != probe.target and member not in probe.asked and member not in self._roster.suspects
        ]
        drawn = self._rng.sample(fit, min(2 * wanted, len(fit)))
        if len(drawn) <= wanted:
            return drawn
        last = drawn.pop()
        drawn.sort(key=lambda member: (self.predicted(member), member))
        return [*drawn[: wanted - 1], last]

    def predicted(self, peer: ReplicaId) -> float:
        """Round trip to a peer: measured, else from coordinates, else as everybody's."""
        measured = self.round_trips.measured(peer)
        if measured is not None:
            return measured
        estimate = self.coordinates.estimate(peer)
        return estimate if estimate is not None else self.round_trips.typical()

    def patience(self, target: ReplicaId) -> float:
        """Seconds that the answer to one ping may take. Where there is no session yet, a handshake comes first."""
        patience = self.round_trips.timeout(target, self.coordinates.estimate(target), first=target not in self.open_sessions)
        return patience * self._health.factor

    def _hasten(self, probe: Probe, now: Now) -> None:
        """Go on when all witnesses of this round have said nack: at once where the target's machine said that nobody listens,
        else when the ping beside them has had its usual time.
        """
        witnesses = probe.rounds[-1] if probe.rounds else ()
        if (probe.refused or witnesses) and probe.nacks.issuperset(witnesses):
            enough = now.monotonic if probe.refused else probe.sent_at[-1] + self.patience(probe.target)
            probe.deadline = min(probe.deadline, max(now.monotonic, enough))

    def _nack(self, relay: _Relay) -> None:
        relay.nack_at = inf
        self._port.send(relay.prober, Lane.LIVENESS, Frame.NACK, encode([relay.number]))

    def lacks_clocks(self, now: Now) -> bool:
        """Whether this agent could not tell yet that its clock is wrong."""
        return self.clocks.lacks(len(self._roster.living), now)

    def _new_number(self, *, detailed: bool = False) -> int:
        """`detailed`: of a ping whose answer carries the details."""
        while True:
            self._last_number = (self._last_number + (1 << STAGE_BITS)) % (1 << NUMBER_BITS) >> STAGE_BITS << STAGE_BITS
            is_free = self._last_number not in self._probes and self._last_number not in self._relays
            if is_free and not (detailed and (self._last_number >> STAGE_BITS) % DETAILS_EVERY):
                return self._last_number

    # ---- being asked, and answers

    def ping_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> bytes | None:
        """Answer. Returns the hash of the member list of the peer; None when it asks on behalf of another. Raises Malformed."""
        match decode_untrusted(payload):
            case (int(number), place, bytes(digest)) if (
                _is_number(number) and _is_place(place) and len(digest) == BUCKET_HASH_BYTES
            ):
                if place is not None:
                    self._order.heard(place, now.monotonic)
                self._attach(peer)
                self._port.send(peer, Lane.LIVENESS, Frame.ACK, encode(self._ack(number, now)))
                return digest
            case (int(number), bytes(prober), int(theirs)) if (
                _is_number(number) and _is_nonce(theirs) and len(prober) == REPLICA_ID_BYTES
            ):
                vouch = self._sign(PURPOSE_VOUCH, _vouch_payload(ReplicaId(prober), theirs))
                self._port.send(peer, Lane.LIVENESS, Frame.ACK, encode([number, self._roster.short_digest(), vouch]))
                return None
        raise Malformed("not a ping")

    def _ack(self, number: int, now: Now) -> list[Any]:
        ack: list[Any] = [number, self._roster.short_digest()]
        if (number >> STAGE_BITS) % DETAILS_EVERY == 0:
            ack += [now.wall, self.coordinates.mine.to_bytes()]
        return ack

    def ack_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> bytes | None:
        """Returns the hash of the member list of the peer, when that is what answered. Raises Malformed."""
        match decode_untrusted(payload):
            case (int(number), bytes(digest)) if len(digest) == BUCKET_HASH_BYTES:
                self._answered(peer, number, now)
                return digest
            case (int(number), bytes(digest), int(wall), bytes(coordinate)) if (
                len(digest) == BUCKET_HASH_BYTES and len(coordinate) == COORDINATE_BYTES
            ):
                round_trip = self._answered(peer, number, now)
                if round_trip is not None:
                    self._take_details(peer, wall, coordinate, round_trip, now)
                return digest
            case (int(number), bytes(digest), bytes(vouch)) if len(digest) == BUCKET_HASH_BYTES and len(vouch) == SIGNATURE_BYTES:
                relay = self._relays.get(number)
                if relay is not None and relay.target == peer:
                    del self._relays[number]
                    self._port.send(relay.prober, Lane.LIVENESS, Frame.ACK, encode([relay.number, vouch]))
                return digest
            case (int(number), bytes(vouch)) if len(vouch) == SIGNATURE_BYTES:
                self._vouched(number, vouch)
                return None
        raise Malformed("not an ack")

    def _answered(self, peer: ReplicaId, number: int, now: Now) -> float | None:
        """Seconds from the ping to this ACK, if it was to one of ours and its time says something."""
        stage = number % (1 << STAGE_BITS)
        probe = self._probes.get(number - stage)
        if probe is None or probe.target != peer or stage > probe.stage:
            return None
        self.forget(peer)
        self._health.better()
        if not probe.timed:
            return None
        round_trip = now.monotonic - probe.sent_at[stage]
        self.round_trips.add(peer, round_trip)
        return round_trip

    def _take_details(self, peer: ReplicaId, wall: int, coordinate: bytes, round_trip: float, now: Now) -> None:
        self.clocks.add(peer, wall, now, round_trip)
        theirs = coordinate_untrusted(coordinate)
        if theirs is None:
            self._counters["coordinates_refused"] += 1
        else:
            self.coordinates.update(peer, theirs, round_trip)

    def _vouched(self, number: int, vouch: bytes) -> None:
        """A witness brought the target's signature under our number."""
        probe = self._nonces.get(number)
        if probe is None:
            return
        if self._verify(probe.target, PURPOSE_VOUCH, _vouch_payload(self._me, number), vouch):
            self.forget(probe.target)
            self._health.better()
            self._counters["vouched"] += 1
        else:
            self._counters["vouches_refused"] += 1

    def nack_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """A witness is there, but the target is not, as far as it sees. Raises Malformed."""
        match decode_untrusted(payload):
            case (int(number),):
                probe = self._nonces.get(number)
                if probe is not None and peer in probe.asked:
                    probe.nacks.add(peer)
                    self._hasten(probe, now)
            case _:
                raise Malformed("not a nack")

    def request_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """Be a witness. Raises Malformed."""
        match decode_untrusted(payload):
            case (int(number), bytes(target), int(patience)) if (
                _is_nonce(number) and len(target) == REPLICA_ID_BYTES and 0 < patience <= PATIENCE_MAX_MS
            ):
                self._be_witness(peer, number, ReplicaId(target), patience / 1000, now)
            case _:
                raise Malformed("not a ping request")

    def _be_witness(self, prober: ReplicaId, number: int, target: ReplicaId, patience: float, now: Now) -> None:
        record = self._roster.records.peek(target)
        known = record is not None and record.state is not State.LEFT
        if not known or len(self._relays) >= RELAYS_MAX or self._relays_for(prober) >= RELAYS_PER_PROBER_MAX:
            self._counters["ping_requests_refused"] += 1
            return
        mine = self._new_number()
        patience = min(patience, self._patience_max)  # else a few liars keep all places for minutes
        self._relays[mine] = _Relay(prober, number, target, now.monotonic, patience)
        self._port.send(target, Lane.LIVENESS, Frame.PING, encode([mine, prober, number]))

    def _relays_for(self, prober: ReplicaId) -> int:
        return sum(relay.prober == prober for relay in self._relays.values())


def _vouch_payload(prober: ReplicaId, number: int) -> bytes:
    return encode([prober, number])


def _is_number(number: int) -> bool:
    return 0 <= number < 1 << NUMBER_BITS


def _is_place(place: object) -> TypeGuard[int | None]:
    """A round and how far it is, or none."""
    return place is None or (isinstance(place, int) and 0 <= place < PLACES)


def _is_nonce(number: int) -> bool:
    return 0 <= number < 1 << NONCE_BITS
