"""Whole datagrams into a living agent: by strangers, by a member that went mad, by one that signs what he should not.

    victim  <--- what is fuzzed --- insider (a member, its session with the victim is real)
      ^
      +---- friend (an honest member)

The first byte of an input says how the rest reaches the victim. Whatever comes, the victim must not raise, must answer within
bounds, must be as it was when it refuses, and afterwards victim and friend must still hear each other.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

from crdt.delta import Delta, delta_from_parts_untrusted
from crdt.errors import Malformed as CrdtMalformed
from crdt.ids import replica_of, shelf_id
from crdt.ops import Value
from crdt.types import value_key
from mesh.effects import Address
from mesh.errors import WriteRefused
from mesh.peer import Peer
from mesh.swim.claims import PURPOSE_CLAIM
from mesh.testing import Host, VirtualNode
from mesh.trust.statements import PURPOSE, STATEMENT_BYTES_MAX
from mesh.values import history_of, read_value
from mesh.wire import cbor, cose
from mesh.wire.cose import to_be_signed
from mesh.wire.crypto import NONCE_BYTES
from mesh.wire.delta import delta_bytes, sign_header
from mesh.wire.early import EARLY_BYTES_MAX, early_key
from mesh.wire.frames import Frame
from mesh.wire.handshake import HANDSHAKE_NONCE_BYTES, Init, encode_init, mesh_tag
from mesh.wire.packer import DATAGRAM_BYTES_MAX, FRAME_HEAD_BYTES, PLAIN_BYTES_MAX, TokenBucket, encode_frame, frames_untrusted
from tools.fuzz.author import Chain
from tools.fuzz.material import SEED, UNLIMITED, Material, TappedMesh, listen, material, write_all_types
from tools.fuzz.mutate import Mutator
from tools.fuzz.subject import Broken, Source, Subject, Target, same

VICTIM, FRIEND, INSIDER = range(3)
STRANGER: Final[Address] = ("203.0.113.9", 4000)

FRAMES_PER_FRAME_MAX: Final = 70
"""Frames that one frame of a member may cause: 64 repairs (mesh.sync.serve) or statements, and some air."""
BYTES_AT_ONCE_MAX: Final = 300 * 1024
"""What may leave within one instant: the burst of both peers' byte budgets (mesh.wire.limits), and handshakes."""
CALM_SECONDS: Final = 20.0
"""In which victim and friend must have heard each other again, after whatever the insider did. A suspicion that he raised
takes seconds to be refuted; a crash takes three to be noticed."""
FORMER_LIVES: Final = 2
"""Starts that these members have behind them: what was recorded of former ones is true, signed, and out of date."""
RING: Final = 64
"""Recorded datagrams to choose from."""


class Way(IntEnum):
    """How the rest of an input reaches the victim."""

    FRAMES = 0
    """Sealed by the insider: the inner decoders read it."""
    SEALED = 1
    """Sealed, then changed: four bytes say how."""
    STRANGER = 2
    """As it is, from an address that nobody knows."""
    SPOOFED = 3
    """As it is, from the insider's address."""
    BODY = 4
    """A delta with this body, signed by the insider, its digest right."""
    LIE = 5
    """The same with a wrong digest, on another shelf."""
    CLAIM = 6
    """A sentence about members, signed by the insider."""
    STATEMENT = 7
    """A trust statement, signed by the insider."""
    RECORDED = 8
    """A datagram that was on the wire lately, as it was or changed: four bytes say which and how."""
    TIME = 9
    """Time goes on, and honest members write."""
    EARLY = 10
    """Sealed by the insider along with the first question of a handshake."""


class Siege(Subject):
    def __init__(self) -> None:
        self.mesh = TappedMesh(3, seed=SEED)
        self._sent = [0]
        self.mesh.tap = self._count
        self._ring: list[bytes] = []
        listen(self.mesh, self._record)
        self._changed: set[Any] = set()
        self.mesh.world.observers.append(self._observe)
        self.mesh.start()
        for _ in range(FORMER_LIVES):
            for number in range(3):
                self.mesh.restart(number, "lost")
        if not self.mesh.run_until(self._connected, 5.0, every=0.05):
            raise Broken("the mesh did not form")
        for number in range(3):
            write_all_types(self.mesh.node(number), number)
        self.mesh.run(0.5)
        self._chains: dict[Way, Chain] = {}
        self._writes = self._questions = 0

    def _count(self, host: int, _kind: Frame, payload: bytes) -> bytes:
        self._sent[0] += host == VICTIM
        return payload

    def _record(self, datagram: bytes) -> None:
        self._ring.append(datagram)
        del self._ring[:-RING]

    def _observe(self, host: Host[Peer], _events: object, changes: Any) -> None:
        if host.number == VICTIM:
            self._changed.update(changes)

    def _connected(self) -> bool:
        mesh = self.mesh
        ids = [mesh.memberships[number].replica_id for number in range(3)]
        pairs = ((VICTIM, FRIEND), (FRIEND, VICTIM), (INSIDER, VICTIM))
        return all(mesh.peer(here).transport.is_open(ids[there]) for here, there in pairs)

    # ---- one input

    def feed(self, data: bytes) -> bool:
        way = Way(data[0] % len(Way)) if data else Way.STRANGER
        rest = data[1:]
        insider = self.mesh.hosts[INSIDER].address
        match way:
            case Way.TIME:
                self._pass_time(rest)
                return True
            case Way.STRANGER:
                return self._deliver(rest, STRANGER, stranger=True)
            case Way.SPOOFED:
                return self._deliver(rest, insider)
            case Way.RECORDED:
                return self._deliver(self._recorded(rest), insider)
            case Way.SEALED:
                return self._deliver(_changed(self._seal(rest[4 : 4 + PLAIN_BYTES_MAX]), rest[:4]), insider)
            case Way.EARLY:
                return self._deliver(self._question(rest[:EARLY_BYTES_MAX]), insider, plain=rest[:EARLY_BYTES_MAX])
            case Way.FRAMES:
                return self._deliver(self._seal(rest[:PLAIN_BYTES_MAX]), insider, plain=rest[:PLAIN_BYTES_MAX])
            case _:
                frame = self._signed(way, rest)
                if frame is None or len(frame) > PLAIN_BYTES_MAX:
                    return False
                return self._deliver(self._seal(frame), insider, plain=frame)

    def _deliver(self, datagram: bytes, address: Address, *, plain: bytes = b"", stranger: bool = False) -> bool:
        """One datagram, and what must be true at once."""
        host = self.mesh.hosts[VICTIM]
        victim, now = self.mesh.peer(VICTIM), host.now()
        self._carry(host, victim.transmits(now))
        frames = frames_untrusted(plain) or []
        before = self._state(victim) if len(frames) == 1 else None
        self._sent[0], refused, kept_out = 0, victim.drops.total(), victim.transport.drops.total()
        victim.handle_untrusted(datagram, address, now)
        refused = victim.drops.total() - refused
        if before is not None and refused:
            same(self._state(victim), before, f"refused {Frame(frames[0][0]).name}, and yet the state is another")
        if not stranger:
            victim.tick(now)  # what a frame moved may be acted upon at the end of the turn only
        if self._sent[0] > FRAMES_PER_FRAME_MAX * max(1, len(frames)):
            raise Broken(f"{len(frames)} frames of {len(datagram)} bytes made it send {self._sent[0]} frames")
        transmits = victim.transmits(now)
        size = sum(len(transmit.datagram) for transmit in transmits)
        if size > (len(datagram) if stranger else BYTES_AT_ONCE_MAX):
            raise Broken(f"{len(datagram)} bytes of a {'stranger' if stranger else 'member'} made it send {size} bytes at once")
        if any(len(transmit.datagram) > DATAGRAM_BYTES_MAX for transmit in transmits):
            raise Broken("a datagram above the limit")
        self._carry(host, transmits)
        host.wake_soon()
        return not refused and victim.transport.drops.total() == kept_out

    def _carry(self, host: Host[Peer], transmits: Any) -> None:
        for transmit in transmits:
            self.mesh.world.send(host, transmit.address, transmit.datagram)

    def _state(self, victim: Peer) -> tuple[object, ...]:
        """All that a refused frame may not move. That its sender lives, and what is under way to it, are not of it."""
        replica, members = victim.replica, [member._replace(rtt=None) for member in victim.swim.members()]
        return (
            replica.state_digest(),
            [(shelf, replica.floor(shelf), sorted(replica.loose_seqs(shelf))) for shelf in replica.shelves()],
            victim.directory.digest,
            victim.directory.waiting,
            victim.swim.incarnation,
            members,
        )

    # ---- making datagrams

    def _seal(self, plain: bytes) -> bytes:
        """What the insider says to the victim. Reaches into the transport: no caller of it can send frames that do not add up."""
        mesh = self.mesh
        target = mesh.memberships[VICTIM].replica_id
        if not mesh.peer(INSIDER).transport.is_open(target):
            mesh.run_until(self._connected, CALM_SECONDS, every=0.05)
        peer = mesh.peer(INSIDER).transport._peers.by_id.get(target)
        if peer is None or not peer.sessions:
            raise Broken("the victim gives a member no session any more")
        return peer.sessions[0].session.seal(plain)

    def _question(self, plain: bytes) -> bytes:
        """An INIT of the insider that brings this along. No rate is exceeded: what is over it the victim would not read."""
        mesh, crypto = self.mesh, self.mesh.crypto
        insider, victim = (mesh.memberships[number].identity for number in (INSIDER, VICTIM))
        transport = mesh.peer(VICTIM).transport
        known = transport._peers.by_id.get(insider.replica_id)
        if known is None:
            raise Broken("the victim knows a member no more")
        known.early = transport._early._all = TokenBucket(UNLIMITED, UNLIMITED)
        shared = crypto.agree(crypto.keypair(insider.seed)[1], victim.public_key)
        if shared is None:
            raise Broken("two members cannot agree on a key")
        self._questions += 1
        init = Init(self._questions.to_bytes(HANDSHAKE_NONCE_BYTES, "big"), insider.public_key)
        key = early_key(shared, init, victim.public_key, mesh.authority.mesh_id).key
        return encode_init(mesh_tag(mesh.authority.mesh_id), init) + crypto.seal(key, bytes(NONCE_BYTES), plain, b"")

    def _recorded(self, recipe: bytes) -> bytes:
        rng = random.Random(recipe)
        datagram = rng.choice(self._ring)
        return datagram if rng.random() < 0.5 else Mutator(rng, self._ring).mutated(datagram)

    def _signed(self, way: Way, content: bytes) -> bytes | None:
        """A frame with this content, signed by the insider as its format wants; None when that cannot be."""
        identity, mesh_id = self.mesh.memberships[INSIDER].identity, self.mesh.authority.mesh_id
        match way:
            case Way.CLAIM:
                signature = identity.sign(to_be_signed(content, PURPOSE_CLAIM, mesh_id)) if len(content) < 60_000 else bytes(64)
                return encode_frame(Frame.CLAIM, cbor.encode([content, signature])[:PLAIN_BYTES_MAX])
            case Way.STATEMENT:
                raw = cose.sign1(
                    identity.sign, content[:STATEMENT_BYTES_MAX], kid=identity.replica_id, purpose=PURPOSE, mesh_id=mesh_id
                )
                return encode_frame(Frame.TRUST, raw)
        chain = self._chains.setdefault(way, Chain(shelf_id(identity.replica_id, int(way))))
        try:
            header = chain.header(content)
        except CrdtMalformed:
            return None
        if way is Way.LIE:
            fields = list(cbor.decode_untrusted(header))
            fields[4] = bytes(16)
            header = cbor.encode(fields)
        signature = sign_header(identity.sign, header, mesh_id)
        delta: Delta = delta_from_parts_untrusted(replica_of(chain.shelf), header, signature, content)
        return encode_frame(Frame.DELTA, delta_bytes(delta))

    # ---- time, and the end

    def _pass_time(self, recipe: bytes) -> None:
        rng = random.Random(recipe)
        for number in (VICTIM, FRIEND):
            if rng.random() < 0.2:
                self._writes += 1
                self._write(self.mesh.node(number), f"honest/{number}/{self._writes % 5}", self._writes)
        self.mesh.run(rng.choice((0.001, 0.02, 0.02, 0.3)))
        node = self.mesh.node(VICTIM)
        for key in sorted(self._changed, key=repr):
            of_value = value_key(key)
            read_value(node, of_value)
            history_of(node, key[1], bytes.hex)
        self._changed.clear()
        self.mesh.peer(VICTIM).statistics()

    def _write(self, node: VirtualNode, path: str, value: Value) -> None:
        try:
            node.register(path).set(value)
        except WriteRefused as error:
            raise Broken(f"an honest member cannot write any more: {error}") from error

    def finish(self) -> None:
        """Victim and friend write, and both see both."""
        self.mesh.run(1.0)
        for number in (VICTIM, FRIEND):
            self._write(self.mesh.node(number), f"after/{number}", "still here")

        def seen() -> bool:
            return all(
                self.mesh.node(here).register(f"after/{there}").value == "still here" for here in (0, 1) for there in (0, 1)
            )

        if not self.mesh.run_until(seen, CALM_SECONDS, every=0.1):
            raise Broken("victim and friend do not hear each other any more")
        replica = self.mesh.peer(VICTIM).replica
        if len(replica.shelves()) > 3 * 10:
            raise Broken(f"{len(replica.shelves())} shelves of three members")


@lru_cache(maxsize=1)
def living_shelves() -> tuple[bytes, ...]:
    """Those that exist in every siege."""
    return tuple(Siege().mesh.peer(VICTIM).replica.shelves())


def _changed(datagram: bytes, recipe: bytes) -> bytes:
    return Mutator(random.Random(recipe), [datagram]).mutated(datagram)[: DATAGRAM_BYTES_MAX + 5]


Draw = Callable[[], bytes]


def _ways(*weights: tuple[Way, int]) -> Callable[[random.Random], Source]:
    def source(rng: random.Random) -> Source:
        stuff = material()
        makers = {way: _MAKERS[way](rng, stuff) for way, _ in weights}
        ways, shares = [way for way, _ in weights], [share for _, share in weights]

        def draw() -> bytes:
            way = rng.choices(ways, shares)[0]
            return bytes((way,)) + makers[way]()

        return draw

    return source


def _plain(rng: random.Random, stuff: Material) -> Draw:
    """Frames of all kinds: right ones, wrong ones, of other kinds, several, and lengths that do not add up."""
    pools = {kind: frames or [b"\x80"] for kind, frames in stuff.frames.items()}
    mutators = {kind: Mutator(rng, pool) for kind, pool in pools.items()}
    kinds = list(Frame)
    whole = Mutator(rng, [encode_frame(kind, pool[0]) for kind, pool in pools.items()])

    def payload(kind: Frame) -> bytes:
        choice = rng.random()
        if kind is Frame.HELLO:
            hello = rng.randbytes(16) + rng.choice(stuff.presentations)
            return whole.mutated(hello) if choice < 0.7 else hello
        if choice < 0.1:
            return rng.choice(pools[kind])
        sentence = _SENTENCES.get(kind)
        if sentence is not None and choice < 0.6:
            grammar = stuff.grammar(rng, living_shelves())
            made: bytes = sentence(grammar)
            return made
        return mutators[kind].mutated(rng.choice(pools[kind]))

    def draw() -> bytes:
        plain = b""
        for _ in range(rng.choice((1, 1, 1, 1, 1, 2, 4, 30))):
            kind = rng.choice(kinds)
            if kind is Frame.HELLO and rng.random() < 0.9:
                kind = Frame.DELTA
            content = payload(kind)[: PLAIN_BYTES_MAX - FRAME_HEAD_BYTES]
            number = int(kind) if rng.random() < 0.98 else rng.randrange(256)
            if len(plain) + FRAME_HEAD_BYTES + len(content) <= PLAIN_BYTES_MAX:
                plain += encode_frame(number, content)
        return whole.mutated(plain)[:PLAIN_BYTES_MAX] if rng.random() < 0.05 else plain

    return draw


_SENTENCES: Final[dict[Frame, Callable[[Any], bytes]]] = {
    Frame.PING: lambda g: g.ping(),
    Frame.ACK: lambda g: g.ack(),
    Frame.NACK: lambda g: g.nack(),
    Frame.PING_REQUEST: lambda g: g.ping_request(),
    Frame.CLAIM: lambda g: g.claim(),
    Frame.LEAVE_CONFIRM: lambda g: g.nack(),
    Frame.MEMBERS: lambda g: g.members(),
    Frame.MEMBER_ROWS: lambda g: g.member_rows(),
    Frame.MEMBER_WANT: lambda g: g.member_want(),
    Frame.TRUST_IDS: lambda g: g.trust_ids(),
    Frame.TRUST_WANT: lambda g: g.trust_ids(),
    Frame.TRUST: lambda g: g.statement(),
    Frame.FLOOR: lambda g: g.floor_note(),
    Frame.DIGEST: lambda g: g.digest(),
    Frame.BUCKETS: lambda g: g.bucket_page(),
    Frame.WANT: lambda g: g.want(),
    Frame.LISTING: lambda g: g.listing(),
    Frame.WANT_BODIES: lambda g: g.want_bodies(),
    Frame.BODY: lambda g: g.body_note(),
    Frame.WANT_LISTING: lambda g: g.want_listing(),
}


def _raw(rng: random.Random, stuff: Material) -> Draw:
    mutator = Mutator(rng, stuff.datagrams)

    def draw() -> bytes:
        choice = rng.random()
        if choice < 0.2:
            return bytes((rng.randrange(7),)) + rng.randbytes(rng.choice((0, 8, 24, 56, 63, 64, 65, 80, 120, 1_199, 1_250)))
        datagram = rng.choice(stuff.datagrams)
        return datagram if choice < 0.3 else mutator.mutated(datagram)

    return draw


def _recipe(rng: random.Random, _stuff: Material) -> Draw:
    return lambda: rng.randbytes(4)


def _with_recipe(rng: random.Random, stuff: Material) -> Draw:
    plain = _plain(rng, stuff)
    return lambda: rng.randbytes(4) + plain()


def _body(rng: random.Random, stuff: Material) -> Draw:
    mutator = Mutator(rng, stuff.bodies)

    def draw() -> bytes:
        if rng.random() < 0.3:
            return mutator.mutated(rng.choice(stuff.bodies))
        grammar = stuff.grammar(rng, living_shelves())
        grammar.wrong = rng.choice((0.0, 0.0, grammar.wrong))
        return grammar.body(rng.randrange(1, 40))

    return draw


_MAKERS: Final[dict[Way, Callable[[random.Random, Material], Draw]]] = {
    Way.FRAMES: _plain,
    Way.SEALED: _with_recipe,
    Way.STRANGER: _raw,
    Way.SPOOFED: _raw,
    Way.BODY: _body,
    Way.LIE: _body,
    Way.CLAIM: lambda rng, stuff: lambda: stuff.grammar(rng, living_shelves()).claim_body(),
    Way.STATEMENT: lambda rng, stuff: lambda: stuff.grammar(rng, living_shelves()).statement_payload(),
    Way.RECORDED: _recipe,
    Way.TIME: _recipe,
    Way.EARLY: _plain,
}

SIEGES: Final[tuple[Target, ...]] = (
    Target(
        "strangers",
        "datagrams of nobody into a living agent",
        Siege,
        _ways((Way.STRANGER, 60), (Way.SPOOFED, 20), (Way.RECORDED, 17), (Way.TIME, 3)),
        block=4_000,
        weight=12,
    ),
    Target(
        "insider",
        "frames of a member that went mad",
        Siege,
        _ways((Way.FRAMES, 72), (Way.EARLY, 8), (Way.SEALED, 10), (Way.RECORDED, 6), (Way.TIME, 4)),
        block=2_000,
        weight=12,
    ),
    Target(
        "signer",
        "well-signed nonsense of a member",
        Siege,
        _ways((Way.BODY, 40), (Way.LIE, 5), (Way.CLAIM, 20), (Way.STATEMENT, 10), (Way.FRAMES, 15), (Way.TIME, 10)),
        block=1_000,
        weight=6,
    ),
)
