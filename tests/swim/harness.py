"""A mesh of Swim cores on virtual time: loss, delay, stalls, cuts, crashes, restarts. One seed, one trace.

Models what membership sees of the rest: a session per pair of starts that costs a round trip to open, frames packed into
datagrams, a driver that takes 64 datagrams from the socket before it ticks. Bytes are counted as on the wire, IP and UDP
headers included.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from crdt.ids import ReplicaId
from mesh.effects import Address, Now
from mesh.errors import Malformed
from mesh.events import Event, IdentityInUse, MemberDown
from mesh.presets import LAN
from mesh.store.rows import KnownPeer
from mesh.swim import Swim, SwimConfig
from mesh.swim.claims import SIGNATURE_BYTES
from mesh.swim.roster import State
from mesh.wire.frames import Frame, Lane

SEALED_BYTES: Final = 33 + 28
"""What a sealed datagram has besides its frames, plus IPv4 and UDP headers."""
INIT_BYTES: Final = 73 + 28
CONNECT_BYTES: Final = 65 + 400 + 2 * 28
"""Cookie, and a connect with a credential."""
FRAMES_BYTES_MAX: Final = 1_167
DRAIN_MAX: Final = 64
WALL: Final = 1_700_000_000_000_000


def replica(number: int) -> ReplicaId:
    """As random as real ids are, so that places in the ring do not follow the numbers."""
    return ReplicaId(hashlib.blake2b(b"replica %d" % number, digest_size=8).digest())


def address(number: int) -> Address:
    return (f"10.0.{number >> 8}.{number & 255}", 7946)


@dataclass
class Network:
    """Decides about every datagram. All may be changed while the mesh runs."""

    loss: float = 0.0
    delay: Callable[[random.Random], float] = lambda rng: rng.uniform(0.0002, 0.001)
    sides: dict[int, int] = field(default_factory=dict)
    """Cut: agents of different sides do not hear each other. Default side 0."""
    blocked: set[tuple[int, int]] = field(default_factory=set)
    """(from, to): one direction of one pair."""

    def passes(self, source: int, target: int) -> bool:
        return self.sides.get(source, 0) == self.sides.get(target, 0) and (source, target) not in self.blocked


class Agent:
    """One process: a core, its socket and its port."""

    def __init__(self, mesh: Mesh, number: int, incarnation: int, known: Sequence[KnownPeer], birth: int) -> None:
        self.mesh, self.number = mesh, number
        self.replica = replica(mesh.identity_of.get(number, number))
        self.address = address(number)
        self.running = True
        self.stalled_until = 0.0
        self.inbox: deque[tuple[int, tuple[tuple[Frame, bytes], ...], ReplicaId]] = deque()
        self.timer_at = float("inf")
        self.events: list[tuple[float, Event]] = []
        self.sent_bytes = self.sent_datagrams = 0
        self._out: dict[ReplicaId, list[tuple[Frame, bytes]]] = {}
        self._contacts: list[Address] = []
        self.sessions: dict[ReplicaId, int] = {}
        """The agent at the other end of the newest session with each peer: what is sent goes there."""
        self.heard: set[int] = set()
        """Agents with which a session is or was open: what they send is taken."""
        self.swim = Swim(
            me=self.replica,
            birth=birth,
            sign=lambda purpose, payload: mesh.sign(self.replica, purpose, payload),
            verify=lambda signer, purpose, payload, signature: mesh.verify(signer, purpose, payload, signature),
            config=mesh.config,
            rng=random.Random(mesh.rng.getrandbits(64)),
            port=self,
            address=self.address,
            incarnation=incarnation,
            name=f"agent-{number}",
            known=known,
            seeds=mesh.seeds,
        )

    # ---- Port

    def send(self, peer: ReplicaId, lane: Lane, kind: Frame, payload: bytes) -> None:
        self._out.setdefault(peer, []).append((kind, payload))

    def send_all(self, peers: Sequence[ReplicaId], lane: Lane, kind: Frame, payload: bytes) -> None:
        for peer in peers:
            self.send(peer, lane, kind, payload)

    def contact(self, where: Address) -> None:
        self._contacts.append(where)

    def notify(self, event: Event) -> None:
        self.events.append((self.mesh.time, event))
        for observer in self.mesh.observers:
            observer(self, event)

    # ---- the driver's loop

    def now(self) -> Now:
        return Now(self.mesh.time, WALL + int(self.mesh.time * 1e6))

    def run(self) -> None:
        mesh = self.mesh
        if not self.running:
            return
        if self.stalled_until > mesh.time:
            self.arm(self.stalled_until)
            return
        for _ in range(min(DRAIN_MAX, len(self.inbox))):
            self._receive(*self.inbox.popleft())
        self.swim.tick(self.now())
        self.flush()
        self.arm(mesh.time if self.inbox else max(self.swim.deadline, mesh.time))

    def _receive(self, source: int, frames: tuple[tuple[Frame, bytes], ...], peer: ReplicaId) -> None:
        if peer == self.replica:
            return
        now = self.now()
        if source not in self.heard:
            self.open(peer, source)
        self.swim.heard_from(peer, now)
        for kind, payload in frames:
            try:
                assert self.swim.handle_untrusted(peer, kind, payload, now)
            except Malformed:
                self.mesh.counts["malformed"] += 1

    def open(self, peer: ReplicaId, source: int) -> None:
        self.heard.add(source)
        self.sessions[peer] = source
        self.swim.session_opened(peer, self.now())

    def close(self, number: int) -> None:
        self.heard.discard(number)
        self.sessions = {peer: source for peer, source in self.sessions.items() if source != number}

    def flush(self) -> None:
        """What the core wants sent: frames for one member share datagrams."""
        out, self._out = self._out, {}
        for peer, frames in out.items():
            self._transmit(peer, frames)
        contacts, self._contacts = self._contacts, []
        for where in contacts:
            self.mesh.connect(self, where)

    def _transmit(self, peer: ReplicaId, frames: list[tuple[Frame, bytes]]) -> None:
        target = self.mesh.where(self, peer)
        if target is None:
            return
        packed: list[tuple[Frame, bytes]] = []
        size = 0
        for kind, payload in frames:
            if size + len(payload) + 3 > FRAMES_BYTES_MAX:
                self.mesh.carry(self, target, tuple(packed), size)
                packed, size = [], 0
            packed.append((kind, payload))
            size += len(payload) + 3
        self.mesh.carry(self, target, tuple(packed), size)

    def arm(self, at: float) -> None:
        if at != float("inf") and (at < self.timer_at or self.timer_at <= self.mesh.time):
            self.timer_at = at
            self.mesh.after(at - self.mesh.time, self._timer, at)

    def _timer(self, at: float) -> None:
        if self.timer_at == at:
            self.timer_at = float("inf")
            self.run()


class Mesh:
    """All agents, the network and the time."""

    def __init__(
        self,
        size: int,
        *,
        seed: int = 1,
        config: SwimConfig = LAN.swim,
        loss: float = 0.0,
        seeds: Iterable[int] = (0,),
        **changes: float,
    ) -> None:
        self.rng = random.Random(seed)
        self.config = replace(config, **changes) if changes else config  # type: ignore[arg-type]
        self.network = Network(loss=loss)
        self.time = 0.0
        self.seeds = [address(number) for number in seeds]
        self.agents: dict[int, Agent] = {}
        self.identity_of: dict[int, int] = {}
        """Agents that run under another one's identity (a cloned disk)."""
        self.enrolled: set[ReplicaId] = {replica(number) for number in range(size)}
        self.observers: list[Callable[[Agent, Event], None]] = []
        self.counts: Counter[str] = Counter()
        self.frames: Counter[Frame] = Counter()
        self._queue: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = 0
        self._trace = hashlib.blake2b(digest_size=16)
        self.sign: Callable[[ReplicaId, bytes, bytes], bytes] = fake_signature
        self.verify: Callable[[ReplicaId, bytes, bytes, bytes], bool] = self._verify
        for number in range(size):
            self.start(number)

    def use_real_signatures(self) -> None:
        """Ed25519 from here on; to be called before anything runs."""
        keys: dict[ReplicaId, SigningKey] = {}

        def key(signer: ReplicaId) -> SigningKey:
            if signer not in keys:
                keys[signer] = SigningKey(hashlib.blake2b(signer, digest_size=32).digest())
            return keys[signer]

        def verify(signer: ReplicaId, purpose: bytes, payload: bytes, signature: bytes) -> bool:
            self.counts["verified"] += 1
            try:
                key(signer).verify_key.verify(purpose + payload, signature)
            except BadSignatureError:
                return False
            return signer in self.enrolled

        self.sign = lambda signer, purpose, payload: key(signer).sign(purpose + payload).signature
        self.verify = verify

    def _verify(self, signer: ReplicaId, purpose: bytes, payload: bytes, signature: bytes) -> bool:
        return signer in self.enrolled and fake_signature(signer, purpose, payload) == signature

    # ---- processes

    def start(self, number: int, *, incarnation: int = 0, known: Sequence[KnownPeer] = (), delay: float = 0.0) -> None:
        """Also again, after a crash. Without `incarnation` and `known`: the disk is lost, too."""
        birth = self.rng.getrandbits(32)
        self.after(delay, self._start, number, incarnation, known, birth)

    def _start(self, number: int, incarnation: int, known: Sequence[KnownPeer], birth: int) -> None:
        agent = self.agents[number] = Agent(self, number, incarnation, known, birth)
        for other in self.agents.values():
            other.close(number)
        agent.run()

    def crash(self, number: int) -> float:
        self.agents[number].running = False
        return self.time

    def stall(self, number: int, seconds: float) -> None:
        """The process stands still; what comes in waits in its socket."""
        agent = self.agents[number]
        agent.stalled_until = max(agent.stalled_until, self.time + seconds)

    def cut(self, side: Iterable[int]) -> None:
        self.network.sides = dict.fromkeys(side, 1)

    def heal(self) -> None:
        self.network.sides = {}

    def do(self, number: int, action: Callable[[Swim, Now], object]) -> None:
        """A local call into one core, and what follows from it."""
        agent = self.agents[number]
        action(agent.swim, agent.now())
        agent.flush()
        agent.run()

    # ---- the network

    def where(self, sender: Agent, peer: ReplicaId) -> int | None:
        """The agent that gets what the sender sends to this member."""
        if peer in sender.sessions:
            return sender.sessions[peer]
        known = sender.swim.address_of(peer)
        return self._at(known) if known is not None else None

    def _at(self, where: Address) -> int | None:
        host = where[0].split(".")
        number = int(host[2]) * 256 + int(host[3])
        return number if number in self.agents else None

    def carry(self, sender: Agent, target: int, frames: tuple[tuple[Frame, bytes], ...], size: int) -> None:
        sender.sent_bytes += size + SEALED_BYTES
        sender.sent_datagrams += 1
        for kind, payload in frames:
            self.frames[kind] += len(payload) + 3
            self._trace.update(b"%f %d %d %d" % (self.time, sender.number, target, kind))
            self._trace.update(payload)
        delay = self._delay(sender.number, target)
        if target not in sender.heard:  # three legs before the first frames arrive
            sender.sent_bytes += CONNECT_BYTES
            legs = (delay, self._delay(target, sender.number), self._delay(sender.number, target))
            delay = None if None in legs else sum(leg for leg in legs if leg is not None)
            if delay is not None:
                self.after(delay, self._opened, sender, target)
        if delay is not None:
            self.after(delay, self._arrive, target, sender.number, frames, sender.replica)

    def connect(self, sender: Agent, where: Address) -> None:
        """An INIT to an address; three legs later both sides have a session."""
        sender.sent_bytes += INIT_BYTES
        sender.sent_datagrams += 1
        self.counts["contacts"] += 1
        target = self._at(where)
        if target is None or target == sender.number:
            return
        legs = [self._delay(*leg) for leg in ((sender.number, target), (target, sender.number), (sender.number, target))]
        if None not in legs:
            self.after(sum(leg for leg in legs if leg is not None), self._opened, sender, target)

    def _opened(self, sender: Agent, target: int) -> None:
        receiver = self.agents[target]
        if not (sender.running and receiver.running) or receiver.replica == sender.replica:
            return
        for one, other in ((receiver, sender), (sender, receiver)):
            if one.stalled_until <= self.time and not one.swim.left:
                one.open(other.replica, other.number)
                one.flush()
                one.arm(self.time)

    def _delay(self, source: int, target: int) -> float | None:
        if not self.network.passes(source, target) or (self.network.loss and self.rng.random() < self.network.loss):
            return None
        return self.network.delay(self.rng)

    def _arrive(self, target: int, source: int, frames: tuple[tuple[Frame, bytes], ...], peer: ReplicaId) -> None:
        agent = self.agents[target]
        if agent.running and not agent.swim.left:
            agent.inbox.append((source, frames, peer))
            agent.run()

    # ---- time

    def after(self, delay: float, action: Callable[..., None], *args: object) -> None:
        self._order += 1
        heapq.heappush(self._queue, (self.time + max(0.0, delay), self._order, action, args))

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self._queue and self._queue[0][0] <= end:
            self.time, _, action, args = heapq.heappop(self._queue)
            action(*args)
        self.time = end

    def run_until(self, predicate: Callable[[], bool], limit: float, step: float = 0.01) -> float:
        """Seconds that it took. Fails after `limit`."""
        began = self.time
        while not predicate():
            assert self.time - began < limit, f"not within {limit} s; {self.summary()}"
            self.run(step)
        return self.time - began

    # ---- what there is to see

    @property
    def running(self) -> list[Agent]:
        return [agent for agent in self.agents.values() if agent.running and not agent.swim.left]

    def state(self, viewer: int, subject: int) -> State | None:
        member = self.agents[viewer].swim.member(replica(subject))
        return member.state if member is not None else None

    def all_see(self, subject: int, state: State) -> bool:
        return all(self.state(agent.number, subject) is state for agent in self.running if agent.number != subject)

    def all_alive(self) -> bool:
        """Every running agent sees every other running one alive, and nobody else."""
        present = sorted(agent.replica for agent in self.running)
        return all(agent.swim.alive() == [other for other in present if other != agent.replica] for agent in self.running)

    def lists_equal(self) -> bool:
        return len({agent.swim.list_digest for agent in self.running}) == 1

    def settle(self, limit: float = 30.0) -> float:
        """Until everybody knows everybody."""
        return self.run_until(lambda: self.all_alive() and self.lists_equal(), limit, 0.1)

    def events_of(self, kind: type[Event]) -> list[tuple[float, int, Event]]:
        return sorted(
            (
                (time, agent.number, event)
                for agent in self.agents.values()
                for time, event in agent.events
                if isinstance(event, kind)
            ),
            key=lambda row: row[:2],
        )

    def false_deaths(self) -> list[tuple[float, int, Event]]:
        """Burials of somebody who runs, in a mesh that was never cut."""
        living = {agent.replica for agent in self.running}
        return [row for row in self.events_of(MemberDown) if isinstance(row[2], MemberDown) and row[2].replica in living]

    def bytes_per_second(self, seconds: float) -> float:
        """Sent, per agent, measured over a run of this length."""
        before = sum(agent.sent_bytes for agent in self.running)
        self.run(seconds)
        return (sum(agent.sent_bytes for agent in self.running) - before) / seconds / len(self.running)

    @property
    def trace(self) -> str:
        """Of every frame sent so far."""
        return self._trace.hexdigest()

    def summary(self) -> str:
        states: defaultdict[str, int] = defaultdict(int)
        for agent in self.running:
            for member in agent.swim.members():
                states[member.state] += 1
        return f"at {self.time:.2f} s: {dict(states)}, {len({agent.swim.list_digest for agent in self.running})} lists"


def fake_signature(signer: ReplicaId, purpose: bytes, payload: bytes) -> bytes:
    """Cheap, and as hard to mistake as a real one; whoever knows a name can forge it, so attacks are tested with real ones,
    too.
    """
    return hashlib.blake2b(purpose + payload, digest_size=SIGNATURE_BYTES, key=signer).digest()


def identity_clashes(mesh: Mesh) -> set[int]:
    return {number for _, number, _ in mesh.events_of(IdentityInUse)}
