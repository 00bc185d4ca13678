"""Committed blocks and their proofs to every agent.

    leader   --BLOCK, PROOF-->  everybody, or the relays of the push tree             as soon as a block is certified
    anybody  --STANDING------>  somebody                                              every 0.1 to 5 s, and when they meet
             <--STANDING / WANT--                                                     who is ahead says so, who is behind asks
             --BLOCK, PROOF / PIECE of a bundle-->

Nothing here is trusted: `consensus_escalation.chain` proves each block before it is applied, whoever brought it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, Protocol

from consensus_escalation.block import Block
from consensus_escalation.chain import Chain
from consensus_escalation.snapshot import SNAPSHOT_BYTES_MAX
from consensus_escalation.types import Purpose
from consensus_escalation.wire import block_from_raw_untrusted, block_to_bytes
from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.errors import Malformed, Refused
from mesh.port import Port
from mesh.presets import SyncConfig
from mesh.quorum.guide import Guide
from mesh.quorum.messages import PIECE_BYTES, SHORT_HASH_BYTES, WANTED_MAX, Piece, Proof, Standing, Want
from mesh.wire.frames import Frame, Lane

PUSHED_MAX: Final = 64
"""Blocks of one turn that are pushed; of a longer burst the rest is pulled, at each receiver's pace."""
PUSH_SECONDS: Final = 0.02
"""Between two pushes to all: a proof stands for all blocks before it, and who does not wait for a block himself hears of it soon
enough. A push costs every agent a turn and two verifications, 0.2 ms of CPU (measured): 50 in a second, a hundredth of a core."""
PIECES_PER_WANT: Final = 32
"""32 kB unanswered, as Raft's own snapshots."""
STEPS_PER_WANT: Final = 8
ASK_AGAIN_SECONDS_MIN: Final = 0.05
FED_SECONDS: Final = 0.1
"""For which a voter that hears its leader leaves it to that one's log to bring what is proven, and again as long as something
comes. Guess: a few times `thrift.SPARE_SECONDS` and a heartbeat's interval, which repeats what was lost."""
FRUITLESS_MAX: Final = 5
"""After so many questions in a row that brought nothing, each after twice the time, who was asked is not believed any more."""
LISTEN_ROUNDS: Final = 3
"""Digest intervals for which the first voter hears who is there before it takes an empty disk for the beginning. Guess: all whom
the first peer knows have greeted it by then."""
AHEAD_MAX: Final = 64
"""Peers remembered as being further than this replica."""


class Members(Protocol):
    """What is asked of membership."""

    def alive(self) -> list[ReplicaId]: ...
    def is_reachable(self, peer: ReplicaId) -> bool: ...
    def round_trip(self, peer: ReplicaId) -> float: ...
    def clock_offset(self, now: Now) -> int | None: ...
    def clock_outvoted(self, limit: int, now: Now) -> int | None: ...


class Spread:
    def __init__(
        self,
        me: ReplicaId,
        port: Port,
        members: Members,
        rng: random.Random,
        targets: Callable[[ReplicaId], Sequence[ReplicaId]],
        config: SyncConfig,
        guide: Guide,
    ) -> None:
        """`targets`: to whom this replica sends what comes from that author (`mesh.sync.tree`)."""
        self._me, self._port, self._members, self._rng, self._targets, self._guide = me, port, members, rng, targets, guide
        self._quick, self._slow = config.digest_min_seconds, config.digest_max_seconds
        self.chain: Chain | None = None
        self._interval = self._quick
        self._tell_at = inf
        self._listens_until = inf
        self._ahead: dict[ReplicaId, int] = {}
        self._asked: set[int] = set()
        self._ask_at = inf
        self._fed = -1
        """What was here when this agent last left it to its leader's log to go on."""
        self._fruitless = 0
        """Questions in a row that brought nothing."""
        self.hears_of_blocks = False
        """Whether anybody else ever said that it has some."""
        self._incoming: tuple[int, int, bytearray] = (0, 0, bytearray())
        self._source: ReplicaId | None = None
        """Who was asked last. Bundles of one snapshot differ from agent to agent, so pieces of two make none."""
        self._held_before = 0
        """Bytes of the bundle that were here when it was asked."""
        self._fresh: list[Block] = []
        self._authors: set[bytes] = set()
        """Of the fresh ones."""
        self._fresh_proof = 0
        self._push_at = -inf
        self._pushed: dict[ReplicaId, int] = {}
        """Who has been told of the fresh ones already, and up to which."""

    def begin(self, chain: Chain, now: Now) -> None:
        """There is a quorum, or a new epoch of it."""
        self.chain = chain
        self._ahead.clear()
        self.hears_of_blocks, self._fruitless, self._fed = False, 0, -1
        self._listens_until = now.monotonic + LISTEN_ROUNDS * self._quick
        self._asked.clear()
        self.drop_fresh()
        self._news(now)

    def hears_of_none(self, now: Now) -> bool:
        """Whether nobody has any blocks, as far as those who are alive had time to say."""
        return not self.hears_of_blocks and (now.monotonic >= self._listens_until or not self._members.alive())

    # ---- time

    @property
    def deadline(self) -> float:
        return min(self._tell_at, self._ask_at, self._push_at if self._fresh_proof else inf)

    def tick(self, now: Now) -> None:
        if self.chain is None:
            return
        if now.monotonic >= self._tell_at:
            peers = [peer for peer in self._members.alive() if self._members.is_reachable(peer)]
            if peers:
                self._tell(self._rng.choice(peers), wants_answer=True)
            self._tell_at = now.monotonic + self._interval * self._rng.uniform(0.75, 1.25)
            self._interval = min(self._interval * 2, self._slow)
        if now.monotonic >= self._ask_at:
            self._ask_at = inf
            self._asked.clear()
            if self._fruitless >= FRUITLESS_MAX and self._source is not None:
                self._ahead.pop(self._source, None)  # it has nothing, or cannot be reached: until it says so again
            self._pull(now)

    def _news(self, now: Now) -> None:
        self._interval = self._quick
        self._tell_at = min(self._tell_at, now.monotonic + self._interval)

    # ---- telling

    def greet(self, peer: ReplicaId) -> None:
        """A member is (again) within reach."""
        if self.chain is not None:
            self._tell(peer, wants_answer=True)

    def _tell(self, peer: ReplicaId, *, wants_answer: bool) -> None:
        chain = self.chain
        assert chain is not None
        standing = Standing(
            chain.genesis.epoch,
            chain.applied,
            chain.proven,
            chain.log.last_hash[:SHORT_HASH_BYTES],
            chain.step_wanted() or 0,
            *self._guide.told,
            wants_answer,
        )
        self._port.send(peer, Lane.CRITICAL, Frame.STANDING, standing.encode())

    def standing_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """Raises Malformed."""
        theirs, chain = Standing.decode_untrusted(payload), self.chain
        if chain is None or theirs.epoch != chain.genesis.epoch:
            return
        if theirs.term > self._guide.told[0]:
            self._guide.heard(theirs.term, theirs.leader)
        if theirs.proven > chain.proven or (theirs.proven > 0 and chain.lacks_step()):
            self._claims(peer, theirs.proven)
            if self._ask_at < inf:  # who was asked may have become slow: this one is there now
                self._ask_at = min(self._ask_at, now.monotonic + self._patience(peer))
            self._pull(now)
        elif theirs.wants_answer and (theirs.proven < chain.proven or theirs.step):
            self._tell(peer, wants_answer=False)
        if theirs.step and chain.trail.knows(theirs.step):
            self._send_proof(peer, theirs.step)

    def _claims(self, peer: ReplicaId, proven: int) -> None:
        self.hears_of_blocks |= proven > 0
        if len(self._ahead) < AHEAD_MAX or peer in self._ahead:
            self._ahead[peer] = proven

    # ---- pushing

    def committed(self, block: Block) -> None:
        """At the leader: goes out with its proof."""
        self._fresh.append(block)
        self._authors.update(_authors(block))
        if len(self._fresh) > 2 * PUSHED_MAX:
            del self._fresh[:PUSHED_MAX]

    def certified(self, index: int) -> None:
        """At the leader: a proof that everybody should have."""
        self._fresh_proof = index

    def flush(self, now: Now) -> None:
        """At the end of a turn: what is fresh goes to its authors at once, who wait for it, and soon to all."""
        chain = self.chain
        if chain is None or not self._fresh_proof:
            return
        if now.monotonic < self._push_at:
            waiting = [each for each in self._authors if self._pushed.get(ReplicaId(each), 0) < self._fresh_proof]
            if waiting and waiting != [self._me]:
                self._push([target for target in self._targets(self._me) if target in waiting])
            return
        self._push(self._targets(self._me))
        self._fresh = [block for block in self._fresh if block.index > self._fresh_proof]
        self._authors = {author for block in self._fresh for author in _authors(block)}
        self._fresh_proof = 0
        self._pushed.clear()
        self._push_at = now.monotonic + PUSH_SECONDS
        self._news(now)

    def _push(self, targets: Sequence[ReplicaId]) -> None:
        chain = self.chain
        proof = self._proof(self._fresh_proof) if targets else None
        if chain is None or proof is None:
            return
        payload, voters, fresh = proof.encode(), set(chain.config.everyone), self._fresh[-PUSHED_MAX:]
        raws: list[tuple[int, bytes]] = []
        if not voters.issuperset(targets):
            raws = [(block.index, block_to_bytes(block, chain.keys)) for block in fresh]
        for target in targets:
            known = self._pushed.get(target, 0)
            self._pushed[target] = proof.index
            if target not in voters:
                for index, raw in raws:
                    if known < index <= proof.index:
                        self._port.send(target, Lane.CRITICAL, Frame.BLOCK, raw)
            if known < proof.index:
                self._port.send(target, Lane.CRITICAL, Frame.PROOF, payload)

    def drop_fresh(self) -> None:
        """No longer the leader, or not of this epoch."""
        self._fresh.clear()
        self._authors.clear()
        self._pushed.clear()
        self._fresh_proof = 0

    def _proof(self, index: int) -> Proof | None:
        chain = self.chain
        assert chain is not None
        digest = chain.log.hash_at(index)
        acks = chain.proofs.get(index)
        if acks is None:
            acks = next((proof.acks for step, proof in chain.steps if step.index == index), None)
        return None if acks is None or digest is None else Proof(chain.genesis.epoch, index, digest, acks)

    def _send_proof(self, peer: ReplicaId, index: int) -> None:
        proof = self._proof(index)
        if proof is not None:
            self._port.send(peer, Lane.CRITICAL, Frame.PROOF, proof.encode())

    # ---- receiving

    def block_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """Raises Malformed or Refused."""
        chain = self.chain
        if chain is None:
            return
        block = block_from_raw_untrusted(payload, chain.keys)
        is_asked, targets = block.index in self._asked, self._targets(block.header.leader)
        # What was asked for is proven by a certificate anyway, and who led long ago need not be a voter today.
        is_genuine = bool(targets or not is_asked) and self._is_genuine(block, chain)
        if not is_asked and not is_genuine:
            raise Refused("a block that no voter signed")
        self._asked.discard(block.index)
        if chain.offer_block(block):
            self._bore_fruit(chain)
            for target in targets if is_genuine else ():
                self._port.send(target, Lane.CRITICAL, Frame.BLOCK, payload)
            if not self._asked and self._ask_at < inf and not chain.is_doubtful:
                self._ask_at = now.monotonic  # all that was asked for is here: go on at once

    def _is_genuine(self, block: Block, chain: Chain) -> bool:
        leader = block.header.leader
        return self._guide.may_lead(leader) and chain.keys.verify(leader, Purpose.BLOCK, block.header_bytes, block.signature)

    def proof_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """Raises Malformed."""
        proof, chain = Proof.decode_untrusted(payload), self.chain
        if chain is None or proof.epoch != chain.genesis.epoch:
            return
        if chain.offer_acks_untrusted(proof.index, proof.hash, proof.acks):
            self._fruitless = 0
            self._claims(peer, max(self._ahead.get(peer, 0), proof.index))

    @property
    def is_unsettled(self) -> bool:
        """Whether `settle` has something to do."""
        return bool(self._ahead) or (self.chain is not None and self.chain.is_unsettled)

    def settle(self, now: Now) -> bool:
        """Apply what is proven, relay its proof, ask for what is missing. True when something was proven."""
        chain = self.chain
        if chain is None:
            return False
        progress = chain.settle()
        if progress:
            self._news(now)
            newest = chain.log.get(chain.proven)
            if newest is not None and newest.header.leader != self._me and (targets := self._targets(newest.header.leader)):
                proof = self._proof(chain.proven)
                for target in targets if proof is not None else ():
                    self._port.send(target, Lane.CRITICAL, Frame.PROOF, proof.encode() if proof else b"")
        self._ahead = {peer: proven for peer, proven in self._ahead.items() if proven > chain.proven or chain.lacks_step()}
        if self._ahead and self._ask_at == inf:
            self._pull(now)
        return progress

    # ---- pulling

    def _pull(self, now: Now) -> None:
        chain = self.chain
        if chain is None or not self._ahead or self._ask_at < inf:
            return
        if chain.floor > self._fed and self._guide.hears(now):
            self._fed, self._ask_at = chain.floor, now.monotonic + FED_SECONDS
            return
        newest = max(self._ahead.values())
        wanted = [at for at in range(chain.floor + 1, min(newest, chain.floor + WANTED_MAX) + 1) if not chain.has(at)]
        if not wanted:
            wanted = chain.missing(WANTED_MAX)
        peer = self._next_source(newest)
        bundle, _, held = self._incoming
        self._asked = set(wanted)
        want = Want(chain.genesis.epoch, chain.floor, tuple(wanted), chain.step_wanted() or 0, bundle, len(held))
        self._port.send(peer, Lane.CRITICAL, Frame.WANT_BLOCKS, want.encode())
        self._ask_at = now.monotonic + self._patience(peer)
        self._fruitless += 1

    def _bore_fruit(self, chain: Chain) -> None:
        """Something came that was asked for. Who is told lies as fast as it asks had better ask slowly."""
        if not chain.is_doubtful:
            self._fruitless = 0

    def _patience(self, peer: ReplicaId) -> float:
        """Seconds to wait for its answer, longer when the last ones brought nothing."""
        doublings: int = 1 << min(self._fruitless, FRUITLESS_MAX)
        return max(ASK_AGAIN_SECONDS_MIN, 4 * self._members.round_trip(peer)) * doublings

    def _next_source(self, newest: int) -> ReplicaId:
        """By lot; but whoever sends a bundle sends all of it, while pieces come."""
        held, before, source = len(self._incoming[2]), self._held_before, self._source
        self._held_before = held
        if held > before and source is not None and source in self._ahead:
            return source
        chosen = self._rng.choice(
            [peer for peer in sorted(self._ahead) if self._ahead[peer] == newest or self._members.is_reachable(peer)]
        )
        if chosen != source:
            self._incoming, self._held_before, self._source = (0, 0, bytearray()), 0, chosen
        return chosen

    def want_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """Raises Malformed."""
        want, chain = Want.decode_untrusted(payload), self.chain
        if chain is None or want.epoch != chain.genesis.epoch:
            return
        if want.step:
            self._send_proof(peer, want.step)
        if want.bundle or (want.indexes and min(want.indexes) <= chain.log.base.index):
            self._send_pieces(peer, want)
            return
        for index in want.indexes:
            block = chain.log.get(index) if index <= chain.applied else None
            if block is not None:
                self._port.send(peer, Lane.BULK, Frame.BLOCK, block_to_bytes(block, chain.keys))
        last = max(want.indexes, default=want.after + 1)
        for step in [step for step in chain.steps if step.block.index > want.after][:STEPS_PER_WANT]:
            self._send_proof(peer, step.block.index)
        self._send_proof(peer, min((at for at in chain.proofs if at >= last), default=chain.proven))

    def _send_pieces(self, peer: ReplicaId, want: Want) -> None:
        chain = self.chain
        if chain is None or chain.bundle is None:
            return
        offset = want.offset if want.bundle == chain.bundled else 0
        for start in range(offset, min(len(chain.bundle), offset + PIECES_PER_WANT * PIECE_BYTES), PIECE_BYTES):
            data = chain.bundle[start : start + PIECE_BYTES]
            piece = Piece(want.epoch, chain.bundled, len(chain.bundle), start, data)
            self._port.send(peer, Lane.BULK, Frame.BUNDLE, piece.encode())

    def piece_untrusted(self, peer: ReplicaId, payload: bytes, now: Now) -> None:
        """Raises Malformed."""
        piece, chain = Piece.decode_untrusted(payload), self.chain
        if chain is None or piece.epoch != chain.genesis.epoch or piece.bundle <= chain.floor or peer != self._source:
            return
        if piece.total > 2 * SNAPSHOT_BYTES_MAX:
            raise Malformed("a bundle is too large")
        if self._incoming[:2] != (piece.bundle, piece.total):
            self._incoming = (piece.bundle, piece.total, bytearray())
        held = self._incoming[2]
        if piece.offset != len(held):
            return
        held += piece.data
        self._bore_fruit(chain)
        if len(held) >= piece.total:
            self._incoming, self._held_before = (0, 0, bytearray()), 0
            chain.jump_untrusted(bytes(held))
            self._asked.clear()
            self._ask_at = now.monotonic
        elif len(held) % (PIECES_PER_WANT * PIECE_BYTES) == 0:
            self._ask_at = now.monotonic


def _authors(block: Block) -> list[bytes]:
    """Who waits for it: whoever signed a batch in it."""
    return [entry.author for entry in block.entries if entry.signature]
