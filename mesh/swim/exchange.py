"""Comparing member lists, so that everyone learns everyone: joins, healed cuts, and whatever gossip missed.

    A                                             B
    | MEMBERS [hash of each of 16 buckets] -----> |
    | <---- MEMBER_ROWS [buckets, from, to, rows] |   only buckets that differ; 17 bytes a row: id, incarnation, finality, birth
    | MEMBER_WANT [ids] ------------------------> |   where B knows more: at most 64 members at a time
    | <------------------------- CLAIM, CLAIM ... |   the claims themselves, signed by their subjects
    | CLAIM ... or MEMBER_ROWS -----------------> |   where A knows more: the claims if few, else rows for B to choose from

Each PING and each ACK carries four bytes of the hash over the whole list, so that two members whose lists are equal, the usual
case, exchange nothing. A newcomer to 1,000 members gets 13 kB of rows and then pulls 150 kB of claims at its own pace.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from crdt.ids import REPLICA_ID_BYTES, ReplicaId
from mesh.effects import Now
from mesh.errors import Malformed
from mesh.port import Port
from mesh.swim.claims import Signed
from mesh.swim.config import SwimConfig
from mesh.swim.roster import BUCKET_HASH_BYTES, BUCKETS, Rank, Roster
from mesh.wire.cbor import decode_untrusted, encode
from mesh.wire.frames import Frame, Lane

ROW_BYTES: Final = REPLICA_ID_BYTES + 4 + 1 + 4
ROWS_PER_PAGE: Final = 60
"""1,020 bytes: a datagram."""
WANTED_AT_ONCE: Final = 64
"""Members asked for in one go: about 10 kB of claims, well below a socket's buffer."""
WANTED_MAX: Final = 1 << 13
"""Ids that wait to be asked of one peer. A mesh has fewer members; a liar's invented ones stop here, and in nobody's way."""
GIVEN_UNASKED: Final = 16
"""Members of whom claims are sent without being asked."""
TRIES: Final = 3
"""Times that one peer is asked for the same claims."""
PATIENCE_FACTOR: Final = 4.0
"""Round trips, by the measured estimate, before an answer counts as lost. Guess."""
AGREEING_ENOUGH: Final = 4
"""Members in a row that show our own hash, after which news has come round. Guess; whom it missed finds out by comparing."""
QUIET_INTERVALS: Final = 3
"""Probe intervals in which news reaches everybody. Measured: 99% in one."""
NOISY_INTERVALS: Final = 8
SMALL_LIST: Final = 64
"""While news keeps coming in, lists are compared only every so many probe intervals, less often the larger they are. Guess."""
ACCUSATIONS_GIVEN: Final = 2
"""As many as it takes to be believed."""
ALL_BUCKETS: Final = (1 << BUCKETS) - 1

_FIRST = ReplicaId(bytes(REPLICA_ID_BYTES))
_LAST = ReplicaId(b"\xff" * REPLICA_ID_BYTES)


class _Pull:
    """What is still wanted from one peer."""

    __slots__ = ("asked", "deadline", "queue", "tries")

    def __init__(self) -> None:
        self.queue: OrderedDict[ReplicaId, Rank] = OrderedDict()
        self.asked: dict[ReplicaId, Rank] = {}
        self.deadline = inf
        self.tries = 0


class Exchange:
    def __init__(
        self,
        config: SwimConfig,
        roster: Roster,
        port: Port,
        counters: Counter[str],
        *,
        mine: Callable[[], Signed],
        patience: Callable[[ReplicaId], float],
        agrees: Callable[[ReplicaId, Rank, Now], None],
        all_agree: Callable[[], None],
    ) -> None:
        """`patience`: seconds that an answer of this peer may take. `agrees`: a peer holds the same of a member as we do.
        `all_agree`: peer after peer has our list.
        """
        self._config, self._roster, self._port, self._counters = config, roster, port, counters
        self._mine, self._patience, self._agrees, self._all_agree = mine, patience, agrees, all_agree
        self._pulls: dict[ReplicaId, _Pull] = {}
        self._asked: set[ReplicaId] = set()
        """Of whom a claim is on its way, asked of one peer or another."""
        self._pause = config.probe_interval_seconds
        self._compared_at = -inf
        self._digest_then = 0
        self._agreeing: set[ReplicaId] = set()
        self._changed_at = 0.0
        self.settled = False
        """Whether we have the list of the mesh: before that, what we learn from others is no news to them."""

    # ---- when

    def noticed(self, peer: ReplicaId, digest: bytes, now: Now) -> None:
        """A peer's list has this hash. Compare when ours has been another one for a while: news on its way makes lists
        differ, too.
        """
        roster, at = self._roster, now.monotonic
        quiet_seconds = QUIET_INTERVALS * self._config.probe_interval_seconds
        if roster.digest != self._digest_then:
            self._digest_then, self._changed_at = roster.digest, at
            self._pause = quiet_seconds
            self._agreeing.clear()
        if digest == roster.short_digest():
            self.settled = True
            if len(self._agreeing) < AGREEING_ENOUGH and peer not in self._agreeing:
                self._agreeing.add(peer)
                if len(self._agreeing) >= min(AGREEING_ENOUGH, len(roster.living)):
                    self._all_agree()
            return
        quiet = at - self._changed_at >= quiet_seconds
        noisy_pause = NOISY_INTERVALS * self._config.probe_interval_seconds * max(1.0, len(roster) / SMALL_LIST)
        if at - self._compared_at >= (self._pause if quiet else max(noisy_pause, self._pause)):
            self._compared_at = at
            self._pause = min(self._pause * 2, self._config.exchange_interval_seconds)
            self.compare(peer)

    def compare(self, peer: ReplicaId) -> None:
        self._counters["list_comparisons"] += 1
        self._port.send(peer, Lane.FRESH, Frame.MEMBERS, encode([self._roster.bucket_digests()]))

    def want(self, peer: ReplicaId, members: Iterable[ReplicaId]) -> None:
        """Ask for claims out of turn; if the answer is lost, so be it."""
        self._port.send(peer, Lane.FRESH, Frame.MEMBER_WANT, encode([b"".join(members)]))

    # ---- being asked

    def members_untrusted(self, peer: ReplicaId, payload: bytes) -> None:
        """Raises Malformed."""
        match decode_untrusted(payload):
            case (bytes(theirs),) if len(theirs) == BUCKETS * BUCKET_HASH_BYTES:
                self._send_rows(peer, _differing(theirs, self._roster.bucket_digests()), final=False)
            case _:
                raise Malformed("not a member list's hashes")

    def _send_rows(self, peer: ReplicaId, buckets: int, *, final: bool) -> None:
        if not buckets:
            return
        ranks = self._roster.ranks(buckets)
        first = _FIRST
        for at in range(0, max(1, len(ranks)), ROWS_PER_PAGE):
            page = ranks[at : at + ROWS_PER_PAGE]
            last = _LAST if at + ROWS_PER_PAGE >= len(ranks) else page[-1][0]
            rows = b"".join(_row(replica, rank) for replica, rank in page)
            self._port.send(peer, Lane.FRESH, Frame.MEMBER_ROWS, encode([buckets, first, last, rows, final]))
            first = _successor(last)

    def want_untrusted(self, peer: ReplicaId, payload: bytes) -> None:
        """Raises Malformed."""
        match decode_untrusted(payload):
            case (bytes(ids),) if len(ids) % REPLICA_ID_BYTES == 0 and len(ids) <= WANTED_AT_ONCE * REPLICA_ID_BYTES:
                for at in range(0, len(ids), REPLICA_ID_BYTES):
                    self._give(peer, ReplicaId(ids[at : at + REPLICA_ID_BYTES]))
            case _:
                raise Malformed("not wanted members")

    def _give(self, peer: ReplicaId, member: ReplicaId) -> None:
        record = self._roster.records.peek(member)
        if member == self._roster.me:
            claims = [self._mine()]
        elif record is not None:
            claims = record.signed(ACCUSATIONS_GIVEN)
        else:
            claims = []
        for signed in claims:
            self._port.send(peer, Lane.FRESH, Frame.CLAIM, signed.raw)

    # ---- comparing

    def rows_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """Raises Malformed."""
        match decode_untrusted(payload):
            case (int(buckets), bytes(first), bytes(last), bytes(rows), bool(final)) if (
                0 < buckets <= ALL_BUCKETS
                and len(first) == len(last) == REPLICA_ID_BYTES
                and first <= last
                and len(rows) % ROW_BYTES == 0
            ):
                theirs = _rows_untrusted(rows)
            case _:
                raise Malformed("not member rows")
        mine = {replica: rank for replica, rank in self._roster.ranks(buckets) if first <= replica <= last}
        pull, give = self._pulls.setdefault(peer, _Pull()), []
        for replica, rank in theirs.items():
            held = mine.pop(replica, None)
            if replica == self._roster.me and held is not None and rank > held:
                self.want(peer, [replica])  # what they believe of me: I shall have to answer it
            elif held is None or rank > held:
                self._enqueue(pull, replica, rank)
            elif rank < held:
                give.append(replica)
            else:
                self._agrees(replica, rank, now)
        give += mine
        if not final:
            if len(give) <= GIVEN_UNASKED and not any(self._is_dead(replica) for replica in give):
                for replica in give:
                    self._give(peer, replica)
            else:
                self._send_rows(peer, buckets, final=True)
        self._ask_more(peer, pull, now)

    def _is_dead(self, replica: ReplicaId) -> bool:
        """Rows say so beforehand: claims alone would let a newcomer take it for alive until the accusations are there."""
        record = self._roster.records.peek(replica)
        return record is not None and record.rank is not None and record.rank.finality == 1

    def _enqueue(self, pull: _Pull, replica: ReplicaId, rank: Rank) -> None:
        """Also what another peer is still to be asked for: it may never answer."""
        if replica not in self._asked and len(pull.queue) < WANTED_MAX:
            pull.queue[replica] = rank

    def _ask_more(self, peer: ReplicaId, pull: _Pull, now: Now) -> None:
        if pull.asked:
            return
        while pull.queue and len(pull.asked) < WANTED_AT_ONCE:
            replica, rank = pull.queue.popitem(last=False)
            if replica not in self._asked and self._lacks(replica, rank):
                self._asked.add(replica)
                pull.asked[replica] = rank
        pull.tries = 0
        self._ask(peer, pull, now)

    def _ask(self, peer: ReplicaId, pull: _Pull, now: Now) -> None:
        if not pull.asked:
            del self._pulls[peer]
            self.settled = True
            return
        pull.tries += 1
        pull.deadline = now.monotonic + self._patience(peer) * PATIENCE_FACTOR
        self.want(peer, pull.asked)

    def is_said_dead(self, replica: ReplicaId) -> bool:
        """A claim of this member was asked for, and whoever is asked holds it for dead."""
        if replica not in self._asked:
            return False
        return any(pull.asked.get(replica, Rank(0, 0)).finality == 1 for pull in self._pulls.values())

    def stood_still(self, seconds: float) -> None:
        for pull in self._pulls.values():
            pull.deadline += seconds

    def learned(self, replica: ReplicaId, now: Now) -> None:
        """A claim about this member was taken up or turned out to be known."""
        if replica not in self._asked:
            return
        for peer, pull in list(self._pulls.items()):
            rank = pull.asked.get(replica)
            if rank is not None and not self._lacks(replica, rank):
                del pull.asked[replica]
                self._asked.discard(replica)
                self._ask_more(peer, pull, now)

    def tick(self, now: Now) -> None:
        """Ask again for what did not come, and give up on a peer that does not answer or has nothing to show for its rows."""
        for peer, pull in list(self._pulls.items()):
            if pull.deadline > now.monotonic:
                continue
            if pull.tries < TRIES:
                self._ask(peer, pull, now)
            else:
                self._asked.difference_update(pull.asked)
                pull.asked.clear()
                self._ask_more(peer, pull, now)

    @property
    def deadline(self) -> float:
        return min((pull.deadline for pull in self._pulls.values()), default=inf)

    def _lacks(self, replica: ReplicaId, rank: Rank) -> bool:
        record = self._roster.records.peek(replica)
        held = record.rank if record is not None else None
        if held is None or held.incarnation < rank.incarnation:
            return True
        # Accusations are weighed, not believed: that they were handed over is enough.
        return held < rank and not (record is not None and rank.finality == 1 and record.accusations)


def _differing(theirs: bytes, mine: bytes) -> int:
    """Bit by bucket."""
    size = BUCKET_HASH_BYTES
    return sum(1 << bucket for bucket in range(BUCKETS) if theirs[bucket * size :][:size] != mine[bucket * size :][:size])


def _row(replica: ReplicaId, rank: Rank) -> bytes:
    return replica + rank.incarnation.to_bytes(4, "big") + bytes([rank.finality]) + rank.birth.to_bytes(4, "big")


def _rows_untrusted(rows: bytes) -> dict[ReplicaId, Rank]:
    found: dict[ReplicaId, Rank] = {}
    for at in range(0, len(rows), ROW_BYTES):
        replica, row = ReplicaId(rows[at : at + REPLICA_ID_BYTES]), rows[at + REPLICA_ID_BYTES : at + ROW_BYTES]
        if row[4] > 2:
            raise Malformed("not a member row")
        found[replica] = Rank(int.from_bytes(row[:4], "big"), row[4], int.from_bytes(row[5:], "big"))
    return found


def _successor(replica: ReplicaId) -> ReplicaId:
    if replica == _LAST:
        return _LAST
    return ReplicaId((int.from_bytes(replica, "big") + 1).to_bytes(REPLICA_ID_BYTES, "big"))
