"""What follows from the statements that are known: every question that the rest of the peer core asks about keys."""

from __future__ import annotations

from collections.abc import Sequence

from crdt.ids import REPLICA_ID_BYTES, ReplicaId, ShelfId
from crdt.native import mypyc_attr
from crdt.ops import Op, Path, Rights
from mesh.effects import Now
from mesh.trust.endings import Cut, Endings
from mesh.trust.identity import Identity, key_id
from mesh.trust.keys import KeyInfo, list_keys
from mesh.trust.ledger import Ledger
from mesh.trust.limits import Limits
from mesh.trust.standing import Admission, Grant, Verdict
from mesh.trust.statement_set import StatementSet
from mesh.trust.statements import (
    Charter,
    Genesis,
    KeyId,
    Revocation,
    Roll,
    Statement,
)
from mesh.trust.succession import Seat, Succession
from mesh.trust.verify import is_of_authority


@mypyc_attr(allow_interpreted_subclasses=True)  # as `Directory`
class Questions:
    """Answers out of the set. `Directory` fills it."""

    _ledger: Ledger
    _set: StatementSet
    _succession: Succession
    _identity: Identity | None
    _root: Statement
    _mesh_id: bytes
    _expiring: list[ReplicaId] | None

    @property
    def mesh_id(self) -> bytes:
        return self._mesh_id

    def raw(self, identifier: bytes) -> bytes | None:
        """A statement as it travels; None when it is not in the set."""
        statement = self._set.get(identifier)
        return None if statement is None else statement.raw

    @property
    def authority_key(self) -> bytes:
        """The public key that is in force (the first, where a charter names several)."""
        return next(iter(self._succession.chain()[-1].keys.values()))

    def is_authority(self, public_key: bytes) -> bool:
        """Whether this key is in force."""
        return key_id(public_key) in self._succession.chain()[-1].keys

    @property
    def seat(self) -> Seat:
        """What a handover hands over."""
        return self._succession.chain()[-1]

    def handovers(self) -> list[bytes]:
        """From the charter's key to the one in force, as they travel."""
        return [raw for each in self._succession.steps() if (raw := self.raw(each)) is not None]

    def rolls(self) -> list[bytes]:
        """Pages of what former keys signed and still counts, as they travel."""
        return [each.raw for each in self._set if isinstance(each.content, Roll)]

    def of_authority(self) -> list[bytes]:
        """All that the authority signed and that counts, but for the first charter and handovers."""
        found = (each for each in self._set if is_of_authority(each.content) and each.id != self._root.id)
        return [each.raw for each in found]

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
        """(what the first block follows on, what it says) of the quorum's newest epoch."""
        return self._ledger.newest_genesis()

    @property
    def root(self) -> bytes:
        """The first charter, as it travels."""
        return self._root.raw

    def first_key(self, public_key: bytes) -> bytes:
        """Of whose key this is: the key that makes its replica id."""
        replica = self.replica_of(public_key)
        return next((each for each in self._ledger.public_keys(replica) if key_id(each) == replica), public_key)

    def genesis_raw(self) -> bytes | None:
        """The statement of `genesis`, as it travels."""
        found = self.genesis()
        return None if found is None else next(self.raw(each) for each, at in self._ledger.geneses.items() if at == found)

    def genesis_named(self, named: bytes) -> Genesis | None:
        """Of any epoch: what the genesis says that is named so."""
        return next((says for name, says in self._ledger.geneses.values() if name == named), None)

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

    def names_of(self, replica: ReplicaId) -> set[bytes]:
        """Ids under which its rights can be taken: its own, and those of the invites that it redeemed. None of a stranger."""
        standing = self._ledger.standings.get(replica)
        return {bytes(replica)} | {grant.invite for grant in standing.grants.values() if grant.invite} if standing else set()

    def revocations_of(self, replica: ReplicaId) -> list[bytes]:
        """The statements that took its rights, or those of the invite that it redeemed: it should hear them, too. Looks at
        the whole set."""
        subjects = self.names_of(replica)
        contents = ((each.content, each.raw) for each in self._set)
        return [raw for content, raw in contents if isinstance(content, Revocation | Cut) and content.subject in subjects]

    def admission(self, replica: ReplicaId, now: Now) -> Admission:
        """Whether sessions with it may be open now, by this machine's clock. State never depends on it."""
        standing = self._ledger.standings.get(replica)
        return Admission.UNKNOWN if standing is None else standing.admission(now)

    def expired(self, now: Now) -> list[ReplicaId]:
        """Whose credential has run out by this machine's clock, ascending: their sessions are to be closed."""
        return [each for each in self._those_that_expire() if self.admission(each, now) is Admission.EXPIRED]

    @property
    def expires(self) -> bool:
        """Whether any credential ever runs out by itself."""
        return bool(self._those_that_expire())

    def _those_that_expire(self) -> list[ReplicaId]:
        if self._expiring is None:
            standings = self._ledger.standings
            self._expiring = [each for each in self.replicas() if standings[each].newest.terms.expires is not None]
        return self._expiring

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

    def is_critical_below(self, prefix: Path) -> bool:
        """Whether ordinary writes are void somewhere at or below the prefix, by the newest charter."""
        return self._ledger.is_critical_below(prefix)

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
        authorities = {each for each in (self._succession.keys().get(key),) if each is not None}
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
