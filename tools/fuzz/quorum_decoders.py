"""What agents say about the quorum, as bytes of others: each decoder, and a chain that is fed blocks, proofs and bundles."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from consensus_escalation.anchor import Anchor
from consensus_escalation.chain import Chain
from consensus_escalation.command import Command, Verb, command_to_bytes
from consensus_escalation.wire import block_from_raw_untrusted, block_to_bytes, message_from_bytes_untrusted, message_to_bytes
from crdt.ids import ReplicaId
from mesh.errors import Malformed
from mesh.presets import LAN
from mesh.quorum.electors import Electors
from mesh.quorum.messages import Answer, Piece, Proof, Request, Standing, Want
from mesh.quorum.scores import read_score
from mesh.quorum.signing import keys_of
from mesh.testing import Setup
from mesh.trust.membership import presented_untrusted
from mesh.wire import cbor
from mesh.wire.cose import signed_part
from mesh.wire.frames import Frame
from tools.fuzz.material import Material, TappedMesh
from tools.fuzz.mutate import Mutator
from tools.fuzz.subject import Decoder, Source, Subject, Target, mixed, same

SEED: Final = 5
PER_KIND_MAX: Final = 64
SNAPSHOT_BLOCKS: Final = 8
KINDS: Final = tuple(kind for kind in Frame if Frame.RAFT <= kind <= Frame.ANSWER)
KEYS: Final = keys_of(bytes(8), lambda purpose, raw: bytes(64), lambda who, purpose, raw, signature: False)  # type: ignore[arg-type]


class Said:
    """A short life of a quorum, listened to: writes from everywhere, a dead leader, somebody who was away."""

    def __init__(self) -> None:
        self.frames: dict[Frame, list[bytes]] = {kind: [] for kind in KINDS}
        preset = replace(LAN, quorum=replace(LAN.quorum, snapshot_blocks=SNAPSHOT_BLOCKS))
        mesh = TappedMesh(5, seed=SEED, setup=Setup(voters=3, scores=(1, 2, 3), critical=("tasks/**",), preset=preset))
        mesh.tap = self._keep
        mesh.start()
        mesh.run(2.0)
        mesh.crash(4)
        for number in range(40):
            self._write(mesh, number % 4, number)
            mesh.run(0.02)
        leader = next(n for n in range(3) if (status := mesh.peer(n).quorum.status) is not None and status.leads)
        mesh.crash(leader)
        self._write(mesh, 3, 41)
        mesh.run(1.0)
        mesh.restart(leader)
        mesh.restart(4)
        mesh.run(2.0)
        chain = mesh.peer(4).quorum.chain
        assert chain is not None, "who was away has heard of the quorum"
        self.chain, self.bundle = chain, chain.bundle or b""
        self.dismissed = [member.replica_id for member in mesh.memberships[:2]]
        issued = [mesh.authority.revoke(self.dismissed[0], honoured=[]), mesh.authority.reissue(self.dismissed[1], voter=False)]
        peer = mesh.peer(4)
        peer.directory.restore(issued)
        self.electors = Electors(peer.replica_id, peer.directory, peer.swim)
        self.warrants = [
            self.electors.warrant(voters, 600) for voters in (self.dismissed, self.dismissed[:1], self.dismissed[1:])
        ]
        self.words = {signed_part(raw) for raw in issued}

    def early_anchor(self) -> Anchor:
        """Of the third block, so that little has to be there before anything counts."""
        blocks = [block_from_raw_untrusted(raw, KEYS) for raw in self.frames[Frame.BLOCK]]
        third = next(block for block in blocks if block.index == 3)
        changes = [(step.block.index, step.block.hash) for step in self.chain.steps if step.block.index <= third.index]
        return Anchor(1, third.index, third.hash, *(changes[-1] if changes else (0, self.chain.genesis.hash)))

    @staticmethod
    def _write(mesh: TappedMesh, number: int, value: int) -> None:
        quorum = mesh.peer(number).quorum
        if quorum.chain is not None:
            command = Command(Verb.SET, ("tasks", str(value)), cbor.encode(value))
            quorum.courier.want(quorum.chain, command_to_bytes(command, cbor.encode))
            mesh.hosts[number].wake()

    def _keep(self, _host: int, kind: Frame, payload: bytes) -> bytes:
        kept = self.frames.get(kind)
        if kept is not None and len(kept) < PER_KIND_MAX and payload not in kept:
            kept.append(payload)
        return payload


@lru_cache(maxsize=1)
def said() -> Said:
    return Said()


def _read_message(raw: bytes) -> object:
    epoch, message = message_from_bytes_untrusted(raw, KEYS)
    same(message_to_bytes(epoch, message, KEYS), raw, "accepted, and encoded otherwise")
    return message


def _read_block(raw: bytes) -> object:
    block = block_from_raw_untrusted(raw, KEYS)
    same(block_to_bytes(block, KEYS), raw, "accepted, and encoded otherwise")
    return block


def _reader(kind: Any) -> Callable[[bytes], object]:
    def read(raw: bytes) -> object:
        value = kind.decode_untrusted(raw)
        same(value.encode(), raw, "accepted, and encoded otherwise")
        return value

    return read


def _target(kind: Frame, read: Callable[[bytes], object], *extra: bytes) -> Target:
    def seeds(_material: Material) -> Sequence[bytes]:
        return [*said().frames[kind], *extra]

    name = f"quorum-{kind.name.lower().replace('_', '-')}"
    return Target(name, f"the frame {kind.name}", lambda: Decoder(read, (Malformed,)), mixed(seeds), weight=2)


def _read_warrant(raw: bytes) -> object:
    stuff = said()
    if not stuff.electors.is_warrant_untrusted(raw, stuff.dismissed):
        raise Malformed("not the authority's words about these voters")
    words = {signed_part(each) for each in presented_untrusted(raw)}
    same(words - stuff.words, set(), "taken for the authority's words, and it never said them")
    return words


class Newcomer(Subject):
    """A chain that knows the genesis only: nothing but the voters' own history may ever be applied, in any disguise."""

    _has_token = False

    def __init__(self) -> None:
        known = said().chain
        self._true = known
        anchor = said().early_anchor() if self._has_token else None
        self._chain = Chain(known.genesis, known.keys, read_score, SNAPSHOT_BLOCKS, None, anchor)

    def feed(self, data: bytes) -> bool:
        before = self._chain.applied
        try:
            if data[:1] == b"B":
                self._chain.jump_untrusted(data[1:])
            elif data[:1] == b"P":
                proof = Proof.decode_untrusted(data[1:])
                self._chain.offer_acks_untrusted(proof.index, proof.hash, proof.acks)
            else:
                self._chain.offer_block(block_from_raw_untrusted(data[1:], KEYS))
        except Malformed:
            return False
        self._chain.settle()
        for done in self._chain.take_done():
            self._is_true(done.block.index, done.block.hash)
        if not self._has_token:  # whose holder is told of other histories, whoever tells them
            same(self._chain.faults, [], "somebody else's bytes are a fault of the voters")
        return self._chain.applied > before

    def _is_true(self, index: int, digest: bytes) -> None:
        if index > self._true.log.base.index:
            same(digest, self._true.log.hash_at(index), f"applied another block at {index}")


class Invited(Newcomer):
    """The same with a token that names a block."""

    _has_token = True


def _disguised(rng: random.Random) -> Source:
    """True ones among the mutated, so that these meet a chain that has come some way."""
    stuff = said()
    pool = [b"b" + raw for raw in stuff.frames[Frame.BLOCK]] + [b"P" + raw for raw in stuff.frames[Frame.PROOF]]
    mutator = Mutator(rng, [*pool, b"B" + stuff.bundle])

    def draw() -> bytes:
        if rng.random() < 0.5:
            return rng.choice(pool)
        return mutator.mutated(rng.choice(pool) if rng.random() < 0.9 else b"B" + stuff.bundle)

    return draw


QUORUM: Final = (
    _target(Frame.RAFT, _read_message),
    _target(Frame.BLOCK, _read_block),
    _target(Frame.PROOF, _reader(Proof)),
    _target(Frame.STANDING, _reader(Standing)),
    _target(Frame.WANT_BLOCKS, _reader(Want)),
    _target(Frame.BUNDLE, _reader(Piece)),
    _target(Frame.REQUEST, _reader(Request)),
    _target(Frame.ANSWER, _reader(Answer), Answer(1, 2, 3, 4, "busy", 5, ReplicaId(bytes(8))).encode()),
    Target(
        "quorum-warrant",
        "the authority's words beside a removal",
        lambda: Decoder(_read_warrant, (Malformed,)),
        mixed(lambda _material: said().warrants),
        weight=2,
    ),
    Target("quorum-anchored", "the same as quorum-chain for one with a token", Invited, _disguised, block=1_000, weight=2),
    Target("quorum-chain", "blocks, proofs and bundles for a newcomer", Newcomer, _disguised, block=1_000, weight=4),
)
