"""Forged and mutated datagrams and claims into a living agent: how many does it accept?

A forgery is bytes that nobody entitled made: garbage, genuine datagrams changed or sent again (also from other addresses and
after restarts of either side), and, inside the session of a hostile member, sentences in the name of others: claims, deltas,
heads, statements, presentations. What a member says in its own name is no forgery, whatever it says.

It was **accepted** when anything about the victim differs afterwards that the forger has not his own right to:

    state         what it shows, floors and loose deltas of every shelf, forks found, what it would write to its disk
    membership    the list and its digest, incarnations, suspicions, quotas, the own incarnation
    trust         the set of statements, what any member may do
    sessions      tags, addresses, counters and replay windows of every session; who a key belongs to
    events        anything told to the user

Counters of drops are not of it; nor that the victim asks (INIT, for a RESET that bears a live tag), which changes no session; nor
that what bears an unknown name waits for its credential, 64 at most and seen by nobody.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from crdt.ids import ReplicaId, replica_of
from mesh.effects import Address
from mesh.errors import Malformed, Refused
from mesh.peer import Peer
from mesh.swim.claims import (
    PURPOSE_CLAIM,
    PURPOSE_VOUCH,
    Accusation,
    Alive,
    Claim,
    Left,
    Reason,
    claim_from_bytes_untrusted,
    seal,
)
from mesh.testing import Mesh
from mesh.trust import Identity
from mesh.trust.membership import present
from mesh.trust.statements import PURPOSE, Credential, Revocation, issue, statement_from_bytes_untrusted
from mesh.wire import cbor, cose
from mesh.wire.cose import to_be_signed
from mesh.wire.delta import delta_from_bytes_untrusted, sign_header
from mesh.wire.frames import Frame
from mesh.wire.handshake import CONNECT, INIT, RESET
from mesh.wire.session import DATA
from tools.fuzz.material import TappedMesh, listen, write_all_types
from tools.fuzz.mutate import Mutator

Figures = dict[str, Any]
VICTIM, FRIEND, INSIDER = range(3)
BATCH: Final = 200
"""Forgeries between two looks at the whole victim; where something moved, they are fed again one by one."""
KEPT_MAX: Final = 400
STRANGERS: Final[tuple[Address, ...]] = tuple(("203.0.113.9", 4_000 + number) for number in range(16))


class Victim:
    """An agent in a mesh of three that has lived a while, and everything genuine that was said there."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.mesh = mesh = TappedMesh(3, seed=seed)
        self.datagrams: list[tuple[bytes, Address]] = []
        self.frames: dict[Frame, list[bytes]] = {kind: [] for kind in Frame}
        mesh.tap = self._keep
        listen(mesh, self._hear)
        mesh.start()
        mesh.run(3.0)
        for number in range(3):
            write_all_types(mesh.node(number), number)
        mesh.run(1.0)
        for number in (FRIEND, VICTIM, FRIEND):  # what was recorded of former starts is part of the material
            mesh.restart(number)
            mesh.run(2.0)
            mesh.node(FRIEND).register("large").set("x" * 5_000)
            mesh.run(0.5)
        mesh.run(3.0)
        mesh.tap = None
        self.deltas = [
            raw for raw in self.frames[Frame.DELTA] if replica_of(delta_from_bytes_untrusted(raw).shelf) != self.insider
        ]
        bases = self.peer.replica.bases
        self.heads = [head for shelf in sorted(bases) if replica_of(shelf) != self.insider and (head := bases[shelf].head)]
        self.claims = [raw for raw in self.frames[Frame.CLAIM] if claim_from_bytes_untrusted(raw).signer != self.insider]
        self.statements = [*mesh.authority.statements, *(each.credential for each in mesh.memberships)]
        self.told = 0

    @property
    def insider(self) -> ReplicaId:
        return self.mesh.memberships[INSIDER].replica_id

    @property
    def peer(self) -> Peer:
        return self.mesh.peer(VICTIM)

    def _keep(self, _host: int, kind: Frame, payload: bytes) -> bytes:
        kept = self.frames[kind]
        if len(kept) < KEPT_MAX:
            kept.append(payload)
        return payload

    def _hear(self, datagram: bytes) -> None:
        self.datagrams.append((datagram, self.mesh.hosts[FRIEND].address))
        if len(self.datagrams) > 4 * KEPT_MAX:
            del self.datagrams[self.rng.randrange(len(self.datagrams))]

    def fingerprint(self) -> tuple[object, ...]:
        """Everything that a forgery may not move; see the definition above."""
        peer = self.peer
        replica, swim, transport, directory = peer.replica, peer.swim, peer.transport, peer.directory
        sessions = sorted(
            (
                tag,
                entry.session.address,
                entry.session._highest,
                bytes(entry.session._seen),
                entry.peer.replica if entry.peer else b"",
            )
            for tag, entry in transport._by_tag.items()
        )
        return (
            replica.state_digest(),
            [(shelf, replica.floor(shelf), sorted(replica.loose_seqs(shelf))) for shelf in replica.shelves()],
            sorted(replica.ended),
            len(peer._journal) + len(replica.faults),
            [member._replace(rtt=None) for member in swim.members()],
            (swim.list_digest, swim.incarnation, sorted(swim.suspects())),
            sorted(swim._beliefs.quota._budgets),
            directory.digest,
            [(each, directory.rights(each), directory.revoked(each)) for each in directory.replicas()],
            sessions,
            sorted(each.replica for each in transport._peers if each.sessions),
            len(transport._connected),
            len(peer._events) + len(transport.events),
        )

    def throw(self, datagram: bytes, address: Address) -> None:
        self.peer.handle_untrusted(datagram, address, self.mesh.hosts[VICTIM].now())

    def say(self, kind: Frame, payload: bytes) -> None:
        """A frame of the insider, its datagram opened already."""
        peer, now = self.peer, self.mesh.hosts[VICTIM].now()
        with suppress(Malformed, Refused):
            peer.sync.handle_untrusted(self.insider, kind, payload, now) or peer.swim.handle_untrusted(
                self.insider, kind, payload, now
            )

    def settle(self) -> None:
        """Time goes on: what the victim queued is sent, its probes are answered, honest members write."""
        self.mesh.hosts[VICTIM].wake()
        self.mesh.node(FRIEND).register("honest").set(self.rng.randrange(1000))
        self.mesh.run(0.3)


Forge = Callable[[], Callable[[], None] | None]
"""A forgery, made and ready to be fed; None where chance made it genuine."""


class Forger:
    """Makes forgeries of each kind."""

    def __init__(self, victim: Victim) -> None:
        self._victim, self._rng = victim, victim.rng
        self._genuine = {raw for raw, _ in victim.datagrams}
        self._datagrams = Mutator(self._rng, [raw for raw, _ in victim.datagrams])
        self._claims = Mutator(self._rng, victim.claims)
        self._deltas = Mutator(self._rng, victim.deltas)
        self._statements = Mutator(self._rng, victim.statements)
        mesh = victim.mesh
        self._mesh_id = mesh.authority.mesh_id
        self._insider = mesh.memberships[INSIDER].identity
        self._issuers = {statement_from_bytes_untrusted(raw).issuer for raw in victim.statements}
        self._others = [mesh.memberships[number] for number in (VICTIM, FRIEND)]
        self._stranger = Identity.generate(self._rng.randbytes(32))
        self.kinds: dict[str, Forge] = {
            "outsider: random bytes": self._random,
            "outsider: genuine datagram, changed": self._changed,
            "outsider: genuine datagram, replayed": self._replayed,
            "outsider: live session tag, forged content": self._tagged,
            "member: claim of another, changed": self._claim_changed,
            "member: claim in another's name": self._claim_signed,
            "member: delta of another, changed": self._delta_changed,
            "member: delta in another's name": self._delta_signed,
            "member: head of another, changed": self._head,
            "member: statement, changed": self._statement_changed,
            "member: statement in the authority's name": self._statement_signed,
            "stranger: presentation at the door": self._presentation,
        }

    # ---- outsiders

    def _throw(self, datagram: bytes) -> Callable[[], None]:
        victim, address = self._victim, self._rng.choice((*STRANGERS, *(host.address for host in self._victim.mesh.hosts)))
        return lambda: victim.throw(datagram, address)

    def _random(self) -> Callable[[], None]:
        rng = self._rng
        kind = rng.choice((DATA, DATA, INIT, 3, CONNECT, RESET, rng.randrange(256)))
        return self._throw(bytes((kind,)) + rng.randbytes(rng.choice((0, 8, 30, 64, 80, 200, 1_199, 1_250))))

    def _changed(self) -> Callable[[], None] | None:
        genuine = self._rng.choice(self._victim.datagrams)[0]
        datagram = self._datagrams.mutated(genuine)
        if datagram in self._genuine or datagram[:1] in (b"", bytes((INIT,))):
            return self._random()  # an INIT is a question that anybody may ask
        return self._throw(datagram)

    def _replayed(self) -> Callable[[], None] | None:
        datagram = self._rng.choice(self._victim.datagrams)[0]
        return None if datagram[0] == INIT else self._throw(datagram)

    def _tagged(self) -> Callable[[], None]:
        rng, transport = self._rng, self._victim.peer.transport
        entry = rng.choice([transport._by_tag[tag] for tag in sorted(transport._by_tag)])
        counter = entry.session._highest + rng.choice((1, 2, 100, 1 << 40, -1, -5, -2_000))
        head = bytes((DATA,)) + entry.session.tag_in + max(0, counter).to_bytes(6, "big")
        if rng.random() < 0.1:
            return self._throw(bytes((RESET,)) + entry.session.tag_out)
        return self._throw(head + rng.randbytes(rng.choice((16, 40, 200))))

    # ---- a member, in the name of others

    def _say(self, kind: Frame, payload: bytes) -> Callable[[], None]:
        return lambda: self._victim.say(kind, payload)

    def _claim_changed(self) -> Callable[[], None] | None:
        genuine = self._rng.choice(self._victim.claims)
        raw = self._claims.mutated(genuine)
        with suppress(Malformed):
            if claim_from_bytes_untrusted(raw).signer == self._insider.replica_id or raw in self._victim.claims:
                return None
        return self._say(Frame.CLAIM, raw)

    def _claim_signed(self) -> Callable[[], None]:
        """Right in every way but for the key, the purpose or the mesh."""
        rng, swim = self._rng, self._victim.peer.swim
        subject = rng.choice(self._others)
        member = swim.member(subject.replica_id)
        incarnation = (member.incarnation if member else swim.incarnation) + rng.choice((0, 1, 5))
        accuser = rng.choice((self._others[0].replica_id, self._others[1].replica_id, ReplicaId(rng.randbytes(8))))
        claims: list[Claim] = [
            Alive(subject.replica_id, incarnation, rng.getrandbits(32), ("10.6.6.6", 666), "mine", b"", b""),
            Left(subject.replica_id, incarnation, 7),
        ]
        if accuser != subject.replica_id:
            claims.append(Accusation(subject.replica_id, incarnation, accuser, rng.choice((1, 2, 3)), Reason.SILENT))
        return self._say(Frame.CLAIM, seal(rng.choice(claims), self._wrong_signature(subject.identity)).raw)

    def _wrong_signature(self, right: Identity) -> Callable[[bytes, bytes], bytes]:
        rng, other_mesh = self._rng, bytes(reversed(self._mesh_id))
        return rng.choice(
            (
                lambda purpose, payload: self._insider.sign(to_be_signed(payload, purpose, self._mesh_id)),
                lambda purpose, payload: right.sign(to_be_signed(payload, PURPOSE_VOUCH, self._mesh_id)),
                lambda purpose, payload: right.sign(to_be_signed(payload, purpose, other_mesh)),
                lambda _purpose, payload: right.sign(payload),
                lambda _purpose, _payload: rng.randbytes(64),
            )
        )

    def _delta_changed(self) -> Callable[[], None] | None:
        raw = self._deltas.mutated(self._rng.choice(self._victim.deltas))
        return None if raw in self._victim.deltas else self._say(self._rng.choice((Frame.DELTA, Frame.REPAIR)), raw)

    def _delta_signed(self) -> Callable[[], None]:
        """The next delta of an honest author's shelf, or a new shelf of its, by another key."""
        rng = self._rng
        delta = delta_from_bytes_untrusted(rng.choice(self._victim.deltas))
        fields = list(cbor.decode_untrusted(delta.header_bytes))
        if rng.random() < 0.5:
            fields[1] = rng.getrandbits(32)
        fields[2] = fields[2] + rng.choice((0, 1, 7))
        header = cbor.encode(fields)
        author = replica_of(delta.shelf)
        right = next((each.identity for each in self._others if each.replica_id == author), self._insider)
        signature = rng.choice(
            (
                sign_header(self._insider.sign, header, self._mesh_id),
                right.sign(to_be_signed(header, PURPOSE_CLAIM, self._mesh_id)),
                right.sign(to_be_signed(header, b"delta", bytes(16))),
                delta.signature,
            )
        )
        raw = cose.assemble(cose.Sign1(author, header, signature)) + delta.body
        return self._say(Frame.DELTA, raw)

    def _head(self) -> Callable[[], None]:
        """Of a listing: whoever accepts one believes that the author signed this state."""
        rng, victim = self._rng, self._victim
        head = rng.choice(victim.heads)
        fields = list(cbor.decode_untrusted(head.header_bytes))
        at = rng.randrange(len(fields))
        fields[at] = fields[at] + 1 if isinstance(fields[at], int) else rng.randbytes(len(fields[at]))
        header = cbor.encode(fields)
        signature = rng.choice((head.signature, sign_header(self._insider.sign, header, self._mesh_id), rng.randbytes(64)))

        def check() -> None:
            with suppress(Malformed):
                if victim.peer.notary.check_head_untrusted(head.header.shelf, header, signature) is not None:
                    victim.peer._events.append(object())  # type: ignore[arg-type]  # counts as accepted

        return check

    def _statement_changed(self) -> Callable[[], None] | None:
        raw = self._statements.mutated(self._rng.choice(self._victim.statements))
        with suppress(Malformed):
            if statement_from_bytes_untrusted(raw).issuer not in self._issuers:
                return None  # of an issuer that nobody knows: it waits, as it should
        return None if raw in self._victim.statements else self._say(Frame.TRUST, raw)

    def _statement_signed(self) -> Callable[[], None]:
        """Rights for itself, or another one's revocation, under the authority's name and by another key."""
        rng = self._rng
        charter = statement_from_bytes_untrusted(self._victim.statements[0])
        terms = next(
            each.content.terms
            for each in map(statement_from_bytes_untrusted, self._victim.statements)
            if isinstance(each.content, Credential)
        )
        serial = rng.randrange(1, 1 << 30)
        content: Credential | Revocation = Revocation(serial, rng.choice(self._others).replica_id, ())
        if rng.random() < 0.5:
            content = Credential(serial, self._insider.public_key, terms, None)
        mine = issue(content, self._insider, self._mesh_id)
        if rng.random() < 0.2:
            return self._say(Frame.TRUST, mine)
        return self._say(Frame.TRUST, cose.assemble(cose.open1_untrusted(mine)._replace(kid=charter.issuer)))

    def _presentation(self) -> Callable[[], None]:
        """A stranger at the door with statements that are another's, changed, or of its own making."""
        rng, victim, stranger = self._rng, self._victim, self._stranger
        credential = rng.choice(victim.statements)
        fields = list(cbor.decode_untrusted(cose.open1_untrusted(credential).payload))
        forged = [stranger.public_key if isinstance(each, bytes) and len(each) == 32 else each for each in fields]
        signed = cose.sign1(stranger.sign, cbor.encode(forged), kid=stranger.replica_id, purpose=PURPOSE, mesh_id=self._mesh_id)
        issuer = statement_from_bytes_untrusted(credential).issuer
        raws = [credential, signed, cose.assemble(cose.open1_untrusted(signed)._replace(kid=issuer))]
        presentation = present([rng.choice(raws) for _ in range(rng.choice((1, 1, 2, 4)))])

        def knock() -> None:
            if victim.peer.directory.admit(stranger.public_key, presentation, victim.mesh.hosts[VICTIM].now()) is not None:
                victim.peer._events.append(object())  # type: ignore[arg-type]  # counts as accepted

        return knock


def forgeries(
    count: int, victim: Victim, progress: Callable[[int], None] = lambda _done: None, *, at_each: bool = False
) -> Figures:
    """Feed so many, all kinds alike. `at_each`: look at the whole victim after each one, not after `BATCH` of them; slower, and
    says which one it was.
    """
    forger = Forger(victim)
    fed: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    made, seconds, kinds = 0, 0.0, list(forger.kinds)
    while made < count:
        victim.settle()
        batch = [_make(forger, kinds[(made + i) % len(kinds)]) for i in range(min(BATCH, count - made))]
        before = victim.fingerprint()
        started = time.process_time()
        for kind, feed in batch:
            feed()
            fed[kind] += 1
            if at_each and victim.fingerprint() != before:
                accepted[kind] += 1
                before = victim.fingerprint()
        seconds += time.process_time() - started
        accepted["one of a batch"] += victim.fingerprint() != before
        made += len(batch)
        progress(len(batch))
        if accepted.total():  # a victim that took one may take others in consequence
            break
    return {
        "fed": made,
        "accepted": accepted.total(),
        **{f"fed, {kind}": number for kind, number in sorted(fed.items())},
        **{f"ACCEPTED, {kind}": number for kind, number in sorted((+accepted).items())},
        "cpu_us_each": round(seconds / max(1, made) * 1e6, 1),
        "victim_still_in_step": not accepted.total() and _still_in_step(victim),
    }


def _make(forger: Forger, kind: str) -> tuple[str, Callable[[], None]]:
    while (forgery := forger.kinds[kind]()) is None:
        pass
    return kind, forgery


def _still_in_step(victim: Victim) -> bool:
    mesh: Mesh = victim.mesh
    mesh.node(FRIEND).register("after").set("all of it")
    mesh.run(5.0)
    return mesh.node(VICTIM).register("after").value == "all of it" and len(victim.peer.swim.alive()) == 2
