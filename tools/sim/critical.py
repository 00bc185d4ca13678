"""Critical writes under faults: a workload of reads, writes, compare-and-set, leases and repeated lists of writes on any host,
and what must be true of it.

At every transition, Raft's five properties as seen from outside: one leader in a term, leaders that only append, equal hashes at
equal indexes (matching, and state machine safety), leaders that have all that was committed; besides equal states, growing
fencing tokens, and no long time without a leader while a majority of the voters is up and connected. After the calm: every
operation has its outcome, the history is linearizable, all replicas have the same state, and each can prove to a stranger, from
the authority's key alone, everything that it holds.

Disks that lose what they reported as stored are outside of what a majority can survive; so are copied machines. Such
faults are left out of runs with critical writes.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from consensus_escalation.chain import Chain
from consensus_escalation.command import NULL, Command, Verb, command_to_bytes
from consensus_escalation.machine import MISMATCH, Outcome, Status
from consensus_escalation.quorum import Config, has_quorum
from consensus_escalation.sessions import Key as SessionKey
from consensus_escalation.types import Role
from crdt.ids import ReplicaId
from crdt.ops import Key
from mesh.critical.proof import NotProven, ledger_file, verify_untrusted
from mesh.errors import Backpressure
from mesh.events import Event
from mesh.peer import Peer
from mesh.quorum.courier import NotTaken
from mesh.testing import SECOND, Host, linearizable, microseconds
from mesh.testing.linearizable import DONE, GET, SET, SWAP, UNKNOWN, Mismatch, Operation
from mesh.wire.cbor import decode_untrusted, encode
from tools.sim.ground import Ground, Moment
from tools.sim.several import Repeats

PREFIX: Final = "critical/**"
OUTSIDE: Final = frozenset({"amnesia", "lying-disk"})
"""Faults that break what Raft asks of a disk."""
LEADERLESS_SECONDS: Final = 2.0
"""Or, where a preset is slower, a voter's own silence, a slot for each that comes before it and one to be elected in."""
QUEUED_SECONDS: Final = 0.1
"""Links that let datagrams wait for longer are not good ones. Guess: half of a voter's silence."""
DIGEST_EVERY: Final = 8
"""Blocks: of so many the states are compared."""
VOTE_SHARE: Final = 0.03
"""Of operations that come with a voter dismissed or appointed: one in two seconds at 15 a second."""
ANEW_SHARE: Final = 0.01
VOTERS_MIN: Final = 3
"""Enrolled ones that are left. With two, a dead one ends everything."""
ENDING_SECONDS: Final = 5.0
"""After the calm, for what was under way to end: a few tries of the courier, or as many time-outs as these are on Wi-Fi."""
ENDING_ELECTIONS: Final = 8.0


@dataclass(slots=True)
class Asked:
    """An operation under way."""

    operation: Operation
    host: int
    start: int
    """Which process of the host."""


class Reign(NamedTuple):
    """A leader's log as it was seen last."""

    leader: ReplicaId
    last: int
    hash: bytes


class Critical:
    """Made before the mesh starts; `begin` at the start of the fault phase."""

    name = "critical"
    looks_at: Moment = "turns"

    def __init__(self, ground: Ground, rate: float, paths: int) -> None:
        self._ground, self._mesh = ground, ground.mesh
        self._rate, self._paths = rate, paths
        self._rng = random.Random(0)
        self._end = 0
        self._values = 0
        self._asked: dict[tuple[int, int, SessionKey], Asked] = {}
        self._reads: dict[tuple[int, int, int], Asked] = {}
        self.history: list[Operation] = []
        self._repeats = Repeats(ground, self.history)
        self._dismissed: list[ReplicaId] = []
        self._leases: dict[str, tuple[int, int]] = {}
        """path -> (host, token) of a lease that was granted and may be released."""
        self._tokens: dict[str, int] = {}
        self._hashes: dict[int, bytes] = {}
        """Of applied blocks, by index; the first host that applies one says so."""
        self._digests: dict[int, bytes] = {}
        self._applied: dict[tuple[int, int], int] = {}
        """(host, start) -> how far it was looked at."""
        self._leaders: dict[int, ReplicaId] = {}
        self._reigns: dict[int, Reign] = {}
        self._leaderless_since: int | None = None
        pace = self._mesh.preset.quorum
        self._leaderless_seconds = max(LEADERLESS_SECONDS, pace.turn_seconds(self._mesh.setup.voters))
        self._ending_seconds = max(ENDING_SECONDS, ENDING_ELECTIONS * pace.election_seconds)

    # ---- workload

    def begin(self, seconds: float) -> None:
        self._rng = self._mesh.world.rng("critical")
        self._end = self._mesh.world.time + microseconds(seconds)
        self._next()

    def _next(self) -> None:
        at = self._mesh.world.time + max(1, microseconds(self._rng.uniform(0.0, 2.0 / self._rate)))
        if at < self._end:
            self._mesh.world.at(at, self._ask)

    def _ask(self) -> None:
        host = self._mesh.hosts[self._rng.randrange(len(self._mesh.hosts))]
        kind, path = self._rng.choice((SET, GET, SWAP, SWAP, "lease", "several")), f"critical/{self._rng.randrange(self._paths)}"
        if host.core is not None and not host.paused and not host.core.left and host.core.quorum.chain is not None:
            self._ground.counts[f"{self.name} {kind}"] += 1
            if self._rng.random() < VOTE_SHARE:
                self._change_voter(host)
            if self._rng.random() < ANEW_SHARE:
                self._begin_anew(host)
            if kind == "lease":
                self._lease(host, f"{path}/lease")
            elif kind == GET:
                self._read(host, path)
            elif kind == "several":
                self._values = self._repeats.ask(host, self._rng, self._values, self._paths)
            else:
                self._write(host, kind, path)
        self._next()

    def _change_voter(self, host: Host[Peer]) -> None:
        """The authority takes a vote, or gives one back, and tells this host."""
        authority, directory = self._mesh.authority, self._mesh.authority.directory
        enrolled = [member.replica_id for member in self._mesh.memberships if member.replica_id not in self._dismissed]
        voters = [each for each in enrolled if (grant := directory.credential(each)) is not None and grant.terms.voter]
        if self._dismissed and self._rng.random() < 0.5:
            statement = authority.reissue(self._dismissed.pop(0), voter=True)
        elif len(voters) > VOTERS_MIN:
            self._dismissed.append(self._rng.choice(voters))
            statement = authority.reissue(self._dismissed[-1], voter=False)
        else:
            return
        self._ground.counts[f"{self.name} votes given or taken"] += 1
        self._peer(host).directory.add_untrusted(statement, host.now())
        host.wake_soon()

    def _begin_anew(self, host: Host[Peer]) -> None:
        """One that never voted forgets the log, and has a token that names what this host knows of it."""
        mesh, voters = self._mesh, self._mesh.setup.voters
        others = [number for number in mesh.running if number >= voters and number != host.number]
        newcomer = mesh.hosts[self._rng.choice(others)] if others else host
        chain = self._peer(host).quorum.chain
        if newcomer is host or newcomer.journal is None or chain is None or mesh.identities[newcomer.number] != newcomer.number:
            return
        self._ground.counts[f"{self.name} newcomers with an anchor"] += 1
        member = mesh.memberships[newcomer.number]
        mesh.memberships[newcomer.number] = replace(member, anchor=chain.anchor)
        mesh.crash(newcomer.number)
        newcomer.journal.lose()
        mesh.restart(newcomer.number)

    def _write(self, host: Host[Peer], kind: str, path: str) -> None:
        self._values += 1
        chain = self._peer(host).quorum.chain
        assert chain is not None
        cell = chain.machine.cell(tuple(path.split("/")))
        expected = decode_untrusted(cell.value) if cell is not None and kind == SWAP else None
        verb = Verb.SET if kind == SET else Verb.COMPARE_AND_SET
        command = Command(verb, tuple(path.split("/")), encode(self._values), encode(expected) if kind == SWAP else NULL)
        self._want(host, command, Operation(host.number, path, kind, self._mesh.now, value=self._values, expected=expected))

    def _lease(self, host: Host[Peer], path: str) -> None:
        held, where = self._leases.get(path), tuple(path.split("/"))
        if held is not None and held[0] == host.number and self._rng.random() < 0.7:
            command = Command(self._rng.choice((Verb.RENEW, Verb.RELEASE)), where, token=held[1], ttl=500)
        else:
            command = Command(Verb.ACQUIRE, where, ttl=self._rng.choice((200, 500, 1500)))
        self._want(host, command, Operation(host.number, path, "lease", self._mesh.now))

    def _want(self, host: Host[Peer], command: Command, operation: Operation) -> None:
        quorum = self._peer(host).quorum
        assert quorum.chain is not None
        try:
            key = quorum.courier.want(quorum.chain, command_to_bytes(command, encode))
        except Backpressure:
            self._ground.counts[f"{self.name} backpressure"] += 1
            return
        self._asked[host.number, host.starts, key] = Asked(operation, host.number, host.starts)
        host.wake_soon()

    def _read(self, host: Host[Peer], path: str) -> None:
        number = self._peer(host).quorum.questions.put(host.now())
        operation = Operation(host.number, path, GET, self._mesh.now)
        self._reads[host.number, host.starts, number] = Asked(operation, host.number, host.starts)
        host.wake_soon()

    # ---- every transition

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        if host.core is None or host.core.quorum.chain is None:
            return
        self._answers(host)
        self._look_at_blocks(host)
        self._look_at_leader(host)
        self._look_for_gap()

    def _answers(self, host: Host[Peer]) -> None:
        quorum = self._peer(host).quorum
        for each in quorum.courier.take_answered():
            asked = self._asked.pop((host.number, host.starts, each.key), None)
            if asked is None:
                self._repeats.answered(host, each)
                continue
            if isinstance(each, NotTaken):
                self._ground.counts[f"{self.name} refused"] += 1
            else:
                self._decided(host, asked.operation, each.outcome)
        assert quorum.chain is not None
        for number, _ in quorum.questions.take(quorum.chain.applied):
            asked = self._reads.pop((host.number, host.starts, number), None)
            if asked is not None:
                cell = quorum.chain.machine.cell(tuple(asked.operation.path.split("/")))
                value = decode_untrusted(cell.value) if cell is not None else None
                self.history.append(asked.operation._replace(returned=self._mesh.now, result=value))

    def _decided(self, host: Host[Peer], operation: Operation, outcome: Outcome) -> None:
        if operation.kind == "lease":
            if outcome.token and not outcome.repeated:
                self._leases[operation.path] = (host.number, outcome.token)
            return
        if outcome.status is Status.UNKNOWN:
            self.history.append(operation)
            return
        result: Hashable = DONE
        if outcome.reason == MISMATCH:
            if outcome.repeated or outcome.value is None:
                return  # definite, but what it found is no longer known
            result = Mismatch(decode_untrusted(outcome.value))
        self.history.append(operation._replace(returned=self._mesh.now, result=result))

    def _look_at_blocks(self, host: Host[Peer]) -> None:
        """State machine safety, log matching, equal states, growing tokens."""
        chain = self._peer(host).quorum.chain
        assert chain is not None
        place = (host.number, host.starts)
        before = self._applied.get(place, chain.log.base.index)
        if chain.applied == before:
            return
        self._applied[place] = chain.applied
        for index in range(max(before, chain.log.base.index) + 1, chain.applied + 1):
            digest = chain.log.hash_at(index)
            assert digest is not None
            self._ground.counts[f"{self.name} blocks"] += 1
            if self._hashes.setdefault(index, digest) != digest:
                self._ground.fail(self.name, host, f"two blocks are committed at index {index}")
        if chain.applied % DIGEST_EVERY == 0:
            self._ground.counts[f"{self.name} states"] += 1
            state = chain.machine.digest()
            if self._digests.setdefault(chain.applied, state) != state:
                self._ground.fail(self.name, host, f"two states after block {chain.applied}")
        if chain.applied == max(self._hashes):  # not one that lags behind
            self._look_at_leases(host, chain)

    def _look_at_leases(self, host: Host[Peer], chain: Chain) -> None:
        for path, lease in chain.machine.leases():
            name = "/".join(map(str, path))
            if lease.token < self._tokens.get(name, 0):
                self._ground.fail(self.name, host, f"the token of {name} fell to {lease.token}")
            self._tokens[name] = lease.token

    def _look_at_leader(self, host: Host[Peer]) -> None:
        """Election safety, leader append-only, leader completeness."""
        raft = self._peer(host).quorum.raft
        if raft is None or raft.role is not Role.LEADER:
            return
        if raft.term not in self._leaders:
            self._ground.counts[f"{self.name} elections"] += 1
            for index, digest in self._hashes.items():
                if index > raft.log.base.index and raft.log.hash_at(index) != digest:
                    self._ground.fail(self.name, host, f"leads term {raft.term} and lacks the committed block {index}")
        if self._leaders.setdefault(raft.term, raft.me) != raft.me:
            self._ground.fail(self.name, host, f"a second leader of term {raft.term}")
        reign = self._reigns.get(raft.term)
        if reign is not None and reign.last > raft.log.base.index and raft.log.hash_at(reign.last) != reign.hash:
            self._ground.fail(self.name, host, f"took block {reign.last} of its own term {raft.term} back")
        self._reigns[raft.term] = Reign(raft.me, raft.log.last_index, raft.log.last_hash)

    def _look_for_gap(self) -> None:
        """A long time without a leader while a majority of the voters could have had one."""
        if self._led() or not self._could_be_led():
            self._leaderless_since = None
            return
        now = self._mesh.world.time
        if self._leaderless_since is None:
            self._leaderless_since = now
        elif now - self._leaderless_since > self._leaderless_seconds * SECOND:
            self._ground.fail(
                self.name,
                None,
                f"no leader for {self._leaderless_seconds:g} s, and a majority of the voters was up and connected",
            )

    def _voters(self) -> tuple[list[int], Config] | None:
        """(hosts that vote, the newest configuration that anybody has applied)."""
        mesh = self._mesh
        chains = [mesh.peer(number).quorum.chain for number in mesh.running]
        newest = max((chain for chain in chains if chain is not None), key=lambda chain: chain.applied, default=None)
        if newest is None:
            return None
        numbers = {membership.replica_id: number for number, membership in enumerate(mesh.memberships)}
        return [numbers[voter] for voter in newest.config.electorate], newest.config

    def _led(self) -> bool:
        for number in self._mesh.running:
            raft = self._mesh.peer(number).quorum.raft
            if raft is not None and raft.role is Role.LEADER and not self._mesh.hosts[number].paused:
                return True
        return False

    def _could_be_led(self) -> bool:
        """Some voter reaches a majority, both ways, on links as good as they were at first, and these on good disks; also of the
        configurations that one of these has in its log only: whom the authority dismissed, its log counts no longer."""
        found, network, time = self._voters(), self._mesh.world.network, self._mesh.world.time
        if found is None or network.links or network.default != self._mesh.setup.link:
            return False
        if network.drained_at > time + QUEUED_SECONDS * SECOND:  # who is dead still speaks to somebody
            return False
        hosts, config = found
        fit = [number for number in hosts if self._is_fit(number)]
        for one in fit:
            near = {o for o in fit if o == one or (network.connected(one, o) and network.connected(o, one))}
            whole = all(network.connected(a, b) for a in near for b in near if a != b)
            reached = {self._mesh.memberships[number].replica_id for number in near}
            if whole and all(has_quorum(begun, reached) for begun in (config, *self._in_logs(near))):
                return True
        return False

    def _in_logs(self, numbers: Iterable[int]) -> list[Config]:
        """What these go by themselves: a configuration counts from its block on, before it is committed (paper section 6)."""
        rafts = (self._mesh.peer(number).quorum.raft for number in sorted(numbers))
        return [raft.log.config for raft in rafts if raft is not None]

    def _is_fit(self, number: int) -> bool:
        host = self._mesh.hosts[number]
        disk = host.journal
        runs = host.core is not None and not host.paused and not host.core.left
        return runs and (disk is None or not disk.full) and not self._has_forgotten(number)

    def _has_forgotten(self, number: int) -> bool:
        """A voter without a disk that was started again lost what it acknowledged, and rightly stays out until it is replaced."""
        host = self._mesh.hosts[number]
        return host.journal is None and host.starts > 1 and host.core is not None and host.core.quorum.raft is None

    def _is_lost(self) -> bool:
        """Whether a majority of the voters has forgotten: nothing will ever be agreed on again in this epoch."""
        found = self._voters()
        if found is None:
            return False
        knowing = {self._mesh.memberships[number].replica_id for number in found[0] if not self._has_forgotten(number)}
        return not has_quorum(found[1], knowing)

    @staticmethod
    def _peer(host: Host[Peer]) -> Peer:
        assert host.core is not None
        return host.core

    # ---- after the calm

    def settled(self) -> None:
        mesh = self._mesh
        self._repeats.is_over = True
        is_lost = self._is_lost()
        self._ground.counts[f"{self.name} quorums lost for ever"] += is_lost
        if not is_lost and not mesh.run_until(self._is_answered, self._ending_seconds):
            self._ground.fail(self.name, None, "operations under way have no outcome, long after everything was well")
        self.history += [asked.operation for asked in self._asked.values() if asked.operation.kind != "lease"]
        self._asked.clear()
        self._reads.clear()
        self._repeats.end()
        self._ground.counts[f"{self.name} unknown"] += sum(each.result is UNKNOWN for each in self.history)
        if not mesh.run_until(self._is_one, self._ending_seconds):
            self._ground.fail(self.name, None, "replicas apply different blocks, long after everything was well")
        states = {mesh.peer(number).quorum.chain.machine.digest() for number in mesh.running}  # type: ignore[union-attr]
        if len(states) > 1:
            self._ground.fail(self.name, None, "critical states differ after the calm")
        for violation in linearizable.check(self.history):
            self._ground.fail(self.name, None, str(violation))
        self._ground.counts[f"{self.name} operations checked"] += len(self.history)
        for number in mesh.running:
            self._prove(number)

    def _is_answered(self) -> bool:
        """Whether every process that still lives knows what became of all that it asked for."""
        own = [(asked.host, asked.start) for asked in [*self._asked.values(), *self._reads.values()]]
        hosts = self._mesh.hosts
        return not any(
            hosts[host].starts == start and hosts[host].core is not None for host, start in [*own, *self._repeats.under_way()]
        )

    def _is_one(self) -> bool:
        chains = [self._mesh.peer(number).quorum.chain for number in self._mesh.running]
        places = {(chain.applied, chain.proven) for chain in chains if chain is not None}
        return len(places) == 1 and all(applied == proven for applied, proven in places)

    def _prove(self, number: int) -> None:
        peer = self._mesh.peer(number)
        chain, genesis = peer.quorum.chain, peer.directory.genesis()
        if chain is None or genesis is None or chain.applied == chain.log.base.index:
            return
        charter, statements = self._mesh.memberships[number].charter, peer.directory.statements()
        try:
            report = verify_untrusted(ledger_file(chain, genesis[0], charter, statements, peer.quorum.keeper.refusals))
        except NotProven as error:
            self._ground.fail(self.name, number, f"what it would show to a stranger proves nothing: {error}")
        self._ground.counts[f"{self.name} ledgers proven"] += 1
        for change in report.changes:
            self._ground.counts[f"{self.name} removals countersigned"] += len(change.countersigned)
        if not all(decision.signed for decision in report.decisions):
            self._ground.fail(self.name, number, "its ledger holds an entry that its author did not sign")


def may_happen(kinds: Sequence[str]) -> tuple[str, ...]:
    """Of these faults, those that a quorum has to survive."""
    return tuple(kind for kind in kinds if kind not in OUTSIDE)
