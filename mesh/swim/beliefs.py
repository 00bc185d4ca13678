"""From claims to beliefs: what is taken up, who is suspected, who is buried.

                     accusation                 silence, enough accusers
          +-------+  ------------> +---------+ --------------------------> +------+
    ----> | ALIVE |                | SUSPECT |                             | DEAD |  called for ever, mesh.swim.reconnect
    Alive +-------+ <------------  +---------+                             +------+
              ^       Alive i + 1       |                                     |
              |                         | Left                                | Alive i + 1
              |         +------+ <------+                                     |
              +-------- | LEFT |                                              |
              | Alive   +------+                                              |
              +---------------------------------------------------------------+

A signature costs 40 us to verify, so it is the last thing that is looked at: what would change nothing, or is over its accuser's
quota, is dropped before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from hashlib import blake2b
from math import inf
from typing import Final

from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.events import IdentityInUse, MemberDown, MemberLeft, MemberSuspected, MemberUp, MemberUpdated
from mesh.port import Port
from mesh.swim.claims import (
    Accusation,
    Alive,
    Left,
    Reason,
    Sign,
    Signed,
    Verdict,
    Verify,
    claim_from_bytes_untrusted,
    outranks,
    precedence,
    seal,
    verified,
)
from mesh.swim.config import SwimConfig
from mesh.swim.exchange import ACCUSATIONS_GIVEN, Exchange
from mesh.swim.health import LocalHealth
from mesh.swim.myself import Myself
from mesh.swim.news import News
from mesh.swim.quota import Quota
from mesh.swim.roster import LIVING, Record, Roster, State
from mesh.swim.suspicion import SMALL_MESH, Suspicion, accusers_needed
from mesh.wire.frames import Frame, Lane

SEEN_MAX: Final = 256
"""Claims of which we know by their bytes that they change nothing: gossip brings each several times."""
CHECKS_PER_INTERVAL: Final = 8
"""Fresh suspects are checked by one member after the other, so many in a probe interval, not to startle a busy one. Guess."""
CHECK_PAUSE_INTERVALS: Final = 1.5
"""Pause until the next few check, in probe intervals: longer than a probe takes, so that they are rarely needed. Guess."""
RELAYED_TO: Final = 2
"""Members to whom news is passed on whose signer told everybody. Measured at 10% loss, 64 agents: the last one hears of a crash
0.06 s later than the first, with 1 it is 0.13 s."""
LAST_QUESTIONS: Final = 2
"""To each suspect, shortly before it is buried. Measured, 64 agents of which some stall for up to a second, 10% loss: with one,
an agent that had missed the refutation buried a living member within five minutes."""
LAST_WORDS_AT_ONCE: Final = 16
"""Suspects asked once more in one go, shortly before they are buried. A cut may take away hundreds at once."""


class Beliefs:
    def __init__(
        self,
        *,
        config: SwimConfig,
        roster: Roster,
        myself: Myself,
        news: News,
        exchange: Exchange,
        health: LocalHealth,
        port: Port,
        sign: Sign,
        verify: Verify,
        counters: Counter[str],
        look: Callable[[ReplicaId, float], None],
        ask: Callable[[ReplicaId, Now], None],
        patience: Callable[[ReplicaId], float],
    ) -> None:
        """`look`: probe this member soon, at this monotonic time. `ask`: ping it now, outside of probes. `patience`: seconds that
        its answer may take.
        """
        self._config, self._roster, self._myself = config, roster, myself
        self._news, self._exchange, self._health, self._port = news, exchange, health, port
        self._sign, self._verify, self._counters = sign, verify, counters
        self._look, self._ask, self._patience = look, ask, patience
        self.quota = Quota(config.probe_interval_seconds)
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._asked_at = -inf
        self.changed: dict[ReplicaId, None] = {}
        """Members whose row on the disk is out of date."""

    # ---- claims

    def claim_untrusted(self, peer: ReplicaId, raw: bytes, now: Now) -> None:
        """A claim that `peer` passed on. Raises Malformed; what is refused is counted."""
        if raw in self._seen:
            self._counters["claims_duplicate"] += 1
            return
        signed = claim_from_bytes_untrusted(raw)
        claim = signed.claim
        if claim.subject == self._myself.replica:
            self._about_me(peer, signed, now)
            return
        match claim:
            case Alive():
                self._alive(peer, signed, claim, now)
            case Left():
                self._left(peer, signed, claim, now)
            case Accusation():
                self._accusation(peer, signed, claim, now)
        self._exchange.learned(claim.subject, now)

    def _judge(self, claim: Alive | Left | Accusation, record: Record | None) -> Verdict:
        if record is None:
            return Verdict.UNPROVEN if isinstance(claim, Accusation) else Verdict.NEWS
        return precedence(claim, record.incarnation, record.held)

    def _alive(self, peer: ReplicaId, signed: Signed, claim: Alive, now: Now) -> None:
        record = self._roster.get(claim.subject)
        verdict = self._judge(claim, record)
        if verdict is Verdict.KNOWN and record is not None and record.alive is not None and outranks(claim, record.alive):
            verdict = Verdict.NEWS
            self._counters["claims_equivocal"] += 1
        if verdict is not Verdict.NEWS:
            self._remember(signed)
            if verdict is Verdict.STALE and peer == claim.subject and record is not None:
                self.tell(record, now)
            return
        if not self._is_valid(signed):
            return
        record = self._roster.obtain(claim.subject, now.monotonic)
        self._clear_accusations(record, now)
        before, known = record.state, record.alive
        record.claim, record.left = signed, None
        record.address, record.name = claim.address, claim.name
        if before is State.DEAD and self._exchange.is_said_dead(claim.subject):
            # A newcomer is told of somebody who went before it came: no news for its user.
            self._roster.become(record, State.DEAD, now.monotonic, alone=True)
        else:
            self._roster.become(record, State.ALIVE, now.monotonic)
            self._report_alive(record, claim, before, known)
        self._publish(signed, record, hearsay=peer != claim.subject, was_member=before in LIVING)

    def _report_alive(self, record: Record, claim: Alive, before: State, known: Alive | None) -> None:
        if before is not State.ALIVE:
            self._port.notify(MemberUp(claim.subject, claim.name, claim.address, claim.incarnation))
        elif known is None or known[2:6] != claim[2:6]:
            self._port.notify(MemberUpdated(claim.subject, claim.name, claim.address, claim.incarnation))

    def _left(self, peer: ReplicaId, signed: Signed, claim: Left, now: Now) -> None:
        record = self._roster.get(claim.subject)
        if self._judge(claim, record) is not Verdict.NEWS:
            self._remember(signed)
            return
        if not self._is_valid(signed):
            return
        record = self._roster.obtain(claim.subject, now.monotonic)
        was_member = record.state in LIVING
        self._clear_accusations(record, now)
        record.left = signed
        self._roster.become(record, State.LEFT, now.monotonic)
        if was_member:
            self._port.notify(MemberLeft(claim.subject, record.name))
        self._publish(signed, record, hearsay=peer != claim.subject, was_member=False)

    def _clear_accusations(self, record: Record, now: Now) -> None:
        """The subject has spoken. An accuser whom nobody joined was wrong."""
        if record.state is State.SUSPECT:
            record.credit.spoke_up(now.monotonic)
            if len(record.accusations) == 1 and len(self._roster) > SMALL_MESH:
                self.quota.was_wrong(next(iter(record.accusations)), now.monotonic)
        record.accusations.clear()
        record.suspicion = None

    def _publish(self, signed: Signed, record: Record, *, hearsay: bool, was_member: bool) -> None:
        """`was_member`: so it knows all others, and has told them itself if they are few."""
        self._remember(signed)
        self.changed[record.replica] = None
        # What a newcomer learns from the mesh is no news to the mesh.
        if self._exchange.settled or not hearsay:
            self._news.add(signed, self._fanout(told_to_all=was_member))

    def _fanout(self, *, told_to_all: bool) -> int:
        return RELAYED_TO if told_to_all and self._is_small() else self._config.push_fanout

    def _is_small(self) -> bool:
        """Whether a signer tells everybody itself."""
        return len(self._roster.living) <= self._config.push_all_max

    # ---- accusations

    def _accusation(self, peer: ReplicaId, signed: Signed, claim: Accusation, now: Now) -> None:
        record = self._roster.get(claim.subject)
        verdict = self._judge(claim, record)
        if verdict is Verdict.UNPROVEN:
            self._counters["accusations_unproven"] += 1
            if now.monotonic - self._asked_at >= self._config.push_spacing_seconds:
                self._asked_at = now.monotonic
                self._exchange.want(peer, [claim.subject])
            return
        if verdict is Verdict.STALE or record is None or not self._adds(record, claim):
            self._remember(signed)
            return
        if record.state is State.DEAD:
            self._complete_proof(record, signed, claim, now)
        elif not self._has_standing(claim):
            self._look_myself(record, signed, now)
        elif not self.quota.allows(claim.accuser, now.monotonic):
            self._counters["accusations_over_quota"] += 1
        elif self._is_valid(signed):
            self.quota.accused(claim.accuser, now.monotonic)
            self._remember(signed)
            self._suspect(record, signed, claim, now)

    def _adds(self, record: Record, claim: Accusation) -> bool:
        """Whether an accusation says more than those that we hold."""
        held = record.accusations.get(claim.accuser)
        reasons = record.suspicion.reasons.values() if record.suspicion is not None else ()
        hastens = claim.reason is Reason.REFUSED and sum(reason is Reason.REFUSED for reason in reasons) < ACCUSATIONS_GIVEN
        if held is not None:
            return hastens and isinstance(held.claim, Accusation) and held.claim.reason is not Reason.REFUSED
        if record.state is State.DEAD:
            return len(record.accusations) < ACCUSATIONS_GIVEN
        return hastens or len(record.accusations) < max(ACCUSATIONS_GIVEN, self._config.confirmations + 1)

    def _has_standing(self, claim: Accusation) -> bool:
        """Whether the accuser is one of us and has not had to refute something since."""
        accuser = self._roster.get(claim.accuser)
        return accuser is not None and accuser.state in LIVING and claim.standing >= accuser.incarnation

    def _look_myself(self, record: Record, signed: Signed, now: Now) -> None:
        """Accused by somebody who was not among us: after a cut, each side brings its accusations along. The accused is told, so
        that it can answer, and asked; but nobody here is alarmed.
        """
        self._counters["accusations_from_outside"] += 1
        if now.monotonic - record.checked_at >= self._config.probe_interval_seconds and self._is_valid(signed):
            record.checked_at = now.monotonic
            self._port.send(record.replica, Lane.LIVENESS, Frame.CLAIM, signed.raw)
            self._look(record.replica, now.monotonic)

    def _complete_proof(self, record: Record, signed: Signed, claim: Accusation, now: Now) -> None:
        if not self._is_valid(signed):
            return
        self._remember(signed)
        record.accusations[claim.accuser] = signed
        if record.buried_alone and len(record.accusations) >= accusers_needed(len(self._roster) + 1):
            self._roster.become(record, State.DEAD, now.monotonic)

    def accuse(self, record: Record, reason: Reason, now: Now) -> bool:
        """My own probe failed. False when my word adds nothing."""
        claim = Accusation(record.replica, record.incarnation, self._myself.replica, self._myself.incarnation, reason)
        if claim.incarnation < 0 or not self._adds(record, claim):
            return False
        self._suspect(record, seal(claim, self._sign), claim, now)
        return True

    def is_settled(self, member: ReplicaId) -> bool:
        """Accused by as many as can make a difference."""
        record = self._roster.get(member)
        return record is not None and len(record.accusations) > self._config.confirmations

    def _suspect(self, record: Record, signed: Signed, claim: Accusation, now: Now) -> None:
        record.accusations[claim.accuser] = signed
        suspicion = record.suspicion
        if suspicion is None:
            suspicion = record.suspicion = Suspicion(now.monotonic, record.credit.factor(now.monotonic))
        suspicion.reasons[claim.accuser] = claim.reason
        if claim.accuser == self._myself.replica and self._is_small():
            self._send_to(self._roster.living, signed)
            self._news.add(signed, 0)
        else:
            self._news.add(signed, self._fanout(told_to_all=True))
        if record.state is State.ALIVE:
            self._roster.become(record, State.SUSPECT, now.monotonic)
            self._counters["suspicions"] += 1
            self._port.notify(MemberSuspected(record.replica, record.name, (claim.accuser,)))
            if claim.accuser != self._myself.replica:
                self._check_in_turn(record, now)
        else:
            self._roster.touched(record)

    def _check_in_turn(self, record: Record, now: Now) -> None:
        """Be one of those who probe a fresh suspect out of turn, some at once and some more after each pause, until enough
        accuse it (`is_worth_a_look`). All members compute the same order, of those who are not under suspicion themselves.
        """
        suspects, interval = self._roster.suspects, self._config.probe_interval_seconds
        fit, me = len(self._roster) - len(suspects), self._myself.replica
        place_of_mine = bisect_left(self._roster.living, me) - sum(suspect < me for suspect in suspects)
        lot = blake2b(record.replica + record.incarnation.to_bytes(4, "big"), digest_size=4).digest()
        turn = (place_of_mine - int.from_bytes(lot, "big")) % fit
        group, place = divmod(turn, self._config.checkers)
        delay = interval * (group * CHECK_PAUSE_INTERVALS + place / CHECKS_PER_INTERVAL)
        if delay < self._config.suspicion_max_seconds:
            self._look(record.replica, now.monotonic + delay)

    def is_worth_a_look(self, member: ReplicaId) -> bool:
        """Whether a probe out of turn can still make a difference."""
        record = self._roster.get(member)
        return record is not None and record.state in LIVING and not self.is_settled(member)

    def is_unrefused(self, record: Record) -> bool:
        """Whether my word that its machine refused us would still hasten anything."""
        claim = Accusation(record.replica, record.incarnation, self._myself.replica, self._myself.incarnation, Reason.REFUSED)
        return record.state in LIVING and self._adds(record, claim)

    # ---- burials

    def tick(self, now: Now) -> None:
        """Ask suspects again, bury those whose time is over."""
        asked = 0
        for replica in sorted(self._roster.suspects):
            record = self._roster.suspects[replica]
            suspicion, ends_at = record.suspicion, self._ends_at(record)
            if suspicion is None or ends_at == inf:
                continue
            if ends_at <= now.monotonic:
                self._bury(record, now)
            elif self._asks_at(record, suspicion, ends_at) <= now.monotonic:
                suspicion.asked += 1
                asked += 1
                if asked <= LAST_WORDS_AT_ONCE:
                    self._ask(replica, now)

    @property
    def deadline(self) -> float:
        earliest = inf
        for record in self._roster.suspects.values():
            ends_at = self._ends_at(record)
            if record.suspicion is not None:
                ends_at = min(ends_at, self._asks_at(record, record.suspicion, ends_at))
            earliest = min(earliest, ends_at)
        return earliest

    def stood_still(self, seconds: float, now: Now) -> None:
        """Whoever spoke up meanwhile waits in our socket, or was lost there: read that first, and ask once more."""
        grace = now.monotonic + min(seconds, self._config.suspicion_refused_seconds)
        for record in self._roster.suspects.values():
            if record.suspicion is not None:
                record.suspicion.not_before = grace
                record.suspicion.asked = 0

    def _ends_at(self, record: Record) -> float:
        """Infinite while too few accuse."""
        members = len(self._roster)
        if record.suspicion is None or len(record.accusations) < accusers_needed(members):
            return inf
        return record.suspicion.ends_at(self._config, members, record.heard)

    def _asks_at(self, record: Record, suspicion: Suspicion, ends_at: float) -> float:
        """When a suspect is asked once more, directly, before its time ends: a living one that missed everything answers in time.

        Twice, since at 10% loss one question of five stays without an answer.
        """
        if suspicion.asked >= LAST_QUESTIONS or ends_at == inf:
            return inf
        before = min(2 * self._patience(record.replica), self._config.suspicion_refused_seconds / 2)
        return ends_at - before / (1 + suspicion.asked)

    def _bury(self, record: Record, now: Now) -> None:
        record.suspicion = None
        self._roster.become(record, State.DEAD, now.monotonic)
        self.changed[record.replica] = None
        self._port.notify(MemberDown(record.replica, record.name, tuple(sorted(record.accusations))))

    def bury_alone(self, record: Record, now: Now) -> None:
        """We hear nobody at all. Nothing is signed, and one sign of life undoes it."""
        record.suspicion = None
        record.accusations.clear()
        self._roster.become(record, State.DEAD, now.monotonic, alone=True)
        self._port.notify(MemberDown(record.replica, record.name, ()))

    def revive(self, record: Record, now: Now) -> None:
        """Undo what only we ourselves had concluded."""
        claim = record.alive
        if record.state is State.DEAD and record.buried_alone and claim is not None:
            record.accusations.clear()
            self._roster.become(record, State.ALIVE, now.monotonic)
            self._port.notify(MemberUp(claim.subject, claim.name, claim.address, claim.incarnation))
            self._look(record.replica, now.monotonic)

    # ---- talk with and about the subject

    def tell(self, record: Record, now: Now) -> None:
        """Let a member know what is believed of it, so that it can answer. At most once per probe interval."""
        if now.monotonic - record.told_at >= self._config.probe_interval_seconds:
            record.told_at = now.monotonic
            for signed in record.signed(ACCUSATIONS_GIVEN):
                self._port.send(record.replica, Lane.LIVENESS, Frame.CLAIM, signed.raw)

    def buddy_notice(self, record: Record) -> None:
        """Lifeguard's buddy system: whoever is suspected hears so with whatever is sent to it."""
        for accuser in sorted(record.accusations)[:ACCUSATIONS_GIVEN]:
            self._port.send(record.replica, Lane.LIVENESS, Frame.CLAIM, record.accusations[accuser].raw)

    def _about_me(self, peer: ReplicaId, signed: Signed, now: Now) -> None:
        match signed.claim:
            case Accusation() as claim:
                self._accused(peer, signed, claim, now)
            case Alive() | Left() as claim:
                if not self._myself.has_said(signed.id):
                    self._spoken_for(peer, signed, claim)

    def _accused(self, peer: ReplicaId, signed: Signed, claim: Accusation, now: Now) -> None:
        me = self._myself
        if claim.incarnation > me.incarnation:
            self._exchange.want(peer, [me.replica])  # they must hold a claim of mine that I have forgotten
        elif claim.incarnation < me.incarnation or me.left is not None:
            self._port.send(peer, Lane.LIVENESS, Frame.CLAIM, me.newest.raw)
        else:
            self._refute(peer, signed, claim, now)

    def _refute(self, peer: ReplicaId, signed: Signed, claim: Accusation, now: Now) -> None:
        """An accuser that is over its quota is ignored by all others, too, unless somebody else passes its accusation on:
        that one seems to believe it. Passing on what is not true uses up one's own quota.
        """
        heeded = [member for member in (claim.accuser, peer) if self.quota.allows(member, now.monotonic)]
        if not heeded:
            self._counters["accusations_over_quota"] += 1
        elif self._is_valid(signed):
            self.quota.was_wrong(heeded[0], now.monotonic)
            self._health.worse()
            self._counters["refutations"] += 1
            self.proclaim(self._myself.announce(over=signed.id), {peer, claim.accuser})

    def _spoken_for(self, peer: ReplicaId, signed: Signed, claim: Alive | Left) -> None:
        """A claim in my name that this start did not make."""
        me = self._myself
        another = isinstance(claim, Alive) and me.is_proof_of_another(claim)
        if not (another or me.must_answer(claim)) or (another and me.contested) or me.left is not None:
            return
        if not self._is_valid(signed):
            return
        if another and isinstance(claim, Alive):
            me.contested = True
            self._counters["identity_in_use"] += 1
            self._port.notify(IdentityInUse(me.replica, claim.address))
        self.proclaim(me.announce(over=signed.id, above=claim.incarnation), {peer})

    def proclaim(self, mine: Signed, also: set[ReplicaId], *, to_all: bool = True) -> None:
        """Send a claim of mine to everybody myself, in a small mesh, or let gossip do it; `also` get it in any case."""
        self._roster.set_mine(mine.claim.incarnation, self._myself.birth, left=isinstance(mine.claim, Left))
        everybody = to_all and self._is_small()
        self._news.add(mine, 0 if everybody else self._config.push_fanout)
        self._send_to(also.union(self._roster.living) if everybody else also, mine)

    def _send_to(self, members: Iterable[ReplicaId], signed: Signed) -> None:
        for member in sorted(members):
            if member != self._myself.replica:
                self._port.send(member, Lane.LIVENESS, Frame.CLAIM, signed.raw)

    # ---- helpers

    def _is_valid(self, signed: Signed) -> bool:
        if verified(signed, self._verify):
            self._counters["claims_verified"] += 1
            return True
        self._counters["claims_refused"] += 1
        return False

    def _remember(self, signed: Signed) -> None:
        self._seen[signed.raw] = None
        while len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
