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

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final

from crdt.ids import REPLICA_ID_BYTES, ReplicaId, ShelfId
from crdt.ops import Op, Path, Rights
from mesh.effects import Now
from mesh.errors import Malformed, Refused
from mesh.events import CharterRaised, Event, InviteReused, KeyReplaced, MemberRevoked, SerialReused
from mesh.fair import loser
from mesh.trust.contest import SETTLED_SECONDS
from mesh.trust.endings import Cut, Endings, Fork
from mesh.trust.identity import Identity, key_id
from mesh.trust.keys import KeyInfo, list_keys
from mesh.trust.ledger import Ledger
from mesh.trust.membership import presented_untrusted
from mesh.trust.standing import SECOND, Admission, Before, Grant, Verdict
from mesh.trust.statement_set import StatementSet
from mesh.trust.statements import (
    Charter,
    Closing,
    Credential,
    Enrolment,
    Genesis,
    Invite,
    KeyId,
    Limits,
    Opaque,
    Revocation,
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
from mesh.trust.verify import is_verified
from mesh.wire.crypto import LIBSODIUM, Crypto

WAITING_MAX: Final = 64
"""Statements whose issuer is unknown; whoever brought most loses its oldest. DESIGN section 8."""
RESTORE_PASSES_MAX: Final = 6
"""Two are enough, unless witnesses of one contest joined by another, or one more for each level of delegation."""
_RESTORE_ORDER: Final = (Charter, Credential, Invite, Opaque, Revocation, Enrolment, Witness, Closing, Genesis, Cut, Fork)
"""Issuers before what they issued."""


class Directory:
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
        self._waiting: dict[StatementId, Statement] = {}
        self._brought: dict[StatementId, ReplicaId | None] = {}
        self._added: list[bytes] = []
        self._reported: set[KeyId] = set()
        self._serials: dict[int, StatementId] = {}
        self._take(statement_from_bytes_untrusted(charter), None)

    # --- the set

    @property
    def mesh_id(self) -> bytes:
        return self._mesh_id

    @property
    def digest(self) -> bytes:
        """16 bytes, equal where the sets are equal."""
        return self._set.digest

    def ids(self, after: bytes = b"", until: bytes | None = None, limit: int | None = None) -> list[StatementId]:
        """Ids of the set in (after, until], ascending, at most `limit`."""
        return self._set.ids(after, until, limit)

    def raw(self, identifier: bytes) -> bytes | None:
        """A statement as it travels; None when it is not in the set."""
        statement = self._set.get(identifier)
        return None if statement is None else statement.raw

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

    def restore(self, raws: Iterable[bytes]) -> list[str]:
        """Takes what an own file or disk held, in any order: what stands there counts as known for long and is not told as news.

        Gives one line for each that was not taken.
        """
        refused: list[str] = []
        statements: list[Statement] = []
        for raw in raws:
            try:
                statements.append(statement_from_bytes_untrusted(raw))
            except Malformed as error:
                refused.append(f"statement {statement_id(raw).hex()}: {error}")
        statements.sort(key=lambda each: (_RESTORE_ORDER.index(type(each.content)), getattr(each.content, "serial", 0), each.id))
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

    # --- what follows from the set

    @property
    def charter(self) -> Charter:
        """The newest."""
        return self._ledger.charter

    @property
    def limits(self) -> Limits:
        return self._ledger.charter.limits

    @property
    def endings(self) -> Endings:
        """What ends shelves."""
        return self._ledger.endings

    @property
    def serial_max(self) -> int:
        """The highest serial of any statement."""
        return self._ledger.serial_max

    def genesis(self) -> tuple[bytes, Genesis] | None:
        return self._ledger.newest_genesis()

    def replicas(self) -> list[ReplicaId]:
        """Who has or had rights, ascending."""
        return sorted(self._ledger.standings)

    def public_key(self, replica: ReplicaId) -> bytes | None:
        standing = self._ledger.standings.get(replica)
        return None if standing is None else standing.public_key

    def replica_of(self, public_key: bytes) -> ReplicaId:
        """Whose key this is, or would be."""
        return self._ledger.replica_of(key_id(public_key))

    def public_keys(self, replica: ReplicaId, shelf: ShelfId, seq: int) -> list[bytes]:
        """The keys that may have signed header `seq` of a shelf of this replica, the newest first."""
        standing = self._ledger.standings.get(replica)
        return [] if standing is None else [key for key in standing.keys if standing.may_sign(key, shelf, seq)]

    def keys_ever(self, replica: ReplicaId) -> list[bytes]:
        """Every key that it was ever entitled to, the newest first."""
        standing = self._ledger.standings.get(replica)
        return [] if standing is None else standing.keys

    def open_keys(self, replica: ReplicaId) -> list[bytes]:
        """The keys that it may use now, the newest first: also the former one, until it is closed."""
        standing = self._ledger.standings.get(replica)
        return [] if standing is None else standing.open_keys

    def signing_key(self, shelf: ShelfId, seq: int, rights: Rights) -> bytes | None:
        """The one key that may have signed delta `seq`, written under `rights`."""
        standing = self._ledger.standings.get(ReplicaId(shelf[:REPLICA_ID_BYTES]))
        grant = None if standing is None else standing.grants.get(rights.credential)
        if standing is None or grant is None:
            return None if standing is None else standing.public_key
        return grant.public_key if standing.may_sign(grant.public_key, shelf, seq) else None

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

    def has_open_former_keys(self, me: Identity) -> bool:
        """Whether this is the key of a rotation whose former keys the replica has not closed."""
        standing = self._ledger.standings.get(me.replica_id)
        if standing is None or standing.public_key != me.public_key or len(standing.keys) < 2:
            return False
        serial = min(each.serial for each in standing.grants.values() if each.public_key == me.public_key)
        rotated = self._ledger.rotated_keys(me.replica_id, serial)
        return bool(rotated) and not self._ledger.is_closed(me.replica_id, serial)

    def delegator_of(self, grant: Grant) -> ReplicaId | None:
        """Who let the holder of this grant in; None: the authority."""
        issued = self._ledger.invites.get(grant.invite, {}).values() if grant.invite is not None else ()
        return next((each.delegator for each in issued if each.serial == grant.serial), None)

    def below(self, replica: ReplicaId) -> list[ReplicaId]:
        """Who was let in by it, or by those, the nearest first."""
        return self._ledger.below(replica)

    def become(self, identity: Identity) -> None:
        """This replica signs with another key from now on."""
        self._identity = identity

    def credential(self, replica: ReplicaId) -> Grant | None:
        """The newest, revoked or not."""
        standing = self._ledger.standings.get(replica)
        return None if standing is None else standing.newest

    def grant_of(self, replica: ReplicaId, public_key: bytes) -> Grant | None:
        """The newest credential of one of its keys."""
        standing = self._ledger.standings.get(replica)
        grants = [] if standing is None else [each for each in standing.grants.values() if each.public_key == public_key]
        return max(grants, key=lambda each: each.serial, default=None)

    def rights(self, replica: ReplicaId) -> Rights | None:
        """What its next delta is written under; None when it has no rights (any longer).

        Of this replica itself: by the key that it signs with. One that a rotation put out of use still speaks until the
        replica closes it.
        """
        standing = self._ledger.standings.get(replica)
        if standing is None or standing.revoked:
            return None
        serial: int | None = standing.newest.serial
        if self._identity is not None and self._identity.replica_id == replica:
            serial = standing.open_serial(self._identity.public_key)
        return None if serial is None else Rights(serial, self._ledger.charter.serial)

    def revoked(self, replica: ReplicaId) -> bool:
        standing = self._ledger.standings.get(replica)
        return standing is not None and standing.revoked

    def revocations_of(self, replica: ReplicaId) -> list[bytes]:
        """The statements that took its rights, or those of the invite that it redeemed: it should hear them, too. Looks at
        the whole set."""
        standing = self._ledger.standings.get(replica)
        subjects = {bytes(replica)} | {grant.invite for grant in standing.grants.values() if grant.invite} if standing else set()
        contents = ((each.content, each.raw) for each in self._set)
        return [raw for content, raw in contents if isinstance(content, Revocation | Cut) and content.subject in subjects]

    def admission(self, replica: ReplicaId, now: Now) -> Admission:
        """Whether sessions with it may be open now, by this machine's clock. State never depends on it."""
        standing = self._ledger.standings.get(replica)
        return Admission.UNKNOWN if standing is None else standing.admission(now)

    def expired(self, now: Now) -> list[ReplicaId]:
        """Whose credential has run out by this machine's clock, ascending: their sessions are to be closed."""
        if self._expiring is None:
            standings = self._ledger.standings
            self._expiring = [each for each in self.replicas() if standings[each].newest.terms.expires is not None]
        return [each for each in self._expiring if self.admission(each, now) is Admission.EXPIRED]

    def verdict(self, shelf: ShelfId, seq: int, rights: Rights) -> Verdict:
        """Whether delta `seq` of `shelf`, written under `rights`, counts: UNKNOWN means that a statement may still be on its
        way."""
        return self._ledger.verdict(shelf, seq, rights)

    def knows(self, replica: ReplicaId, rights: Rights) -> bool:
        """Whether what `replica` wrote under these rights can be judged: if not, a statement may still be on its way."""
        return self._ledger.knows(replica, rights)

    def honoured(self, shelf: ShelfId, seq: int, rights: Rights) -> bool:
        """`verdict` is HONOURED."""
        return self._ledger.verdict(shelf, seq, rights) is Verdict.HONOURED

    def may_write(self, replica: ReplicaId, rights: Rights, path: Path) -> bool:
        """Whether the credential that these rights name allows the path. An unknown serial is no right."""
        return self._ledger.may_write(replica, rights, path)

    def is_critical(self, path: Path) -> bool:
        """Whether ordinary writes there are void, by the newest charter."""
        return self._ledger.is_critical(path)

    def allowed(self, op: Op, host: ShelfId) -> bool:
        """Whether an op on the shelf `host` is within the rights that it names. A function of the statements; 1 us."""
        return self._ledger.allowed(op, host)

    def void_ops(self, shelf: ShelfId, seq: int, rights: Rights, ops: Sequence[Op]) -> int:
        """Mask of the ops of one body that do not count: `verdict`, then `allowed`, then that nothing was laundered by
        issuing it again."""
        return self._ledger.void_ops(shelf, seq, rights, ops)

    def name(self, replica: ReplicaId) -> str:
        """For people, and different for every replica: of several of one name only the entitled one bears it bare."""
        return self._ledger.name(replica)

    def named(self, name: str) -> list[ReplicaId]:
        """Who bears this name, the entitled one first."""
        return self._ledger.named(name)

    def keys(self, now: Now) -> list[KeyInfo]:
        """Everything that `mesh keys show` lists, by name."""
        return list_keys(self._ledger, now)

    def open_invites(self, name: str) -> list[KeyId]:
        """Invites made out to this name that nobody is known to have redeemed and that are not revoked, ascending."""
        named = (key for key, issued in self._ledger.invites.items() if any(each.terms.name == name for each in issued.values()))
        return sorted(key for key in named if self._ledger.chosen(key) is None and not self._ledger.invite_is_revoked(key))

    def keys_of(self, key: KeyId) -> list[bytes]:
        """Every public key of this id that any statement names: of replicas, entitled or not, of invites, of authorities.
        Ascending."""
        invites = {each.invite_key for each in self._ledger.invites.get(key, {}).values()}
        authorities = {self._ledger.authorities[key]} if key in self._ledger.authorities else set()
        return sorted({*self._ledger.public_keys(key), *invites, *authorities})

    def is_known_key(self, public_key: bytes) -> bool:
        """Whether any statement names this very key."""
        return public_key in self.keys_of(key_id(public_key)) or self.replica_of(public_key) != key_id(public_key)

    def invite_of(self, grant: Grant) -> bytes | None:
        """The invite statement that a grant came by."""
        issued = self._ledger.invites.get(grant.invite, {}) if grant.invite is not None else {}
        found = [statement for statement, invite in issued.items() if invite.serial == grant.serial]
        return self.raw(min(found)) if found else None

    def charters(self) -> list[bytes]:
        """All charter statements, as they travel, ascending by serial."""
        charters = [(each.content.serial, each.id, each.raw) for each in self._set if isinstance(each.content, Charter)]
        return [raw for _, _, raw in sorted(charters)]

    # --- taking statements

    def _is_verified(self, statement: Statement) -> bool:
        return is_verified(statement, self._ledger, self._mesh_id, self._crypto.verify)

    def _take(self, statement: Statement, now: float | None) -> None:
        """Puts a verified statement into the set, then those that waited for it, and what this replica has to say about it.

        `now`: monotonic seconds; None: it is from the own disk, so its order is no evidence and it is no news.
        """
        queue = [statement]
        self._expiring = None
        while queue:
            each = queue.pop(0)
            if each is not statement and not self._is_ready(each):
                continue
            before = self._before(each)
            self._set.add(each)
            for identifier in self._ledger.add(each):
                self._set.discard(identifier)
            if each.id not in self._set:
                continue
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

    def _released(self, statement: Statement) -> list[Statement]:
        """Waiting statements that name a key which this one makes known."""
        match statement.content:
            case Charter(authorities=keys):
                issuers = {key_id(key) for key in keys}
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
