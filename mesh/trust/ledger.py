"""What follows from the statements: who has which rights. A function of the set, never of the order in which it came.

`add` takes verified statements and keeps every `Standing` current, so that a question is one look-up: `allowed` is asked for
every op. Rules that decide between statements of equal rank take the lowest serial or id, so that all replicas choose alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from crdt.ids import REPLICA_ID_BYTES, ReplicaId, ShelfId
from crdt.limits import CORE_TYPE
from crdt.native import state_of
from crdt.ops import DROPPED, KIND_MASK, Op, Path, Rights
from mesh.paths import is_reserved
from mesh.trust.contest import Contest
from mesh.trust.delegation import is_narrower
from mesh.trust.endings import Cut, Endings, Fork
from mesh.trust.identity import key_id
from mesh.trust.matching import PathPatterns
from mesh.trust.patterns import patterns_of
from mesh.trust.standing import Grant, Narrowing, Standing, Verdict
from mesh.trust.statements import (
    DELEGATIONS_MAX,
    Charter,
    Closing,
    Credential,
    Enrolment,
    Genesis,
    Honoured,
    Invite,
    KeyId,
    Revocation,
    Statement,
    StatementId,
    Terms,
    Witness,
)
from mesh.wire.cose import signed_part


class _Claim(NamedTuple):
    """One statement by which a key holds rights."""

    serial: int
    statement: StatementId
    """The credential or the enrolment."""
    source: StatementId
    """The credential or the invite."""
    public_key: bytes
    terms: Terms
    name: str
    invite: KeyId | None
    chosen_name: bool
    delegated: bool
    rotates: bool
    """Names the replica: another key than the first one's is meant."""

    @property
    def precedence(self) -> tuple[int, StatementId, StatementId]:
        return self.serial, self.statement, self.source


class Ledger:
    def __init__(self) -> None:
        self.standings: dict[ReplicaId, Standing] = {}
        self.contests: dict[KeyId, Contest] = {}
        self.invites: dict[KeyId, dict[StatementId, Invite]] = {}
        self.changed: set[ReplicaId] = set()
        """Replicas whose standing changed since the owner last emptied this."""
        self.serial_max = 0
        self.charter: Charter
        """The newest. Set by the first statement, which is a charter."""
        self.geneses: dict[StatementId, tuple[bytes, Genesis]] = {}
        """Of the quorum's epochs."""
        self._charters: dict[StatementId, Charter] = {}
        self._contested: set[KeyId] = set()
        self._critical: dict[int, PathPatterns] = {}
        self._credentials: dict[ReplicaId, dict[StatementId, Credential]] = {}
        self._redeemed: dict[ReplicaId, set[KeyId]] = {}
        self._revocations: dict[KeyId, dict[StatementId, Revocation]] = {}
        self.endings = Endings()
        self._closings: dict[ReplicaId, dict[int, tuple[StatementId, Closing]]] = {}
        self._rotated: dict[KeyId, ReplicaId] = {}
        """Of keys that do not make their replica's id: whose they are."""
        self._delegations: dict[ReplicaId, dict[StatementId, KeyId]] = {}
        """Invites by delegator."""
        self._signers: dict[StatementId, KeyId] = {}
        """Of delegations: the key that signed."""
        self._named: dict[str, tuple[ReplicaId, ...]] = {}
        """Nearly all alone: a set for each would take 200 bytes more."""

    def copy(self) -> Ledger:
        """With tables of its own."""
        other = Ledger()
        for name, value in state_of(self).items():
            setattr(other, name, _copied(value))
        return other

    # --- the statements

    def add(self, statement: Statement) -> list[StatementId]:
        """Takes a verified statement; gives the ids that the set need not keep any longer (see `mesh.trust.contest`)."""
        content = statement.content
        gone: list[StatementId] = []
        affected: set[ReplicaId] = set()
        match content:
            case Charter():
                self._charters[statement.id] = content
                self._read_charters()
                affected.update(self.standings)
            case Credential():
                subject = key_id(content.public_key) if content.replica is None else content.replica
                self._credentials.setdefault(subject, {})[statement.id] = content
                if content.replica is not None:
                    self._rotated[key_id(content.public_key)] = subject
                affected.add(subject)
            case Invite(invite_key=invite_key):
                self.invites.setdefault(key_id(invite_key), {})[statement.id] = content
                affected.update(self._contenders(key_id(invite_key)))
                if content.delegator is not None:
                    gone = self._delegate(content.delegator, statement, affected)
            case Enrolment():
                gone = self._change(statement.issuer, affected, lambda contest: contest.add_enrolment(statement, content))
            case Revocation(subject=subject):
                self._revocations.setdefault(subject, {})[statement.id] = content
                affected.update(self._contenders(subject), (ReplicaId(subject),))
            case Genesis():
                self.geneses[statement.id] = (signed_part(statement.raw), content)
            case Witness(invite=invite):
                member = self.replica_of(statement.issuer)
                gone = self._change(invite, affected, lambda contest: contest.add_witness(statement, member, content))
            case Cut(subject=cut):
                self.endings.add_cut(statement.id, content)
                affected.update((cut, content.host))
            case Fork():
                gone = [StatementId(each) for each in self.endings.add_fork(statement.id, content)]
            case Closing(serial=serial):
                owner = self.replica_of(statement.issuer)
                gone = self._close(owner, serial, statement.id, content)
                affected.add(owner)
        gone += self._drop_orphans(affected)
        self.serial_max = max(self.serial_max, getattr(content, "serial", 0))
        self._reconsider(affected, all_of_them=isinstance(content, Charter))
        return gone

    def public_keys(self, replica: KeyId) -> list[bytes]:
        """Every key of this id that a statement names as a member's, entitled or not. Ascending."""
        keys = {each.public_key for each in self._credentials.get(ReplicaId(replica), {}).values()}
        for invite in self._redeemed.get(ReplicaId(replica), ()):
            keys.update(key for key in self.contests[invite].keys if key_id(key) == replica)
        return sorted(keys)

    def replica_of(self, key: KeyId) -> ReplicaId:
        """Whose key has this id, or would have."""
        return self._rotated.get(key, ReplicaId(key))

    def rotated_keys(self, replica: ReplicaId, serial: int) -> list[bytes]:
        """The keys that a rotation of this serial brought: who may close the earlier ones."""
        credentials = self._credentials.get(replica, {}).values()
        return sorted({each.public_key for each in credentials if each.serial == serial and each.replica is not None})

    def is_closed(self, replica: ReplicaId, serial: int) -> bool:
        """Whether the keys before that of this serial are closed by the replica itself."""
        return serial in self._closings.get(replica, {})

    def joined_keys(self, replica: KeyId) -> list[bytes]:
        """Keys of this id that joined by a credential or by an invite that nobody contests: who may be a witness. Ascending."""
        keys = {each.public_key for each in self._credentials.get(ReplicaId(replica), {}).values()}
        for invite in self._redeemed.get(ReplicaId(replica), ()):
            if invite not in self._contested and not self._is_delegated(invite):
                keys.update(self.contests[invite].keys)
        return sorted(keys)

    def _is_delegated(self, invite: KeyId) -> bool:
        return all(each.delegator is not None for each in self.invites.get(invite, {}).values())

    # --- questions

    def verdict(self, shelf: ShelfId, seq: int, rights: Rights) -> Verdict:
        """Whether delta `seq` of `shelf`, written under `rights`, counts at all."""
        replica = ReplicaId(shelf[:REPLICA_ID_BYTES])
        standing = self.standings.get(replica)
        if standing is None or rights.credential not in standing.grants or rights.charter not in self._critical:
            return Verdict.VOID if self.knows(replica, rights) else Verdict.UNKNOWN  # it redeemed an invite that is another's
        return Verdict.HONOURED if standing.honours(shelf, seq, rights.credential) else Verdict.VOID

    def knows(self, replica: ReplicaId, rights: Rights) -> bool:
        """Whether the statements that these rights refer to are here: what is written under them can be judged."""
        standing = self.standings.get(replica)
        granted = standing is not None and rights.credential in standing.grants
        return rights.charter in self._critical and (granted or self._lost_contest(replica, rights.credential))

    def may_write(self, replica: ReplicaId, rights: Rights, path: Path) -> bool:
        """Whether the credential that these rights name allows the path. An unknown serial is no right."""
        standing = self.standings.get(replica)
        grant = None if standing is None else standing.grants.get(rights.credential)
        return grant is not None and rights.charter in self._critical and grant.patterns.matches(path)

    def allowed(self, op: Op, host: ShelfId) -> bool:
        """Whether this op, on the shelf `host`, is within the rights that it names."""
        replica = ReplicaId(op.origin[:REPLICA_ID_BYTES])
        if host[:REPLICA_ID_BYTES] != replica and not self.endings.may_host(replica, ReplicaId(host[:REPLICA_ID_BYTES])):
            return False  # only a cut lets one replica speak for another
        standing = self.standings.get(replica)
        grant = None if standing is None else standing.grants.get(op.rights.credential)
        critical = self._critical.get(op.rights.charter)
        if grant is None or critical is None:
            return False
        return _is_within(op, grant.patterns, critical)

    def void_ops(self, shelf: ShelfId, seq: int, rights: Rights, ops: Iterable[Op]) -> int:
        """Mask of the ops that do not count, of a body written by the owner of `shelf` under `rights` as its delta `seq`.

        An op issued again keeps the rights of its first issue. Where those have been narrowed since, nobody can see from the op
        whether it is old or made up now, so it must be within the rights of the delta, too.
        """
        credential, charter = rights
        standing, critical = self.standings.get(ReplicaId(shelf[:REPLICA_ID_BYTES])), self._critical.get(charter)
        grant = None if standing is None else standing.grants.get(credential)
        ops = tuple(ops)
        if standing is None or grant is None or critical is None or not standing.honours(shelf, seq, credential):
            return (1 << len(ops)) - 1  # `verdict` is not HONOURED
        patterns = grant.patterns
        anywhere = patterns.everything and not critical.texts
        usual: object = None  # a first segment that is not reserved: one object in all paths of a body that share it
        void = 0
        for index, op in enumerate(ops):
            _, _, path, _, _, origin, _, _, op_rights = op
            if origin == shelf and op_rights == rights:  # nearly all are: one look-up for the whole body
                if anywhere and (path[0] is usual or not is_reserved(path)):
                    usual = path[0]
                    continue
                allowed = _is_within(op, patterns, critical)
            else:
                allowed = self.allowed(op, shelf)
                own = op.origin[:REPLICA_ID_BYTES] == shelf[:REPLICA_ID_BYTES]
                if allowed and own and not standing.honours(shelf, seq, op.rights.credential):
                    allowed = self.allowed(op._replace(rights=rights), shelf)
            if not allowed:
                void |= 1 << index
        return void

    def is_critical(self, path: Path, charter: int | None = None) -> bool:
        """By the newest charter; with a serial: by that charter or any later one, so that no author escapes by naming an old one.

        An unknown charter may say anything: everything is critical by it.
        """
        critical = self._critical.get(self.charter.serial if charter is None else charter)
        return critical is None or critical.matches(path)

    def is_critical_below(self, prefix: Path) -> bool:
        """Whether the newest charter makes any path at or below the prefix critical."""
        critical = self._critical.get(self.charter.serial)
        return critical is None or critical.reach_below(prefix)

    def named(self, name: str) -> list[ReplicaId]:
        """Who bears this name, the one entitled to it first: not revoked, named by the authority, lowest serial, lowest id."""

        def precedence(replica: ReplicaId) -> tuple[bool, bool, int, ReplicaId]:
            standing = self.standings[replica]
            return standing.revoked, standing.newest.chosen_name, standing.newest.serial, replica

        return sorted(self._named.get(name, ()), key=precedence)

    def name(self, replica: ReplicaId) -> str:
        """For people, and different for every replica: of several of one name only the entitled one bears it bare."""
        standing = self.standings.get(replica)
        if standing is None:
            return replica.hex()
        name = standing.newest.name
        return name if self.named(name)[0] == replica else f"{name}~{replica.hex()[:8]}"

    def newest_genesis(self) -> tuple[bytes, Genesis] | None:
        """(what names it: `cose.signed_part`, what it says) of the quorum's newest epoch; of two for one the lower serial."""
        return min(self.geneses.values(), key=lambda each: (-each[1].epoch, each[1].serial, each[0]), default=None)

    def newest_invite(self, invite: KeyId) -> Invite:
        issued = self.invites[invite]
        return issued[min(issued, key=lambda each: (-issued[each].serial, each))]

    def counts_as_witness(self, replica: ReplicaId) -> bool:
        """Whether it joined without a contest and is not revoked. Does not depend on the outcome of any contest."""
        if not self.joined_keys(replica):
            return False
        serials = [each.serial for each in self._credentials.get(replica, {}).values()]
        revoked = [each.serial for each in self._revocations.get(replica, {}).values()]
        for invite in self._redeemed.get(replica, ()):
            if invite not in self._contested:
                serials += [each.serial for each in self.invites.get(invite, {}).values()]
                revoked += [each.serial for each in self._revocations.get(invite, {}).values()]
        return bool(serials) and max(serials) > max(revoked, default=0)

    def invite_is_revoked(self, invite: KeyId) -> bool:
        newest = max((each.serial for each in self.invites.get(invite, {}).values()), default=0)
        return any(each.serial > newest for each in self._revocations.get(invite, {}).values())

    def chosen(self, invite: KeyId) -> bytes | None:
        """The public key whose enrolment by this invite counts."""
        contest = self.contests.get(invite)
        return None if contest is None else contest.chosen(self.counts_as_witness)

    # --- keeping the standings

    def _change(
        self, invite: KeyId, affected: set[ReplicaId], change: Callable[[Contest], list[StatementId]]
    ) -> list[StatementId]:
        """Applies a change to the contest of an invite, which may end others' part in it. Gives the ids that leave the set."""
        contest = self.contests.setdefault(invite, Contest(invite))
        before = set(self._contenders(invite))
        gone = change(contest)
        after = set(self._contenders(invite))
        for replica in before - after:
            self._redeemed[replica].discard(invite)
        for replica in after:
            self._redeemed.setdefault(replica, set()).add(invite)
        affected |= before | after
        if contest.is_contested and invite not in self._contested:
            self._contested.add(invite)
            for replica in sorted(after):
                if not self.joined_keys(replica):
                    gone += self._silence(replica, affected)
        return gone

    def _delegate(self, delegator: ReplicaId, statement: Statement, affected: set[ReplicaId]) -> list[StatementId]:
        """A delegator has as many invites as count; what came by another leaves with it."""
        content = statement.content
        assert isinstance(content, Invite)
        mine = self._delegations.setdefault(delegator, {})
        mine[statement.id] = key_id(content.invite_key)
        self._signers[statement.id] = statement.issuer
        return self._drop_delegations(delegator, sorted(mine)[DELEGATIONS_MAX:], affected)

    def _drop_delegations(self, delegator: ReplicaId, surplus: list[StatementId], affected: set[ReplicaId]) -> list[StatementId]:
        """And what came by them: the ids that leave the set."""
        gone = list(surplus)
        for statement in surplus:
            invite = self._delegations[delegator].pop(statement)
            del self._signers[statement], self.invites[invite][statement]
            if not self.invites[invite]:
                del self.invites[invite]
                self._contested.discard(invite)
                if (contest := self.contests.pop(invite, None)) is not None:
                    gone += contest.everything()
                    for replica in map(key_id, contest.keys):
                        self._redeemed[replica].discard(invite)
                        affected.add(replica)
        return gone

    def _drop_orphans(self, affected: set[ReplicaId]) -> list[StatementId]:
        """Delegations by keys that no statement names any more: nobody who comes later could check them."""
        gone: list[StatementId] = []
        waiting = sorted(affected)
        while waiting:
            replica = waiting.pop(0)
            if self._delegations.get(replica) and not self.public_keys(replica):
                below: set[ReplicaId] = set()
                gone += self._drop_delegations(replica, sorted(self._delegations[replica]), below)
                affected |= below
                waiting += sorted(below)
        return gone

    def delegated_by(self, replica: ReplicaId) -> list[KeyId]:
        """Invites by which it let others in, ascending."""
        return sorted(set(self._delegations.get(replica, {}).values()))

    def below(self, replica: ReplicaId) -> list[ReplicaId]:
        """Who was let in by it, or by those; the nearest first, then by id. Without itself."""
        found: dict[ReplicaId, None] = {}
        waiting = [replica]
        while waiting:
            for invite in self.delegated_by(waiting.pop(0)):
                for each in self._contenders(invite):
                    if each != replica and each not in found:
                        found[each] = None
                        waiting.append(each)
        return list(found)

    def _granted(self, statement: StatementId, invite: Invite) -> Terms | None:
        """What an invite grants; None for a delegation that does not count (see `mesh.trust.delegation`)."""
        if invite.delegator is None:
            return invite.terms
        above = self.standings.get(invite.delegator)
        grant = None if above is None else above.grants.get(invite.serial)
        if above is None or grant is None or not is_narrower(invite.terms, grant.terms):
            return None
        closings = [each for serial, (_, each) in self._closings.get(invite.delegator, {}).items() if serial > invite.serial]
        listed = all(key_id(invite.invite_key) in each.delegated for each in closings)
        if self._signers[statement] != key_id(grant.public_key) or not listed:
            return None
        ends = [each for each in (invite.terms.expires, above.newest.terms.expires) if each is not None]
        return invite.terms._replace(expires=min(ends, default=None))

    def _close(self, replica: ReplicaId, serial: int, identifier: StatementId, closing: Closing) -> list[StatementId]:
        """One closing per rotation: of two, which only the owner of the key can make, the one with the lowest id."""
        closings = self._closings.setdefault(replica, {})
        former = closings.get(serial)
        if former is not None and former[0] < identifier:
            return [identifier]
        closings[serial] = (identifier, closing)
        return [] if former is None else [former[0]]

    def _silence(self, replica: ReplicaId, affected: set[ReplicaId]) -> list[StatementId]:
        """What it witnessed leaves the set: its enrolment may leave, too, and then nobody could check its voice."""
        gone: list[StatementId] = []
        for invite in [invite for invite, contest in self.contests.items() if replica in contest.witnesses]:
            gone += self._change(invite, affected, lambda contest: contest.remove_witness(replica))
        return gone

    def _contenders(self, invite: KeyId) -> list[ReplicaId]:
        contest = self.contests.get(invite)
        return [] if contest is None else [key_id(key) for key in contest.keys]

    def _lost_contest(self, replica: ReplicaId, serial: int) -> bool:
        """Whether the serial is that of an invite which this replica redeemed, and another one counts."""
        redeemed = self._redeemed.get(replica, ())
        return any(each.serial == serial for invite in redeemed for each in self.invites.get(invite, {}).values())

    def _read_charters(self) -> None:
        """Finds the newest, and compiles for each what is critical by it or by any later one."""
        newest_first = sorted(self._charters, key=lambda each: (-self._charters[each].serial, each))
        self.charter = self._charters[newest_first[0]]
        critical: set[str] = set()
        self._critical = {}
        for charter in map(self._charters.__getitem__, newest_first):
            critical.update(charter.critical)
            self._critical[charter.serial] = patterns_of(tuple(sorted(critical)))

    def _reconsider(self, affected: set[ReplicaId], *, all_of_them: bool) -> None:
        # Who counts as a witness may have changed with any statement, and with it the outcome of the few open contests.
        for invite in self._contested:
            affected.update(self._contenders(invite))
        waiting = sorted(affected)
        while waiting:
            replica = waiting.pop(0)
            former = self.standings.pop(replica, None)
            standing = self._standing(replica)
            if standing is not None:
                self.standings[replica] = standing
            if standing != former or all_of_them:
                self.changed.add(replica)
                # Whom it let in stands on it. One level less each time, so this ends.
                waiting += [each for invite in self.delegated_by(replica) for each in self._contenders(invite)]
            self._rename(replica, *(None if each is None else each.newest.name for each in (former, standing)))

    def _rename(self, replica: ReplicaId, former: str | None, name: str | None) -> None:
        if former is not None and former != name:
            self._named[former] = tuple(each for each in self._named[former] if each != replica)
        if name is not None and former != name:
            self._named[name] = (*self._named.get(name, ()), replica)

    def _standing(self, replica: ReplicaId) -> Standing | None:
        claims = sorted(self._claims(replica), key=lambda each: each.precedence)
        if not claims:
            return None
        # Two first keys of one 8-byte id: the older statement keeps it. The authority refuses to make such a pair.
        first = claims[0].public_key
        grants: dict[int, Grant] = {}
        for claim in claims:
            if (claim.rotates or claim.public_key == first) and claim.serial not in grants:
                grants[claim.serial] = Grant(
                    claim.serial,
                    claim.name,
                    claim.terms,
                    claim.terms.patterns,
                    claim.statement,
                    claim.invite,
                    claim.chosen_name,
                    claim.public_key,
                )
        newest = grants[max(grants)]
        narrowings, imposed, revoked = self._narrowings(replica, grants)
        revoked = revoked or self.endings.is_cut(replica)
        return Standing(newest.public_key, grants, narrowings, newest, revoked, imposed)

    def _claims(self, replica: ReplicaId) -> list[_Claim]:
        claims = [
            _Claim(
                each.serial,
                statement,
                statement,
                each.public_key,
                each.terms,
                each.terms.name or "",
                None,
                chosen_name=False,
                delegated=False,
                rotates=each.replica is not None,
            )
            for statement, each in self._credentials.get(replica, {}).items()
        ]
        for invite_key in self._redeemed.get(replica, ()):
            public_key = self.chosen(invite_key)
            enrolled = None if public_key is None else self.contests[invite_key].enrolled(public_key)
            if public_key is None or enrolled is None or key_id(public_key) != replica:
                continue
            for source, invite in self.invites.get(invite_key, {}).items():
                terms = self._granted(source, invite)
                if terms is None:
                    continue
                name = invite.terms.name or enrolled.name or default_name(replica)
                chosen_name = invite.terms.name is None or invite.delegator is not None
                claims.append(
                    _Claim(
                        invite.serial,
                        enrolled.statement,
                        source,
                        public_key,
                        terms,
                        name,
                        invite_key,
                        chosen_name,
                        rotates=False,
                        delegated=invite.delegator is not None,
                    )
                )
        # Who holds rights of the authority is nobody's delegate.
        return [each for each in claims if not each.delegated] or claims

    def _narrowings(self, replica: ReplicaId, grants: Mapping[int, Grant]) -> tuple[tuple[Narrowing, ...], tuple[int, ...], bool]:
        """All narrowings of this replica's rights, the serials of those that others made, and whether one took all its rights."""
        invites = sorted({each.invite for each in grants.values() if each.invite is not None})
        newest = max(grants)
        found: set[tuple[int, Honoured]] = set()
        for subject in (replica, *invites):
            found.update((each.serial, each.honoured) for each in self._revocations.get(subject, {}).values())
        revoked = any(serial > newest for serial, _ in found)
        own_list = bool(found)
        for above, serial in self._above(invites):
            later = [each for each in above.imposed if each > serial]
            found.update((each, ()) for each in later if not own_list)
            revoked = revoked or bool(later) or above.revoked
        for credential in self._credentials.get(replica, {}).values():
            grant = grants.get(credential.serial)
            if credential.honoured is not None and grant is not None and grant.public_key == credential.public_key:
                found.add((credential.serial, credential.honoured))
        imposed = tuple(sorted({serial for serial, _ in found}))
        for serial, (_, closing) in self._closings.get(replica, {}).items():
            found.add((serial, closing.honoured))
        return tuple(Narrowing.of(*each) for each in sorted(found)), imposed, revoked

    def _above(self, invites: Iterable[KeyId]) -> Iterator[tuple[Standing, int]]:
        """The delegators of these invites, and the serials under which they made them."""
        for invite in invites:
            for each in self.invites.get(invite, {}).values():
                above = None if each.delegator is None else self.standings.get(each.delegator)
                if above is not None:
                    yield above, each.serial


def _is_within(op: Op, patterns: PathPatterns, critical: PathPatterns) -> bool:
    """Chunks of large values, takeovers and dropped cells need no right to their paths, which are hashes, shelves, or where the
    author's own writes leave: they must go on working after its rights were narrowed.
    """
    if op.type == CORE_TYPE or op.kind & KIND_MASK == DROPPED:
        return True
    return patterns.matches(op.path) and not critical.matches(op.path)


def _copied(value: Any) -> Any:
    """Tables, with the tables in them; standings and what statements say never change."""
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return value.copy() if isinstance(value, set | Contest | Endings) else value


def default_name(replica: ReplicaId) -> str:
    """Of an agent that nobody named."""
    return f"agent-{replica.hex()[:8]}"
