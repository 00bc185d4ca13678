"""The statements that a node knows and what they mean to it: the trust half of the peer core. Pure: no clock, disk or socket.

Two doors lead into one grow-only set:

    add_untrusted   from a member, by anti-entropy. Judges no time and no order, so that sets become equal: what the authority, an
                    invite's key or a member signed belongs to the set, whatever it says.
    admit           from whoever opens a session, about itself. Judges what may come in *now*: an invite that ran out, or that
                    another key redeemed before, is turned away here, by each receiver's own knowledge and clock.

What follows from the set (who may write where, who is revoked) is the `Ledger`'s to say, and the same on every replica with
the same set. A statement whose issuer is not known yet waits, `WAITING_MAX` of them; the next round of anti-entropy offers it
again.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final

from crdt.ids import ReplicaId
from crdt.native import mypyc_attr
from mesh.effects import Now
from mesh.errors import Malformed, Refused
from mesh.events import CharterRaised, Event, InviteReused, KeyReplaced, MemberRevoked, SerialReused
from mesh.fair import loser
from mesh.trust.contest import SETTLED_SECONDS
from mesh.trust.endings import Cut, Fork
from mesh.trust.identity import Identity, key_id
from mesh.trust.ledger import Ledger
from mesh.trust.membership import presented_untrusted
from mesh.trust.questions import Questions
from mesh.trust.standing import SECOND, Admission, Before
from mesh.trust.statement_set import StatementSet
from mesh.trust.statements import (
    Charter,
    Closing,
    Credential,
    Enrolment,
    Genesis,
    Handover,
    Invite,
    KeyId,
    Opaque,
    Revocation,
    Roll,
    Statement,
    StatementId,
    Witness,
    charter_from_bytes,
    check_honoured,
    issue,
    needed_keys,
    statement_from_bytes_untrusted,
    statement_id,
)
from mesh.trust.succession import Succession
from mesh.trust.verify import is_verified
from mesh.wire.cose import signed_part
from mesh.wire.crypto import LIBSODIUM, Crypto

WAITING_MAX: Final = 64
"""Statements whose issuer is unknown; whoever brought most loses its oldest. DESIGN section 8."""
RESTORE_PASSES_MAX: Final = 6
"""Two are enough, unless witnesses of one contest joined by another, or one more for each level of delegation."""
_RESTORE_ORDER: Final = (
    Handover,
    Roll,
    Charter,
    Credential,
    Invite,
    Opaque,
    Revocation,
    Enrolment,
    Witness,
    Closing,
    Genesis,
    Cut,
    Fork,
)
"""Issuers before what they issued."""


def _restore_order(statement: Statement) -> tuple[int, int, StatementId]:
    content = statement.content
    return _RESTORE_ORDER.index(type(content)), getattr(content, "serial", 0), statement.id


@mypyc_attr(allow_interpreted_subclasses=True)  # for copy.copy: an object without a call of __init__
class Directory(Questions):
    """All that this node knows about keys. `charter` is the root of trust: got by `mesh init` or in a token, never from the
    network."""

    def __init__(
        self,
        charter: bytes,
        *,
        identity: Identity | None = None,
        notify: Callable[[Event], None] | None = None,
        crypto: Crypto = LIBSODIUM,
    ) -> None:
        """`identity`: lets this replica witness contests of invites. Raises ConfigError when the charter is none."""
        root = charter_from_bytes(charter, crypto)
        self.drops: Counter[str] = Counter()
        """What was turned away or forgotten, by reason."""
        self._mesh_id = root.mesh_id
        self._identity = identity
        self._notify = notify
        self._crypto = crypto
        self._expiring: list[ReplicaId] | None = None
        """Members whose credential runs out at some time; None: to be looked for."""
        self._set = StatementSet()
        self._ledger = Ledger()
        self._succession = Succession(root)
        self._root = statement_from_bytes_untrusted(charter)
        self._waiting: dict[StatementId, Statement] = {}
        self._brought: dict[StatementId, ReplicaId | None] = {}
        self._added: list[bytes] = []
        self._reported: set[KeyId] = set()
        self._serials: dict[int, StatementId] = {}
        self._shared = False
        """Others read `_ledger`, `_set`, `_succession` and `_serials`, too: to be copied before they change."""
        self._take(self._root, None)

    def branch(self, *, identity: Identity | None = None, notify: Callable[[Event], None] | None = None) -> Directory:
        """The directory of another agent that knows the same, at once and for nothing: what is known is shared until one of the
        two learns more, which then makes a copy. Raises ValueError while `take_added` or `take_changed` have something to give:
        it would be told to one of them only.
        """
        if self.has_moved:
            raise ValueError("what moved in a directory is taken before it is shared")
        self._those_that_expire()
        other = copy.copy(self)
        other._identity, other._notify = identity, notify
        other.drops, other._waiting, other._brought, other._added, other._reported = Counter(), {}, {}, [], set()
        self._shared = other._shared = True
        return other

    def _own(self) -> None:
        """Before a change."""
        if self._shared:
            self._ledger, self._set, self._succession = self._ledger.copy(), self._set.copy(), self._succession.copy()
            self._serials, self._shared = dict(self._serials), False

    # --- the set

    @property
    def digest(self) -> bytes:
        """16 bytes, equal where the sets are equal."""
        return self._set.digest

    def ids(self, after: bytes = b"", until: bytes | None = None, limit: int | None = None) -> list[StatementId]:
        """Ids of the set in (after, until], ascending, at most `limit`."""
        return self._set.ids(after, until, limit)

    def statements(self) -> list[bytes]:
        """All of the set, ascending by id."""
        return [statement.raw for statement in self._set]

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add_untrusted(self, raw: bytes, now: Now, brought_by: ReplicaId | None = None) -> Statement | None:
        """Takes a statement from a member. Gives it when it is new in the set, None when it was known, waits or adds nothing.

        Others that waited for it come in with it: `take_added` has them all. Raises Malformed or Refused; then nothing changed.
        """
        identifier = statement_id(raw)
        if identifier in self._set or identifier in self._waiting:
            return None
        statement = statement_from_bytes_untrusted(raw)
        if self._is_verified(statement):
            self._take(statement, now.monotonic)
            return statement if identifier in self._set else None
        self._waiting[identifier] = statement
        self._brought[identifier] = brought_by
        if len(self._waiting) > WAITING_MAX:
            self._no_longer_waits(loser(self._brought))
            self.drops["waiting"] += 1
        return None

    def is_genuine_untrusted(self, raw: bytes) -> bool:
        """Whether this could be added: it is in the set, or signed by who may say so, as far as is known here."""
        try:
            held = self._set.get(statement_id(raw))
            if held is not None and signed_part(held.raw) == signed_part(raw):
                return True
            return self._is_verified(statement_from_bytes_untrusted(raw))
        except (Malformed, Refused):
            return False

    def restore(self, raws: Iterable[bytes]) -> list[str]:
        """Takes what an own file or disk held, in any order: what stands there counts as known for long and is not told as news.

        Gives one line for each that was not taken.
        """
        refused: list[str] = []
        statements: list[Statement] = []
        for raw in raws:
            identifier = statement_id(raw)
            try:
                if identifier not in self._set:
                    statements.append(statement_from_bytes_untrusted(raw))
            except Malformed as error:
                refused.append(f"statement {identifier.hex()}: {error}")
        statements.sort(key=_restore_order)
        complaints: list[str] = []
        # Once more as long as that helps: of a contested invite an enrolment may go before the witness that speaks for it comes.
        for _ in range(RESTORE_PASSES_MAX):
            before = self._set.digest
            complaints = [complaint for each in statements if (complaint := self._restore_one(each)) is not None]
            if self._set.digest == before:
                break
        return refused + complaints

    def _restore_one(self, statement: Statement) -> str | None:
        """Why it was not taken."""
        try:
            if statement.id in self._set:
                return None
            if self._is_verified(statement):
                self._take(statement, None)
                return None
            if isinstance(statement.content, Witness):
                return None  # was taken once, and its author is known as a contender now
            reason = "its issuer is unknown"
        except Refused as error:
            reason = str(error)
        return f"statement {statement.id.hex()}: {reason}"

    @property
    def has_moved(self) -> bool:
        """Whether `take_added` or `take_changed` has something to give."""
        return bool(self._added or self._ledger.changed)

    def take_added(self) -> list[bytes]:
        """Statements that are new in the set since the last call, in an order in which they can be added again: to store and
        to send on."""
        added, self._added = self._added, []
        return added

    def take_changed(self) -> list[ReplicaId]:
        """Replicas whose rights changed since the last call, ascending: what they wrote has to be judged anew."""
        changed = sorted(self._ledger.changed)
        self._ledger.changed.clear()
        return changed

    # --- the door

    def admit(self, public_key: bytes, presentation: bytes, now: Now) -> ReplicaId | None:
        """Whether who proved to hold `public_key` may have a session: its id, or None (`drops` says why).

        `presentation`: what it sent of its own statements (`Membership.presentation`), or one statement alone. Never raises.
        Costs one verification per statement that is new.
        """
        try:
            for raw in presented_untrusted(presentation):
                if statement_id(raw) not in self._set:
                    self._let_in(statement_from_bytes_untrusted(raw), public_key, now)
        except Malformed:
            self.drops["presentation malformed"] += 1
            return None
        except Refused as refusal:
            self.drops[str(refusal)] += 1
            return None
        replica = self.replica_of(public_key)
        if public_key not in self.open_keys(replica):
            self.drops["not a member"] += 1
            return None
        admission = self.admission(replica, now)
        if admission is not Admission.MEMBER:
            self.drops[admission.value] += 1
            return None
        return replica

    def _let_in(self, statement: Statement, public_key: bytes, now: Now) -> None:
        """Takes one statement that a stranger presents about itself. Raises Refused, with reasons from a fixed list."""
        match statement.content:
            case Credential(public_key=subject) | Enrolment(public_key=subject) if subject != public_key:
                raise Refused("presented another's credential")
            case Handover() | Roll():
                pass
            case Revocation() | Witness() | Closing() | Genesis() | Cut() | Fork() | Opaque():
                raise Refused("presented a statement that is not about itself")
        if not self._is_verified(statement):
            raise Refused("presented a statement of an unknown issuer")
        if isinstance(statement.content, Enrolment):
            self._check_invite(statement.issuer, public_key, now)
        self._take(statement, now.monotonic)

    def _check_invite(self, invite: KeyId, public_key: bytes, now: Now) -> None:
        issued = self._ledger.invites[invite]
        chosen = self._ledger.chosen(invite)
        if chosen is not None and chosen != public_key:
            self._report_reuse(invite, refused=key_id(public_key))
            raise Refused("invite used by another key")
        if self._ledger.invite_is_revoked(invite):
            raise Refused("invite revoked")
        if chosen is None and all(each.redeem_by is not None and now.wall >= each.redeem_by * SECOND for each in issued.values()):
            raise Refused("invite expired")

    # --- this replica's own key

    def close_former_keys(self, me: Identity, honoured: Sequence[tuple[int, int]], now: Now) -> bool:
        """After a rotation: says with the new key what the former ones signed, unless that was said. True when it did.

        `honoured`: (birth, last seq) of each of the replica's shelves that a former key signed.
        """
        if not self.has_open_former_keys(me):
            return False
        standing = self._ledger.standings[me.replica_id]
        serial = min(each.serial for each in standing.grants.values() if each.public_key == me.public_key)
        delegated = tuple(self._ledger.delegated_by(me.replica_id))
        raw = issue(Closing(serial, check_honoured(honoured), delegated), me, self._mesh_id)
        self._take(statement_from_bytes_untrusted(raw), now.monotonic)
        return True

    def become(self, identity: Identity) -> None:
        """This replica signs with another key from now on."""
        self._identity = identity

    # --- taking statements

    def _is_verified(self, statement: Statement) -> bool:
        if statement.id == self._root.id:
            return True
        return is_verified(statement, self._ledger, self._succession, self._mesh_id, self._crypto.verify)

    def _take(self, statement: Statement, now: float | None) -> None:
        """Puts a verified statement into the set, then those that waited for it, and what this replica has to say about it.

        `now`: monotonic seconds; None: it is from the own disk, so its order is no evidence and it is no news.
        """
        self._own()
        queue = [statement]
        self._expiring = None
        while queue:
            each = queue.pop(0)
            if each is not statement and not self._is_ready(each):
                continue
            before = self._before(each)
            self._set.add(each)
            gone, replaced = self._enter(each)
            for identifier in gone:
                self._set.discard(identifier)
            if each.id not in self._set:
                continue
            if replaced:
                self._rebuild()
            elif isinstance(each.content, Closing | Credential):
                self._recheck_forks(each)
            queue += self._released(each)
            if isinstance(each.content, Enrolment):
                queue += self._witness(each.issuer, before, now)
            serial: int | None = getattr(each.content, "serial", None)
            reused = serial is not None and self._serials.setdefault(serial, each.id) != each.id
            if now is not None:
                self._added.append(each.raw)
                self._tell(each, before)
                if serial is not None and reused:
                    self._emit(SerialReused(serial))

    def _enter(self, statement: Statement) -> tuple[list[StatementId], bool]:
        """Ids that leave the set, and whether another key or roll of the authority is in force."""
        match statement.content:
            case Handover():
                return self._succession.add_handover(statement, statement.content)
            case Roll():
                return [], self._succession.add_roll(statement, statement.content)
            case _:
                return self._ledger.add(statement), False

    def _recheck_forks(self, statement: Statement) -> None:
        """A key was closed: what it alone proves about shelves that were not its own leaves the set, whenever it came."""
        content = statement.content
        replica = content.subject if isinstance(content, Credential) else self._ledger.replica_of(statement.issuer)
        for identifier in sorted(self._ledger.endings.forks.get(replica, {})):
            proof = self._set.get(identifier)
            try:
                if proof is not None and self._is_verified(proof):
                    continue
            except Refused:
                self.drops["proof by a closed key"] += 1
            self._set.discard(StatementId(identifier))
            del self._ledger.endings.forks[replica][identifier]

    def _rebuild(self) -> None:
        """The authority's key was replaced: only what counts under the new one stays, and what stands on it."""
        before, former = sorted(self._set, key=_restore_order), self._ledger
        self._ledger, self._set = Ledger(), StatementSet()
        chain = set(self._succession.steps())
        left: list[Statement] = []
        for each in before:
            if each.id == self._root.id:
                self._ledger.add(each)
                self._set.add(each)
            elif isinstance(each.content, Handover):
                if each.id in chain:
                    self._set.add(each)
            elif isinstance(each.content, Roll):
                if self._succession.wants(each.content):
                    self._set.add(each)
            else:
                left.append(each)
        for _ in range(RESTORE_PASSES_MAX):
            left = [each for each in left if not self._stays(each)]
        for invite, contest in self._ledger.contests.items():
            if invite in former.contests:
                contest.settled_from = former.contests[invite].settled_from
        self._ledger.changed |= former.changed | former.standings.keys() | self._ledger.standings.keys()
        self._ledger.serial_max = max(self._ledger.serial_max, former.serial_max)

    def _stays(self, statement: Statement) -> bool:
        try:
            if not self._is_verified(statement):
                return False
        except Refused:
            return False
        self._set.add(statement)
        for identifier in self._ledger.add(statement):
            self._set.discard(identifier)
        return True

    def _released(self, statement: Statement) -> list[Statement]:
        """Waiting statements that name a key which this one makes known."""
        match statement.content:
            case Handover() | Roll():
                return list(self._waiting.values())
            case Credential(public_key=key):
                issuers = {key_id(key)}
            case Enrolment(public_key=key) | Invite(invite_key=key):
                issuers = {key_id(key)}
            case _:
                return []
        return [each for each in self._waiting.values() if not issuers.isdisjoint(needed_keys(each))]

    def _is_ready(self, statement: Statement) -> bool:
        """Whether a statement that waited can be taken now. Judged at the last moment: what was taken before it may matter."""
        if statement.id in self._set:
            return False
        try:
            if not self._is_verified(statement):
                return False
        except Refused:
            self.drops["waiting and forged"] += 1
            self._no_longer_waits(statement.id)
            return False
        self._no_longer_waits(statement.id)
        return True

    def _no_longer_waits(self, identifier: StatementId) -> None:
        self._waiting.pop(identifier, None)
        self._brought.pop(identifier, None)

    def _witness(self, invite: KeyId, before: Before, now: float | None) -> list[Statement]:
        """Marks since when the first enrolment is known, and speaks for it when a second comes (see `mesh.trust.contest`)."""
        contest = self._ledger.contests[invite]
        if before.chosen is None:
            contest.settled_from = -inf if now is None else now + SETTLED_SECONDS
            return []
        me = self._identity
        if me is None or now is None or now < contest.settled_from or before.contested or not contest.is_contested:
            return []
        if not self._ledger.counts_as_witness(me.replica_id) or not contest.wants_witness(me.replica_id):
            return []
        return [statement_from_bytes_untrusted(issue(Witness(invite, before.chosen), me, self._mesh_id))]

    # --- telling

    def _before(self, statement: Statement) -> Before:
        content = statement.content
        chosen, contested = None, False
        if isinstance(content, Enrolment):
            chosen = self._ledger.chosen(statement.issuer)
            contested = chosen is not None and self._ledger.contests[statement.issuer].is_contested
        charter = getattr(self._ledger, "charter", None)
        key = self.public_key(content.subject) if isinstance(content, Credential) else None
        return Before(chosen, contested, 0 if charter is None else charter.serial, key)

    def _tell(self, statement: Statement, before: Before) -> None:
        content = statement.content
        match content:
            case Credential(subject=replica, public_key=key) if before.key not in (None, key) and key == self.public_key(replica):
                self._emit(KeyReplaced(replica, self.name(replica), key))
            case Charter() if self._ledger.charter.serial > before.charter:
                self._emit(CharterRaised(self._ledger.charter.serial))
            case Revocation(subject=subject):
                for replica in sorted({ReplicaId(subject), *map(key_id, self._redeemers(subject))}):
                    if self.revoked(replica):
                        self._emit(MemberRevoked(replica, self.name(replica)))
            case Enrolment(public_key=public_key) if before.chosen not in (None, public_key):
                chosen = self._ledger.chosen(statement.issuer)
                loser = public_key if chosen == before.chosen else before.chosen
                if loser is not None:
                    self._report_reuse(statement.issuer, refused=key_id(loser))

    def _redeemers(self, invite: KeyId) -> list[bytes]:
        contest = self._ledger.contests.get(invite)
        return [] if contest is None else contest.keys

    def _report_reuse(self, invite: KeyId, refused: ReplicaId) -> None:
        """Once per invite: whoever holds its token could fill the log otherwise."""
        chosen = self._ledger.chosen(invite)
        if chosen is None or invite in self._reported:
            return
        self._reported.add(invite)
        names = [each.terms.name for each in self._ledger.invites[invite].values() if each.terms.name]
        self._emit(InviteReused(min(names, default=invite.hex()), key_id(chosen), refused))

    def _emit(self, event: Event) -> None:
        if self._notify is not None:
            self._notify(event)
