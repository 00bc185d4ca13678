"""The authority: the key that says who belongs to a mesh, or several of which some must agree. It is needed to change that,
never to run.

It numbers its statements with one rising serial. What it issued it remembers in a `Directory` of its own; a copy of it that
is older than the mesh would issue old serials again, so let it learn what the mesh knows (`observe_untrusted`) before it
issues.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Final

from consensus_escalation.anchor import Anchor
from crdt.ids import ReplicaId
from mesh.effects import Address, Now
from mesh.errors import ConfigError, Malformed, Refused
from mesh.trust.countersigning import countersign, draft, missing, says, signers
from mesh.trust.delegation import INVITE_BYTES_MAX
from mesh.trust.directory import Directory
from mesh.trust.endings import Cut
from mesh.trust.handing_over import hand_over
from mesh.trust.identity import Identity, checked_public_key, checked_replica, key_id
from mesh.trust.limits import Limits
from mesh.trust.membership import Membership
from mesh.trust.patterns import checked_patterns
from mesh.trust.statements import (
    AUTHORITIES_MAX,
    BASE_BYTES,
    Charter,
    Content,
    Credential,
    Genesis,
    Invite,
    KeyId,
    Revocation,
    Terms,
    charter_from_bytes,
    check_honoured,
    check_name,
    check_terms,
    issue,
)
from mesh.trust.token import write_token
from mesh.wire.cose import MESH_ID_BYTES, SIGNER_BYTES
from mesh.wire.crypto import PUBLIC_KEY_BYTES

EVERYWHERE: Final[Sequence[str]] = ("**",)


_HEX_ID: Final = re.compile("[0-9a-f]{16}")


def _checked_limits(limits: object) -> Limits:
    """Raises ConfigError."""
    if not isinstance(limits, Limits):
        raise ConfigError(f"limits={limits!r:.80}: pass mesh.trust.limits.Limits(value_bytes_max=...)")
    return limits


class Authority:
    """Issues statements of one mesh. Pure but for the randomness of new keys, which can be given."""

    def __init__(
        self, identity: Identity | Sequence[Identity], charter: bytes, statements: Iterable[bytes] = (), *, reserved: int = 0
    ) -> None:
        """An authority as it was: `statements` are those that it issued or knows. `identity`: of an authority of several keys,
        those that are at hand; where they are fewer than the threshold, what is issued is unfinished, is in `proposed` and not
        in force until others have signed it (`countersign`). `reserved`: the highest serial of other proposals. Raises
        ConfigError."""
        self.identities = (identity,) if isinstance(identity, Identity) else tuple(identity)
        self.proposed: list[bytes] = []
        """What was issued and lacks signatures."""
        self._reserved = reserved
        self.directory = Directory(charter)
        refused = self.directory.restore(statements)
        if refused:
            raise ConfigError(f"{len(refused)} of the authority's statements are damaged or of another mesh: {refused[0]}")
        if not all(self.directory.is_authority(each.public_key) for each in self.identities):
            raise ConfigError(
                "the authority key is not the one in force: it was replaced, or key and charter are of different meshes"
            )
        if not self.identities and self.threshold == 1:
            raise ConfigError("the authority's key is missing")
        self.charter = charter

    @classmethod
    def generate(
        cls,
        *,
        critical: Sequence[str] = (),
        limits: Limits | None = None,
        recovery: bytes | None = None,
        threshold: int = 1,
        keys: int = 1,
        entropy: bytes | None = None,
    ) -> Authority:
        """A new mesh. `critical`: patterns of paths that only the quorum may write. `recovery`: public key of a second key that
        can replace the authority's. `keys`: how many the authority has (at most 8), `threshold` of which must sign; to be kept
        apart. `entropy`: 32 bytes for each key and 16 for the mesh id, for simulations. Raises ConfigError."""
        if type(threshold) is not int or type(keys) is not int:
            raise ConfigError(f"threshold={threshold!r:.80}, keys={keys!r:.80}: two numbers")
        if not 1 <= threshold <= keys <= AUTHORITIES_MAX or (threshold == 1) != (keys == 1):
            raise ConfigError(
                f"{threshold} of {keys} keys: 2 to {AUTHORITIES_MAX} keys, and a threshold from 2 to as many, or 1 of 1"
            )
        wanted = PUBLIC_KEY_BYTES * keys
        entropy = os.urandom(wanted + MESH_ID_BYTES) if entropy is None else entropy
        if not isinstance(entropy, bytes) or len(entropy) != wanted + MESH_ID_BYTES:
            raise ConfigError(f"a new mesh takes {wanted + MESH_ID_BYTES} bytes of entropy")
        identities = [Identity(entropy[start : start + PUBLIC_KEY_BYTES]) for start in range(0, wanted, PUBLIC_KEY_BYTES)]
        limits = Limits() if limits is None else _checked_limits(limits)
        recovery = None if recovery is None else checked_public_key(recovery)
        public_keys = tuple(each.public_key for each in identities)
        charter = Charter(1, entropy[wanted:], public_keys, checked_patterns(critical), limits, recovery, threshold)
        issued = draft(charter, identities, charter) if threshold > 1 else issue(charter, identities[0], charter.mesh_id)
        return cls(identities, issued)

    @property
    def identity(self) -> Identity:
        """The key, or the first of several that are at hand. Raises ConfigError when none is."""
        if not self.identities:
            raise ConfigError("none of the authority's keys is here")
        return self.identities[0]

    @property
    def threshold(self) -> int:
        """How many keys must sign."""
        return self.directory.seat.threshold

    @property
    def mesh_id(self) -> bytes:
        """16 bytes."""
        return self.directory.mesh_id

    @property
    def statements(self) -> list[bytes]:
        """All that it issued or learned: what to keep for the next time, and to give to any member."""
        return self.directory.statements()

    def enrol(
        self,
        identity: Identity,
        *,
        name: str,
        may_write: Sequence[str] = EVERYWHERE,
        voter: bool = False,
        score: int = 0,
        expires: int | None = None,
        delegates: int = 0,
    ) -> Membership:
        """A place in the mesh for a key that is at hand. Takes as many of the authority's keys as must sign. Raises
        ConfigError."""
        if not isinstance(identity, Identity):
            raise ConfigError("identity is no key of an agent: pass mesh.Identity.generate(), or `certify` a public key")
        if len(self.identities) < self.threshold:
            raise ConfigError(f"{self.threshold} of the authority's keys must sign: `certify`, and let the others countersign")
        credential = self.certify(
            identity.public_key,
            name=name,
            may_write=may_write,
            voter=voter,
            score=score,
            expires=expires,
            delegates=delegates,
        )
        charters = [*self.directory.handovers(), *(raw for raw in self.directory.charters() if raw != self.charter)]
        begun = self.directory.genesis_raw()
        return Membership(
            identity, name, self.charter, credential, (self.charter, *charters, credential, *(() if begun is None else (begun,)))
        )

    def certify(
        self,
        public_key: bytes,
        *,
        name: str,
        may_write: Sequence[str] = EVERYWHERE,
        voter: bool = False,
        score: int = 0,
        expires: int | None = None,
        delegates: int = 0,
    ) -> bytes:
        """A credential for a new key of which only the public half is known. `expires`: seconds since 1970. `delegates`: levels
        of others that it may let in below itself. Raises ConfigError for a name or replica id that is taken."""
        self._check_free(name)
        self._check_new(checked_public_key(public_key))
        terms = check_terms(Terms(name, checked_patterns(may_write), voter, score, expires, delegates))
        credential = self._issue(Credential(self._next_serial, public_key, terms, None))
        if voter and self.directory.genesis() is None and not self.proposed:
            self.begin_quorum(public_key)
        return credential

    def begin_quorum(self, public_key: bytes, *, base: bytes = bytes(BASE_BYTES)) -> bytes:
        """The genesis of the quorum's next epoch: this voter begins alone, with the state of hash `base`. Made by itself for
        the first agent enrolled as a voter; again only when a majority of the voters is lost for ever. Raises ConfigError."""
        if not isinstance(base, bytes) or len(base) != BASE_BYTES:
            raise ConfigError(f"base={base!r:.80}: the hash of a state, {BASE_BYTES} bytes")
        before = self.directory.genesis()
        epoch = 1 if before is None else before[1].epoch + 1
        # A genesis names a replica, which may sign with a later key.
        first = self.directory.first_key(checked_public_key(public_key))
        return self._issue(Genesis(self._next_serial, epoch, first, base))

    def reissue(
        self,
        subject: str | ReplicaId,
        *,
        may_write: Sequence[str] | None = None,
        voter: bool | None = None,
        score: int | None = None,
        expires: int | None = None,
        delegates: int | None = None,
        honoured: Sequence[tuple[int, int]] | None = None,
    ) -> bytes:
        """A newer credential for a known key, revoked ones included; what is None stays, but `expires`, which is set anew.

        When it takes rights away, `honoured` must list the last (birth, seq) of each shelf that still counts under the old
        ones: else the agent may go on writing under its old serial. Raises ConfigError.
        """
        replica = self._replica(subject)
        standing = self.directory.credential(replica)
        public_key = self.directory.public_key(replica)
        if standing is None or public_key is None:
            raise ConfigError(f"no credential of {replica.hex()} is known")
        old = standing.terms
        terms = Terms(
            standing.name,
            old.may_write if may_write is None else checked_patterns(may_write),
            old.voter if voter is None else voter,
            old.score if score is None else score,
            expires,
            old.delegates if delegates is None else delegates,
        )
        closed = None if honoured is None else check_honoured(honoured)
        rotated = None if key_id(public_key) == replica else replica
        return self._issue(Credential(self._next_serial, public_key, check_terms(terms), closed, rotated))

    def rotate(self, subject: str | ReplicaId, public_key: bytes, *, honoured: Sequence[tuple[int, int]] | None = None) -> bytes:
        """A further key for a known replica, with the rights that it has. It goes on with its former key until it learns of
        this, and then says itself what that one signed: nothing is lost.

        `honoured`: only when the former key was stolen or lost, the last (birth, seq) of each shelf that still counts: it is
        closed by this statement then, wherever it goes on. Raises ConfigError.
        """
        replica = self._replica(subject)
        standing = self.directory.credential(replica)
        if standing is None or self.directory.revoked(replica):
            raise ConfigError(f"{replica.hex()} is no member: only a member's key can be replaced")
        if self.directory.is_known_key(checked_public_key(public_key)):
            raise ConfigError("this key is in use already: generate a new one")
        terms = check_terms(standing.terms._replace(name=standing.name))
        closed = None if honoured is None else check_honoured(honoured)
        return self._issue(Credential(self._next_serial, public_key, terms, closed, replica))

    def invite(
        self,
        name: str | None = None,
        *,
        may_write: Sequence[str] = EVERYWHERE,
        voter: bool = False,
        score: int = 0,
        expires: int | None = None,
        member_expires: int | None = None,
        delegates: int = 0,
        addresses: Sequence[Address] = (),
        anchor: Anchor | None = None,
        entropy: bytes | None = None,
    ) -> str:
        """A token with which one agent may join. `name`: of that agent; None: it names itself. `expires`: until when the
        token can be used, `member_expires`: until when the credential that comes of it lasts, both in seconds since 1970.
        `anchor`: of a node of this mesh (`Node.anchor`): the newcomer takes no other history of the quorum.
        Where signatures are lacking, nobody takes the token until it has the signed invite (`mesh.trust.token.with_invite`).
        Raises ConfigError."""
        if name is not None:
            self._check_free(name)
        key = Identity.generate(entropy)
        self._check_new(key.public_key)
        terms = check_terms(Terms(name, checked_patterns(may_write), voter, score, member_expires, delegates))
        check_terms(terms._replace(expires=expires))
        content = Invite(self._next_serial, key.public_key, terms, expires)
        raw = self._signed(content)
        size = len(raw) + (missing(raw, self._root) * SIGNER_BYTES if self.threshold > 1 else 0)
        if size > INVITE_BYTES_MAX:
            raise ConfigError(f"the invite has {size} bytes, at most {INVITE_BYTES_MAX} fit: fewer or shorter patterns")
        token = write_token(self.charter, raw, key, addresses, self.directory.handovers(), anchor)
        self._take(raw)
        return token

    def revoke(self, subject: str | ReplicaId, *, honoured: Sequence[tuple[int, int]]) -> bytes:
        """Takes all rights from a replica, named by name or id (hex), or from an invite that nobody is known to have redeemed.

        `honoured`: the last (birth, seq) of each of its shelves that counts, as the members know them; what it wrote later,
        or on other shelves, is void everywhere. An empty list voids all that it ever wrote. Raises ConfigError for a name
        that is unknown or borne by several.
        """
        subject_id = self._subject(subject)
        return self._issue(Revocation(self._next_serial, subject_id, check_honoured(honoured)))

    def cut(self, subject: str | ReplicaId, *, host: str | ReplicaId) -> bytes:
        """Ends a replica for good: its rights are gone at once, nothing more of it is taken, and `host`, another member, collects
        what the members hold of it and speaks for it from then on. Raises ConfigError."""
        cut, heir = self._replica(subject), self._replica(host)
        if self.directory.credential(cut) is None:
            raise ConfigError(f"no credential of {cut.hex()} is known")
        if cut == heir or self.directory.credential(heir) is None or self.directory.revoked(heir):
            raise ConfigError(f"{self.directory.name(heir)} cannot take over: name another member, one that is not revoked")
        return self._issue(Cut(self._next_serial, cut, heir))

    def hand_over(self, to: Identity) -> list[bytes]:
        """The authority's key is `to` from now on, and all that this one signed still counts. Gives the statements, in order.
        Destroy the former key afterwards: whoever keeps a copy could contest this. Raises ConfigError."""
        if not isinstance(to, Identity):
            raise ConfigError("`to` is no key: pass mesh.Identity.generate()")
        if self.threshold > 1:
            raise ConfigError("an authority of several keys is replaced by its recovery key only")
        statements = hand_over(self.directory, self.identity, to, self.directory.seat.recovery)
        self.identities = (to,)
        return statements

    def amend(self, *, critical: Sequence[str] | None = None, limits: Limits | None = None) -> bytes:
        """A newer charter; what is None stays. Making a prefix critical voids what gossip wrote there. Raises ConfigError."""
        newest = self.directory.charter
        return self._issue(
            Charter(
                self._next_serial,
                newest.mesh_id,
                newest.authorities,
                newest.critical if critical is None else checked_patterns(critical),
                newest.limits if limits is None else _checked_limits(limits),
                newest.recovery,
                newest.threshold,
            )
        )

    def countersign(self, raw: bytes) -> bytes:
        """A statement that lacks signatures, with those of the keys that are here; in force here when it is complete. Look at
        what it says first (`mesh.trust.countersigning.says`). Raises ConfigError."""
        if not isinstance(raw, bytes):
            raise ConfigError(f"a statement is bytes, one of another authority's `proposed`, not {raw!r:.80}")
        for each in self.identities:
            if missing(raw, self._root) and key_id(each.public_key) not in signers(raw):
                raw = countersign(raw, each, self._root)
        if not missing(raw, self._root):
            refused = self.directory.restore([raw])
            if refused:
                raise ConfigError(refused[0])
        return raw

    def observe_untrusted(self, statements: Iterable[bytes]) -> list[str]:
        """Learns what the mesh knows, in any order: serials that are in use, names, redeemed invites. Gives one line for each
        statement that it did not take. Raises ConfigError for what are no statements of anybody."""
        if isinstance(statements, bytes | str) or not isinstance(statements, Iterable):
            raise ConfigError(f"statements={statements!r:.80}: a list of statements, as `node.statements()` gives them")
        listed = list(statements)
        for each in listed:
            if not isinstance(each, bytes):
                raise ConfigError(f"a statement is bytes, as `node.statements()` lists them, not {each!r:.80}")
        return self.directory.restore(listed)

    # --- serials and names

    @property
    def _next_serial(self) -> int:
        return max(self.directory.serial_max, self._reserved) + 1

    @property
    def _root(self) -> Charter:
        return charter_from_bytes(self.charter)

    def _issue(self, content: Content) -> bytes:
        return self._take(self._signed(content))

    def _signed(self, content: Content) -> bytes:
        if self.threshold == 1:  # also after a recovery key replaced the several of the charter
            return issue(content, self.identity, self.mesh_id)
        return draft(content, self.identities, self._root)

    def _take(self, raw: bytes) -> bytes:
        if self.threshold > 1 and missing(raw, self._root):
            self.proposed.append(raw)
            self._reserved = max(self._reserved, getattr(says(raw), "serial", 0))
            return raw
        try:
            self.directory.add_untrusted(raw, Now(0.0, 0))
        except (Malformed, Refused) as error:  # our own checks above are meant to be as strict as every receiver's
            raise AssertionError(f"issued what nobody would take: {error}") from error
        return raw

    def _check_free(self, name: str) -> None:
        check_name(name)
        if any(not self.directory.revoked(replica) for replica in self.directory.named(name)) or self.directory.open_invites(
            name
        ):
            raise ConfigError(
                f"the name {name!r} is taken: choose another, or revoke that key first (`mesh keys show` lists them)"
            )

    def _check_new(self, public_key: bytes) -> None:
        for known in self.directory.keys_of(key_id(public_key)):
            if known != public_key:
                raise ConfigError(f"replica id {key_id(public_key).hex()} is taken by another key: generate a new key")
            if self.directory.credential(key_id(public_key)) is not None:
                raise ConfigError("this key has a credential already: reissue it to change its rights")

    def _replica(self, subject: str | ReplicaId) -> ReplicaId:
        if not isinstance(subject, str):
            return checked_replica(subject)
        bearers = self.directory.named(subject)
        entitled = [each for each in bearers if not self.directory.revoked(each)] or bearers
        if len(entitled) > 1:
            raise ConfigError(f"{subject!r} is borne by {', '.join(each.hex() for each in entitled)}: name one of these ids")
        if entitled:
            return entitled[0]
        if _HEX_ID.fullmatch(subject):
            return ReplicaId(bytes.fromhex(subject))
        raise ConfigError(f"nobody is named {subject!r}: `mesh keys show` lists the names")

    def _subject(self, subject: str | ReplicaId) -> KeyId:
        if isinstance(subject, str) and not self.directory.named(subject):
            invites = self.directory.open_invites(subject)
            if len(invites) == 1:
                return invites[0]
        return self._replica(subject)
