"""Peer: the whole pure core of one agent.

    datagram -> Transport -> frames -> Swim | Sync -> Replica
                    ^                    |       |
                    +------- Port -------+-------+

A `Peer` is told what arrived and what time it is, and asked what to send, to store and to tell. It has no socket,
clock, disk or randomness of its own: the driver in `mesh.net` and the simulator run the same object.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any, Final, assert_never

import crdt
from crdt.ids import Dot, ReplicaId, ShelfId, replica_of, shelf_id
from crdt.ops import Key, Op, Path, Value
from crdt.types import REGISTRY
from crdt.types.base import CoverPolicy
from mesh.closing import Closer
from mesh.effects import Address, Now, Transmit
from mesh.events import CaughtUp, Event, IdentityInUse, KeyReplaced, NotAdmitted, StatementIgnored
from mesh.housekeeping import Housekeeper
from mesh.intake import Intake
from mesh.notary import Notary
from mesh.own_key import OwnKey
from mesh.peer_config import PeerConfig as PeerConfig
from mesh.permits import check_quota, check_rights, check_write
from mesh.port import Port
from mesh.quorum.quorum import Quorum
from mesh.quorum.rows import NOTHING, QuorumBatch, QuorumRestored
from mesh.routes import Routes
from mesh.secrecy import Vault
from mesh.store.rows import Batch, Restored
from mesh.swim import Swim
from mesh.swim.roster import Picture
from mesh.sync.sync import Sync
from mesh.trust import Admission, Membership
from mesh.wire import cbor
from mesh.wire.delta import BODY_BYTES_MAX
from mesh.wire.events import CopySeen, IdentityClash, SessionOpened, Unreachable
from mesh.wire.frames import Frame, Lane
from mesh.wire.packer import TokenBucket
from mesh.wire.transport import Transport

COMMIT_FIRST: Final = frozenset(code for code, view in REGISTRY.items() if view.commit_first)
"""Types whose writes nobody may hear of before they are on the own disk."""
EAGER_BURST: Final = 64.0
"""Own deltas pushed in one burst; of a longer one the rest is pulled, at each receiver's pace. Guess: a socket
buffer's worth.
"""
EAGER_PER_SECOND: Final = 250.0
"""Own deltas pushed per second in the long run. The 5 ms of coalescing allow 200."""
EXPIRY_SECONDS: Final = 1.0
"""Between two looks for credentials that ran out; no statement arrives then. Guess."""
ASK_COPIES_SECONDS: Final = 0.1
"""Between two rounds of asking for acknowledgements while somebody waits for copies. Guess."""
SHELF_THAT_RAN: Final = "shelf"
"""The name under which the store keeps which shelf the last start on this disk wrote: only its rights are inherited."""
COMPLAIN_SECONDS: Final = 60.0
"""Between two complaints of not being admitted. Guess: an operator reads the first."""
RESTFUL: Final = frozenset({Frame.DELTA, Frame.FLOOR, Frame.PING, Frame.ACK, Frame.RAFT})
"""What may come in without a turn after it, unless it made something to tell: answers are sent without one."""
ALONE_SECONDS: Final = 3.0
"""With seeds, but nobody answering: after this long the state on the own disk is all there is."""


class Peer(Port):
    """One agent. Every public call takes the time; every effect is drained: `transmits`, `batch`, `changes`,
    `events`.
    """

    def __init__(
        self, config: PeerConfig, restored: Restored, rng: random.Random, now: Now, quorum: QuorumRestored = NOTHING
    ) -> None:
        membership = config.membership
        identity = membership.identity
        self.config = config
        self._becoming: Membership | None = None
        """The key that sessions are to be opened with, once the others have been told of it."""
        self.replica_id: ReplicaId = identity.replica_id
        self.drops: Counter[str] = Counter()
        self._now = now
        self._rng = rng
        self._events: list[Event] = []
        self._journal: list[crdt.JournalEntry] = []
        self._statements: list[bytes] = []
        self._draft_due, self._sealed_at = inf, -inf
        self._eager = TokenBucket(EAGER_PER_SECOND, EAGER_BURST)
        self._asked_copies_at = -inf
        self._asked_copies_of = 0
        self._expiry_due = now.monotonic + EXPIRY_SECONDS
        self._complain_at = -inf
        self._closing: list[ReplicaId] = []
        """No members any more; closed once they have been told why."""
        self._hurried = False  # something came in since the last tick that is not restful, or is to be on the disk soon
        self.unsettled: Now | None = None  # when the first delta did, or was pushed
        self.directory = config.directory(self.notify)
        for complaint in self.directory.restore((*membership.statements, *restored.statements)):
            self.notify(StatementIgnored(complaint))
        self.notary = Notary(identity, self.directory, config.crypto)
        self.replica = crdt.Replica(
            shelf_id(self.replica_id, config.birth),
            sign=self.notary.sign_header,
            encode=cbor.encode,
            decode=cbor.decode_body_untrusted,
            void_ops=self.directory.void_ops,
            heir=self._may_take_over,
            alive=self._is_live,
            body_bytes_max=BODY_BYTES_MAX,
        )
        self.own_key = OwnKey(membership, self.replica, self.directory)
        ran = restored.meta.get(SHELF_THAT_RAN)
        self.replica.restore(restored.journal, ran=ShelfId(ran) if ran else None)
        self._meta = {SHELF_THAT_RAN: bytes(self.replica.shelf)}
        self._routes = Routes(self.directory, lambda peer: self.swim.address_of(peer), lambda: self._now)
        self.transport = self._routes.transport = Transport(
            identity=identity,
            mesh_id=self.directory.mesh_id,
            boot_id=config.boot_id,
            credential=membership.presentation,
            admit=self._routes.admit,
            rng=rng,
            entropy=config.entropy,
            limits=config.preset.transport,
            crypto=config.crypto,
            find=self._routes.find,
            holder=self.directory.replica_of,
        )
        self.swim = Swim(
            me=self.replica_id,
            birth=config.birth,
            sign=self.notary.sign_claim,
            verify=self.notary.verify_claim,
            config=config.preset.swim,
            rng=rng,
            port=self,
            address=config.address,
            incarnation=restored.incarnation,
            name=membership.name,
            known=restored.peers,
            seeds=config.seeds,
        )
        self.sync = Sync(
            self.replica,
            self.directory,
            self.swim,
            self,
            config.preset,
            rng,
            read_delta_untrusted=config.read_delta_untrusted,
            write_delta=config.write_delta,
            verify_delta=self.notary.verify_delta,
            check_head=self.notary.check_head_untrusted,
            traffic=self.transport.counters,
            durable=config.durable,
            now=now,
        )
        self.quorum = Quorum(
            self.replica_id,
            sign=self.notary.sign_claim,
            verify=self.notary.verify_vote,
            directory=self.directory,
            members=self.swim,
            port=self,
            preset=config.preset,
            rng=rng,
            targets=self.sync.targets,
            restored=replace(quorum, is_damaged=True) if quorum.is_new and ran else quorum,
            predicates=config.predicates,
            now=now,
            may_begin=lambda: self.sync.synced,
        )
        self.intake = Intake(self.sync, self.quorum, self.swim, self.drops)
        self.vault = Vault(self.replica, self.directory.mesh_id, config.crypto, config.entropy)
        self.vault.become(membership.keys)
        self.closer = Closer(self.replica_id, self.replica, self.directory, self.sync, lambda: self.swim.living, self, now)
        self._housekeeper = Housekeeper(self.replica, self.sync.copies_at_all, self.closer.may_take_over, config.preset.tidy, now)
        self._incarnation_stored = restored.incarnation
        self._alone_at = now.monotonic + (ALONE_SECONDS if config.seeds or restored.peers else 0.0)
        self._begin(now)

    def _begin(self, now: Now) -> None:
        """Every start begins a new shelf and writes at once: it takes over what the disk holds of the former ones."""
        for replica in self.directory.take_changed():  # what is restored was judged by what the disk knew of rights
            self._rights_changed(replica, now)
        rights = self.directory.rights(self.replica_id)
        if rights is not None:
            self.replica.rights = rights
            if self.replica.take_over():
                self._draft_due = now.monotonic
        if (key := self.own_key.replaced_by()) is not None:  # while this agent was away
            self.notify(KeyReplaced(self.replica_id, self.directory.name(self.replica_id), key))
        self.closer.learn(now)

    def begin_again(self, now: Now) -> None:
        """Somebody else writes the shelf of this process, or wrote it once: go on with a new one."""
        birth = self._rng.getrandbits(32)
        self.replica.begin_again(shelf_id(self.replica_id, birth))
        self._meta[SHELF_THAT_RAN] = bytes(self.replica.shelf)
        self.sync.begin_again(now)
        self.swim.begin_again(birth)
        self._housekeeper.begin_again(now)
        self.seal_soon(now)

    def adopt(self, picture: Picture, now: Now) -> None:
        """Begin as a member of a settled mesh (`Swim.adopt`), which has everything yet to compare."""
        self.swim.adopt(picture)
        self.sync.compare_soon(now)

    def seal_soon(self, now: Now) -> None:
        self._draft_due = now.monotonic

    # ---- what comes in

    def handle_untrusted(self, datagram: bytes, address: Address, now: Now) -> None:
        """One datagram of any content. Never raises for what it holds: it is counted in `drops` and forgotten."""
        self._now = now
        received = self.transport.receive_untrusted(datagram, address, now)
        if self.transport.events:
            self._after_transport(now)
        if not received:
            return
        first, intake = received[0], self.intake
        if first.fresh:
            self.swim.heard_from(first.peer, now)
        for each in received:
            kind, payload = each.kind, each.payload
            if kind is Frame.DELTA:
                self.unsettled = self.unsettled or now
            elif kind is Frame.FLOOR and first.kind is Frame.DELTA and intake.puts_off(each.peer, payload):
                continue
            elif kind not in RESTFUL:
                self._hurried = True
                if self.unsettled:  # it may ask for what they brought
                    self._settle(now)
            intake.take_untrusted(each.peer, kind, payload, now)

    def refused(self, address: Address, now: Now) -> None:
        """The operating system says that nobody listens at this address. A hint that hastens probes: anybody can forge it."""
        self._now = now
        self._hurried = True
        self.swim.refused(address, now)

    def may_rest(self) -> bool:
        """Whether what came in or was pushed since the last tick shows, here or in `transmits`, and nothing else is told."""
        return not (
            self._hurried
            or self._events
            or self.transport.events
            or self.swim.has_moved
            or self.replica.faults
            or self.sync.puller.active
            or self.sync.copies.awaited
            or self.quorum.is_stirred
        )

    def came_at(self) -> Now | None:
        return self.unsettled

    def put_off(self, now: Now) -> bool:
        return self.swim.put_off(now)

    def gathers(self) -> bool:
        """Whether blocks of the quorum's log wait for those that come with them."""
        return self.quorum.burst.waiting is not None

    def push(self, now: Now) -> bool:
        """Sign and queue what was written here, if it is due, before all else: others wait. True when there was something."""
        self._now = now
        if now.monotonic < self._draft_due:
            return False
        self._housekeeper.tick(now, sealing=True)
        self._seal(now)
        self.unsettled, self._hurried = self.unsettled or now, self._hurried or self.config.durable
        return True

    def tick(self, now: Now) -> None:
        """Push, settle what arrived since the last tick, then do what is due; harmless when nothing is."""
        self.push(now)
        self._hurried = False
        self.transport.tick(now)
        if self.transport.events:
            self._after_transport(now)
        self._settle(now)
        self.swim.tick(now)
        self.sync.tick(now)
        if now.monotonic >= self._expiry_due:
            self._expiry_due = now.monotonic + EXPIRY_SECONDS
            for replica in self.directory.expired(now):
                self._forget(replica)
        if self.own_key.former_open and self.sync.synced and self.own_key.close_former(now):
            self._draft_due = now.monotonic
        if not self.sync.synced and now.monotonic >= self._alone_at and not self.swim.living:
            self.sync.in_step()
        self.closer.tick(now)
        seals = self._housekeeper.tick(now) or now.monotonic >= self._draft_due
        if seals:
            self._seal(now)
        if seals or self.swim.has_moved:
            self._settle(now)
        self.quorum.tick(now)

    @property
    def deadline(self) -> float:
        """Monotonic seconds of the next tick wanted."""
        alone = inf if self.sync.synced or self._alone_at <= self._now.monotonic else self._alone_at
        return min(
            self._expiry_due if self.directory.expires else inf,
            self.transport.deadline,
            self.swim.deadline,
            self.sync.deadline,
            self._housekeeper.deadline,
            self._draft_due,
            self.closer.deadline,
            self.quorum.deadline,
            alone,
        )

    def _after_transport(self, now: Now) -> None:
        for event in self.transport.take_events():
            match event:
                case SessionOpened(peer=peer, round_trip=round_trip):
                    self.swim.session_opened(peer, now, round_trip)
                    self.sync.copies.started_again(peer)
                    self.sync.greet(peer, now)
                    self.quorum.greet(peer, now)
                case Unreachable(address=address, answered=answered):  # membership notices by itself, and calls again
                    if answered and now.monotonic >= self._complain_at:
                        self._complain_at = now.monotonic + COMPLAIN_SECONDS
                        self.notify(NotAdmitted(address))
                case IdentityClash(peer=peer, addresses=(_, other)):
                    self.notify(IdentityInUse(peer, other))
                case CopySeen(address=address):
                    self.notify(IdentityInUse(self.replica_id, address))
                case _:
                    assert_never(event)

    def _settle(self, now: Now) -> None:
        """What moved in one part is told to the others: once a turn, however many datagrams it took in."""
        came, self.unsettled = self.unsettled or now, None
        if self.intake.trails:
            self.intake.settle(now)
        if self.directory.has_moved:
            self._trust_moved(now)
        journal = self.replica.take_journal()
        if journal:
            self._journal += journal
            for shelf in dict.fromkeys([entry.shelf for entry in journal]):
                self.sync.moved(shelf, came)
        if self.replica.faults:
            self.drops.update(self.closer.found(self.replica.take_faults(), now))
        if self.swim.has_moved:
            self._members_moved(now)

    def _trust_moved(self, now: Now) -> None:
        added = self.directory.take_added()
        self._statements += added
        if added:
            self.sync.statements.spread(added, self.swim.living)
            self.sync.try_waiting(now)
            self.closer.learn(now)
            self.quorum.trust_changed(now)
        changed = self.directory.take_changed()
        if changed:
            self.replica.rejudge(changed)
        for replica in changed:
            self._rights_changed(replica, now)

    def rekey(self, membership: Membership, now: Now) -> None:
        """Sign with another key of the same replica from now on: what was drafted goes out under the former key, then every
        member is told up to where that one counts. No write is lost, and nobody restarts. Raises ConfigError, Malformed or
        Refused; then the former key goes on.
        """
        self._now = now
        if not self.own_key.is_in_force(membership, now):
            return
        self.own_key.gather()
        self._seal(now)
        self.own_key.become(membership, now, complete=self.sync.synced)
        self.notary.identity = membership.identity
        self.vault.become(membership.keys)
        self._becoming = membership
        self.replica.rights = self.directory.rights(self.replica_id) or self.replica.rights
        self.swim.repeat()  # with the new signature, for whoever joins later
        self._draft_due = now.monotonic

    def _rights_changed(self, replica: ReplicaId, now: Now) -> None:
        self._routes.rekeyed(replica)
        if replica == self.replica_id:
            rights = self.directory.rights(replica)
            if rights is not None:
                self.replica.rights = rights
        elif self.directory.admission(replica, now) is Admission.MEMBER:
            self._routes.moved(replica)
        else:
            for raw in self.directory.revocations_of(replica):
                self.transport.send(replica, Lane.CRITICAL, Frame.TRUST, raw)
            self._closing.append(replica)

    def _members_moved(self, now: Now) -> None:
        moved = self.swim.take_moved()
        for replica in moved:
            self._routes.moved(replica)
        self.sync.members_moved(moved, now)
        self.quorum.set_members(now)
        self.replica.alive_changed()

    # ---- what goes out

    def transmits(self, now: Now) -> list[Transmit]:
        """Drain what is to be sent."""
        transmits = self.transport.flush(now)
        if self._becoming is not None:
            self.transport.become(self._becoming.identity, self._becoming.presentation)
            self._becoming = None
            for member in self.swim.alive():
                self.sync.greet(member, now)
            transmits += self.transport.flush(now)
        for replica in self._closing:
            self._forget(replica)
        self._closing.clear()
        return transmits

    def _forget(self, replica: ReplicaId) -> None:
        """It is no member any more."""
        self.transport.close(replica)
        self.swim.forget(replica)
        self.intake.forget(replica)

    def events(self) -> list[Event]:
        """Drain what the node's user is told."""
        events, self._events = self._events, []
        return events

    def changes(self) -> Sequence[Key]:
        """Drain the keys whose cells changed."""
        changed = self.replica.take_changes()
        gained = self.vault.noticed(changed) if changed else ()
        return [*changed, *(key for prefix in gained for key in self.replica.keys(prefix))] if gained else changed

    def cells(self, key: Key) -> Sequence[Op]:
        """As the replica's, and open. Raises KeyMissing for what is encrypted to others."""
        return self.vault.open(self.replica.cells(key))

    def shown(self, key: Key) -> Sequence[Op]:
        """As the replica's, and open. Raises KeyMissing for what is encrypted to others."""
        return self.vault.open(self.replica.shown(key))

    def batch(self) -> Batch | None:
        """Drain what the store should commit; None when nothing changed."""
        changed = self.swim.take_changed()
        claimed = self.swim.incarnation
        incarnation = None if claimed == self._incarnation_stored else claimed
        if not (self._journal or self._statements or changed or incarnation is not None or self._meta):
            return None
        peers = tuple(row._replace(public_key=self.directory.public_key(row.replica) or b"") for row in changed)
        statements, self._statements = tuple(self._statements), []
        meta, self._meta = self._meta, {}
        self._incarnation_stored = claimed
        journal, self._journal = tuple(self._journal), []
        return Batch(journal=journal, peers=peers, statements=statements, incarnation=incarnation, meta=meta)

    def urgent(self, now: Now) -> QuorumBatch | None:
        """Drain what the quorum's disk should commit, at once and apart from all else."""
        return self.quorum.batch(now)

    def urgent_written(self, now: Now) -> None:
        self.quorum.burst.written()

    def urgent_committed(self, ticket: int, now: Now) -> bool:
        """All of `urgent` up to this ticket is durable: what waited for it goes out with the next `transmits`. False when nothing
        did."""
        return self.quorum.durable(ticket, now) or self.transport.has_frames

    def committed(self, batch: Batch) -> bool:
        """A batch is durable: its floors may be acknowledged now. True when somebody waited for that, who is to be told."""
        if self.config.durable:
            rows = [row for row in batch.journal if type(row) is crdt.HeadSet]
            self.sync.committed({row.shelf: row.seq for row in rows}, self._now)
        return self.transport.has_frames

    # ---- Port

    def send(self, peer: ReplicaId, lane: Lane, kind: Frame, payload: bytes) -> None:
        self.transport.send(peer, lane, kind, payload)

    def send_all(self, peers: Sequence[ReplicaId], lane: Lane, kind: Frame, payload: bytes) -> None:
        self.transport.send_all(peers, lane, kind, payload)

    def contact(self, address: Address) -> None:
        self.transport.contact(address, self._now)

    def notify(self, event: Event) -> None:
        if type(event) is IdentityInUse and event.replica == self.replica_id:
            self.closer.clashed(self._now)
        elif type(event) is CaughtUp:
            self._housekeeper.hurry(self._now)
        self._events.append(event)

    # ---- local writes

    def draft(
        self,
        type_code: int,
        path: Path,
        payload: Value,
        *,
        removed: bool = False,
        covers: CoverPolicy = "all",
        while_alive: bool = False,
        now: Now,
    ) -> Dot:
        """One write: visible here at once, sealed and sent within coalesce_seconds. Raises a subclass of
        WriteRefused, state as it was.
        """
        self._check_write(path, now)
        if not removed:
            check_quota(self.replica)
            payload = self.vault.seal((type_code, path), payload, self.replica.shelf)
        dot = self.replica.draft(
            type_code, path, payload, removed=removed, covers=covers, while_alive=while_alive, now_wall=now.wall
        )
        self._draft_due = min(self._draft_due, max(now.monotonic, self._sealed_at + self.config.coalesce_seconds))
        return dot

    def check_rights(self, path: Path, now: Now) -> None:
        """Raises NotPermitted when this agent may not write there."""
        check_rights(self.replica_id, self.directory, path, now)

    def _check_write(self, path: Path, now: Now) -> None:
        check_write(self.replica_id, self.directory, self.replica, self.swim, path, now)

    def _seal(self, now: Now) -> None:
        """Sign what is drafted and push it, as far as the eager budget goes."""
        self._draft_due = inf
        deltas = self.replica.seal()
        if not deltas:
            return
        self._sealed_at = now.monotonic
        self._eager.refill(now.monotonic)
        push = min(sum(not delta.bulk for delta in deltas), int(self._eager.tokens))
        self._eager.tokens -= push
        hold = any(op.type in COMMIT_FIRST for delta in deltas for op in delta.ops)
        self.sync.publish(deltas, now, push=push, hold=hold)

    # ---- what the parts ask

    def _may_take_over(self, former: ShelfId, host: ShelfId) -> bool:
        """Within one replica, or whom a cut names."""
        one, other = replica_of(former), replica_of(host)
        return former != host and (one == other or self.directory.endings.may_host(one, other))

    def _is_live(self, shelf: ShelfId) -> bool:
        """Whether this shelf is the one that a live member writes now (presence)."""
        return shelf == self.replica.shelf or self.swim.current_shelf(replica_of(shelf)) == shelf

    # ---- what the node asks

    @property
    def synced(self) -> bool:
        """Whether this replica was in step with a peer since the start, or found nobody to ask."""
        return self.sync.synced

    def replicated(self, dot: Dot) -> int:
        """How many others said that they hold this own write, as durably as they promise. Asks those that have not said so."""
        if dot.seq > self._asked_copies_of or self._now.monotonic - self._asked_copies_at >= ASK_COPIES_SECONDS:
            self._asked_copies_at, self._asked_copies_of = self._now.monotonic, dot.seq
            self.sync.ask_for_copies()
        return self.sync.copies.count(dot.seq)

    def leave(self, now: Now) -> None:
        """Say goodbye; `left` turns true when enough members confirmed it, or nobody did in time."""
        self._now = now
        self._seal(now)
        self.swim.leave(now)

    @property
    def left(self) -> bool:
        return self.swim.left

    def statistics(self) -> dict[str, Any]:
        """Counters since the start."""
        return {
            "drops": dict(sorted((self.drops + self.transport.drops + self.directory.drops).items())),
            "traffic": self.transport.counters.as_dict(),
            "sync": self.sync.statistics(),
            "quorum": self.quorum.keeper.statistics(self.quorum.chain),
            "identity_in_use": self.swim.contested,
            "members": len(self.swim.members()),
            "shelves": len(self.replica.shelves()),
            "keys": len(self.replica.index.slots),
            "ended": self.closer.describe(),
        }
