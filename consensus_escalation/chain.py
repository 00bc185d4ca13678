"""The quorum as a replica: the committed blocks as every agent has them, voter or not, each proven before it is applied.

    blocks, from anybody, in any order  --+
                                          +-->  in a row, up to a valid certificate  -->  ledger, state machine
    certificates, from anybody  ----------+

An agent trusts nobody here but the genesis: certificates lead from there to the voters of today (`certificate.Trail`), and a
certificate stands for all blocks before it. A voter's own Raft may bring blocks too, which are applied on its word
(`committed`). Whoever is far behind jumps: a snapshot counts when a certified later header names its hash.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from consensus_escalation.anchor import Anchor, agrees
from consensus_escalation.block import Block, Entry, Header, Kind, header_from_bytes_untrusted
from consensus_escalation.certificate import HEADERS_MAX, Ack, Certificate, NotCertified, Trail, ack_bytes
from consensus_escalation.core import Genesis
from consensus_escalation.kept import Bundle, Done, Held, Kept, Proof, State, Step, Waiting
from consensus_escalation.ledger import Ledger, ReadScore
from consensus_escalation.log import Log
from consensus_escalation.machine import Machine
from consensus_escalation.policy import Predicate
from consensus_escalation.quorum import Config
from consensus_escalation.snapshot import SNAPSHOT_BYTES_MAX, Snapshot, empty_log, snapshot_from_bytes_untrusted
from consensus_escalation.types import Keys, Position, Purpose
from consensus_escalation.wire import (
    block_from_value_untrusted,
    block_to_value,
    certificate_from_value_untrusted,
    certificate_to_value,
)
from crdt.errors import Malformed

PROOFS_KEPT: Final = 512
"""The newest certificates: what a receipt of the last seconds is made of."""
WAITING_MAX: Final = 64
"""Certificates whose blocks are still on their way; of the vouched ones the newest count, and the next."""
STEPS_MAX: Final = 4096
"""Changes of voters in a bundle: years of them. Guess."""


class Chain:
    def __init__(
        self,
        genesis: Genesis,
        keys: Keys,
        read_score: ReadScore,
        snapshot_blocks: int,
        predicates: Mapping[str, Predicate] | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        """`anchor`: of the newcomer's token; one of another epoch says nothing."""
        self._anchor = anchor if anchor is not None and anchor.epoch == genesis.epoch else None
        self._held: Held | None = None
        self.is_doubtful = self._is_lost = False
        """Doubtful: another history than the anchor's was told here. Lost: the anchor leads to another beginning, so nothing that
        comes can ever be believed."""
        self.genesis, self.keys, self._predicates = genesis, keys, predicates
        self.lacking = ""
        """A predicate of the rules that this agent does not have: it would judge otherwise than the others, so it stops."""
        self.machine = self._new_machine(read_score)
        self._read_score, self._snapshot_blocks = read_score, snapshot_blocks
        self.log = Log(Position(0, 0), genesis.hash, 0, genesis.config, keys)
        """What is applied, above a former snapshot."""
        self.ledger = Ledger(read_score)
        self.ledger.counts_keys = False
        self.trail = Trail(genesis.config, genesis.epoch, keys)
        self.steps: list[Step] = []
        """Each certified change of voters, in order."""
        self.proofs: OrderedDict[int, tuple[Ack, ...]] = OrderedDict()
        """By the index of the certified block: verified certificates, without the headers, which the log has."""
        self.snapshot: bytes | None = None
        self.digest: tuple[int, bytes] = (0, bytes(16))
        """(index, hash) of the snapshot."""
        self.bundle: bytes | None = None
        """Snapshot, changes of voters and what proves them, for whoever is far behind."""
        self.faults: list[str] = []
        """What no honest quorum does; to be taken away and told to the operator."""
        self._told: dict[int, Certificate | None] = {}
        """Proofs that were asked for since the last one came: many wait for one block."""
        self._state = (0, b"")
        self.source: Callable[[int], Block | None] = lambda _index: None
        """Where else a block may be: the log of this agent's own Raft, committed there or not."""
        self.refused = 0
        """Certificates that proved nothing: of whoever sent them, not of the voters."""
        self._pending: dict[int, Block] = {}
        self.tip: Callable[[], bytes] = bytes
        """Hash of the newest block in `source`."""
        self._waiting: dict[int, Waiting] = {}
        self._arrived = 0
        """Blocks and certificates that came in."""
        self._looked_at: tuple[int, int, bytes] | None = None
        """The stage at which the waiting certificates were last looked at."""
        self._done: list[Done] = []
        self._bundled = 0
        self._rows: list[Kept] = []
        self.jumps = 0
        """How often the state came as a whole instead of block by block."""

    def _new_machine(self, read_score: ReadScore) -> Machine:
        keys = self.keys
        return Machine(
            read_score=read_score, predicates=self._predicates, encode=keys.encode, decode_untrusted=keys.decode_untrusted
        )

    # ---- what it shows

    @property
    def applied(self) -> int:
        return self.log.last_index

    @property
    def config(self) -> Config:
        """Who votes, as far as it is applied here."""
        return self.log.config

    @property
    def proven(self) -> int:
        """Up to here anybody can be convinced."""
        return next(reversed(self.proofs), self.digest[0] if self.bundle else 0)

    @property
    def awaits(self) -> int:
        """The block that this agent's token names, until its history is here; then 0. Before, no other proof counts."""
        return self._anchor.index if self._anchor is not None and self.applied < self._anchor.index else 0

    @property
    def anchor(self) -> Anchor:
        """What a newcomer should be told: the newest block that is proven here."""
        index = self.proven if self.log.hash_at(self.proven) else self.log.base.index
        at = self.log.config_before(index + 1)[0]
        known = {0: self.genesis.hash, **{step.block.index: step.block.hash for step in self.steps}}
        step = known.get(at) or self.log.hash_at(at)
        digest = self.log.hash_at(index)
        if step is None or digest is None:  # a change of voters that this agent could not prove: later, then
            return Anchor(self.genesis.epoch, 0, self.genesis.hash, 0, self.genesis.hash)
        return Anchor(self.genesis.epoch, index, digest, at, step)

    @property
    def floor(self) -> int:
        """Blocks up to here are not needed."""
        return max(self.applied, self._held.index if self._held is not None else 0)

    @property
    def reach(self) -> int:
        """Blocks above this one are not kept yet."""
        return self.floor + 2 * self._snapshot_blocks

    def state_at(self, index: int) -> bytes | None:
        """The machine's state exactly after the newest multiple of `snapshot_blocks`."""
        return self._state[1] if index and self._state[0] == index else None

    def take_done(self) -> list[Done]:
        done, self._done = self._done, []
        return done

    def take_rows(self) -> list[Kept]:
        """What changed since the last call and should be kept, oldest first."""
        rows, self._rows = self._rows, []
        return rows

    def proof(self, index: int) -> Certificate | None:
        """The nearest certificate for the block at `index` or one that follows on it, headers included."""
        if index not in self._told:
            found = None
            for at in reversed(self.proofs):  # the newest are asked for
                if at < index:
                    break
                found = at
            self._told[index] = None if found is None else self._full(index, self.proofs[found])
        return self._told[index]

    def has(self, index: int) -> bool:
        """Whether the block at `index` is applied, or waits for its proof."""
        return index <= self.applied or index in self._pending or self._has_own(index)

    def _has_own(self, index: int) -> bool:
        """Whether my own Raft has the block, and others' blocks above it do not follow on another one. What a leader of former
        days appended alone stays in its log: nobody replaces it any more once the leader has lost its seat."""
        at = index
        while (own := self.source(at)) is not None:
            told, above = self._waiting.get(at), self._pending.get(at + 1)
            if told is not None and told.is_vouched and told.hash != own.hash:
                return False
            if above is not None:
                return above.header.prev == own.hash
            at += 1
        return at > index

    def missing(self, limit: int) -> list[int]:
        """Indexes of blocks that are needed for the certificates at hand, at most `limit`, the next one first."""
        newest = min(max([*self._waiting, self.awaits]), self.reach)
        found = []
        for index in range(self.floor + 1, newest + 1):
            if not self.has(index):
                found.append(index)
                if len(found) >= limit:
                    break
        return found

    def lacks_step(self) -> bool:
        """Whether a change of voters is applied here that this replica could not prove to others."""
        return self.step_wanted() is not None

    def step_wanted(self) -> int | None:
        """The first change of voters that is applied here and not proven."""
        return next((at for at in self.log.configs_between(self.log.base.index, self.applied) if not self.trail.knows(at)), None)

    # ---- what comes in

    def offer_block(self, block: Block) -> bool:
        """A block from anybody; True when it is kept or applied."""
        if block.header.epoch != self.genesis.epoch or not self.applied < block.index <= self.reach:
            return False
        if block.index in self._pending or self._is_lost:
            return False
        self._pending[block.index] = block
        self._arrived += 1
        return True

    def offer_acks_untrusted(self, index: int, digest: bytes, acks: tuple[Ack, ...]) -> bool:
        """A certificate for the block of this hash, from anybody; True when it may be news. `settle` decides.

        One that a voter's signature vouches for goes before those that nothing speaks for yet."""
        if index <= self.log.base.index or index > self.reach or not acks or index in self.proofs:
            return False
        if index <= self.proven and index != self.step_wanted():
            return False
        new = Waiting(digest, acks, self._is_vouched(index, digest, acks))
        if index in self._waiting and self._waiting[index].is_vouched and not new.is_vouched:
            return False
        self._waiting[index] = new
        self._arrived += 1
        if len(self._waiting) > WAITING_MAX:
            # Later ones may be of voters that only these make known; below the one that does, anybody may put one that does not.
            vouched = {at for at, each in self._waiting.items() if each.is_vouched}
            others = self._waiting.keys() - {self.step_wanted(), min(self._waiting), min(vouched, default=0)}
            del self._waiting[max(others - vouched, default=0) or min(others)]
        return index in self._waiting

    def _is_vouched(self, index: int, digest: bytes, acks: tuple[Ack, ...]) -> bool:
        """Whether a voter of today acknowledged this very block: signatures of what follows on it can be checked later only."""
        signed, voters = ack_bytes(self.genesis.epoch, digest), self.config.electorate
        mine = [ack for ack in acks if ack.index == index and ack.voter in voters]
        return any(self.keys.verify(ack.voter, Purpose.ACK, signed, ack.signature) for ack in mine)

    def certified(self, certificate: Certificate) -> int | None:
        """By this agent's own Raft, which has looked at each acknowledgement. Returns the index of the block if it is news."""
        header, acks = header_from_bytes_untrusted(certificate.headers[0], self.keys), certificate.acks
        index, digest = header.index, self.keys.hash(certificate.headers[0])
        if self.proven < index and self.log.hash_at(index) == digest and self._proves_alone(header):
            self._prove(index, digest, acks)
            return index
        return index if self.offer_acks_untrusted(index, digest, acks) else None

    def _proves_alone(self, header: Header) -> bool:
        """Whether nothing else follows from its proof: no change of voters, no bundle."""
        block = self.log.get(header.index)
        is_change = block is None or block.entries[0].kind is Kind.CONFIG
        makes_bundle = self.snapshot is not None and self._bundled != self.digest[0]
        return self.trail.knows(header.config_index) and not is_change and not makes_bundle

    @property
    def is_unsettled(self) -> bool:
        """Whether certificates wait for something, and anything has changed since `settle` looked at them."""
        return (bool(self._waiting) or self.awaits > 0) and self._looked_at != self._stage()

    def _stage(self) -> tuple[int, int, bytes]:
        return self.applied, self._arrived, self.tip()

    def settle(self) -> bool:
        """Apply what is proven now; True when something was, or a certificate was added."""
        progress = bool(self.awaits) and self._reach_anchor()
        while (
            self._waiting
            and not self.awaits
            and not self.lacking
            and any(self._try(index) for index in sorted(self._waiting, reverse=True))
        ):
            progress = True
        self._looked_at = self._stage()
        return progress

    def committed(self, block: Block) -> None:
        """This agent's own Raft says so."""
        if block.index == self.applied + 1 and block.header.prev == self.log.last_hash and not self._lacks(block.entries):
            self._apply(block)

    def _lacks(self, entries: Iterable[Entry]) -> bool:
        """Whether to stop here."""
        lacking = self.machine.policy.lacking or self.machine.lacks(entries)
        if lacking and not self.lacking:
            self.faults.append(
                f"the rules call {lacking}, which this agent lacks or has in another version: it applies nothing and does not "
                "vote until it is started with what the others have (NodeConfig.predicates)"
            )
        self.lacking = lacking
        return bool(lacking)

    # ---- proving

    def _block(self, index: int) -> Block | None:
        return self.log.get(index) if index <= self.applied else self._pending.get(index) or self.source(index)

    def _full(self, index: int, acks: tuple[Ack, ...]) -> Certificate | None:
        """With the headers from the certified block to the furthest acknowledged one."""
        last = max(ack.index for ack in acks)
        if not index <= last < index + HEADERS_MAX or self._block(last) is None:  # the one that comes last, first
            return None
        blocks = [self._block(each) for each in range(index, last + 1)]
        headers = [block.header_bytes for block in blocks if block is not None]
        return Certificate(tuple(headers), acks) if len(headers) == len(blocks) else None

    def _try(self, index: int) -> bool:
        """Use the certificate for `index` if all that it takes is here."""
        digest, acks, is_vouched = self._waiting[index]
        blocks: list[Block] = []
        if index > self.applied:
            blocks = self._leading_to(index, digest, is_vouched)
            if not blocks:
                return False
        elif self.log.hash_at(index) != digest:
            del self._waiting[index]
            self.refused += 1
            return False
        certificate = self._full(index, acks)
        block = self._block(index)
        if certificate is None or block is None or not self.trail.knows(block.header.config_index):
            return False
        del self._waiting[index]
        is_change = block.has(Kind.CONFIG)
        try:
            if is_change and not self.trail.knows(index):
                self.trail.extend_untrusted(block, certificate)
                self._rows.append(step := Step(block, certificate))
                self.steps.append(step)
            else:
                self.trail.verify_untrusted(certificate)
        except NotCertified:
            self.refused += 1
            return False
        for each in blocks:
            if self._lacks(each.entries):
                return True
            self._apply(each)
        self._prove(index, digest, acks)
        self._make_bundle(certificate, block)
        return True

    def _prove(self, index: int, digest: bytes, acks: tuple[Ack, ...]) -> None:
        newest = self.proven
        self.proofs[index] = acks
        self._told.clear()
        self._rows.append(Proof(index, digest, acks))
        if index < newest:
            self.proofs = OrderedDict(sorted(self.proofs.items()))
        while len(self.proofs) > PROOFS_KEPT:
            self.proofs.popitem(last=False)

    def _reach_anchor(self) -> bool:
        """Take what leads to it: its hash is the proof. True when it is here."""
        anchor, held = self._anchor, self._held
        assert anchor is not None
        told = self._pending.get(anchor.index)
        if told is not None and told.hash != anchor.hash:
            self._contradicted(f"block {anchor.index} as it was told here is not the one that this agent's token names")
        found, expected = self._linked(anchor.index, anchor.hash, is_vouched=True)
        if expected is None:
            return False
        if expected != (self.log.last_hash if held is None else held.hash):
            self._contradicted(f"block {anchor.index}, which this agent's token names, does not follow on what is told here")
            self._held, self._is_lost = None, held is None
            self._pending.clear()
            return False
        if held is not None:
            self._held = None
            held.adopt()
        for block in found:
            if self._lacks(block.entries):
                break  # nothing after it can be applied either
            self._apply(block)
        self.is_doubtful = False
        return not self.lacking

    def _contradicted(self, fault: str) -> None:
        """Told once: whoever sends such blocks can do that for ever."""
        self.refused += 1
        if not self.is_doubtful:
            self.is_doubtful = True
            self.faults.append(fault)

    def _leading_to(self, index: int, digest: bytes, is_vouched: bool) -> list[Block]:
        """The blocks from mine to the certified one, in order; none while some are missing. What does not belong there is
        thrown away, if the certificate is more than somebody's word."""
        found, expected = self._linked(index, digest, is_vouched)
        if expected is None:
            return []
        if expected != self.log.last_hash:
            self._is_of_another_history(index, found[::-1])
            return []
        return found

    def _linked(self, index: int, digest: bytes, is_vouched: bool) -> tuple[list[Block], bytes | None]:
        """The blocks above the floor up to this one, in order, and the hash that they follow on; None while some are missing."""
        expected, found = digest, list[Block]()
        for each in range(index, self.floor, -1):
            block = self._pending.get(each)
            if block is not None and block.hash != expected:
                if is_vouched:
                    del self._pending[each]
                    if self.awaits:  # whoever told that told the others, too
                        self._pending = {at: later for at, later in self._pending.items() if at > each}
                block = None
            block = block or self.source(each)
            if block is None or block.hash != expected:
                return [], None
            found.append(block)
            expected = block.header.prev
        found.reverse()
        return found, expected

    def _is_of_another_history(self, index: int, blocks: Sequence[Block]) -> None:
        """The blocks hang together, but not with mine: if the certificate is good, a majority of the voters has lied."""
        acks = self._waiting.pop(index).acks
        self.refused += 1
        certificate = self._full(index, acks)
        if certificate is None or certificate.headers[0] != blocks[0].header_bytes:
            return
        try:
            self.trail.verify_untrusted(certificate)
        except NotCertified:
            return
        self.faults.append(f"block {index} is certified in another history than mine")

    # ---- applying

    def _apply(self, block: Block) -> None:
        self.log.put((block,))
        self._pending.pop(block.index, None)
        self.ledger.apply(block)
        self._done.append(Done(block, self.machine.apply(block)))
        header = block.header
        if header.applied_index == self.digest[0] > 0 and header.result_digest != self.digest[1]:
            self.faults.append(f"block {block.index} names another state after block {header.applied_index} than mine")
        if block.index % self._snapshot_blocks == 0:
            self._take_snapshot(block)

    def _take_snapshot(self, block: Block) -> None:
        state = self.machine.snapshot()
        config = self.log.config_before(block.index + 1)
        snapshot = Snapshot(Position(block.term, block.index), block.hash, *config, self.ledger.to_value(), state)
        self.snapshot, self._state = snapshot.to_bytes(self.keys), (block.index, state)
        self._rows.append(State(block.index, self.snapshot, True))
        before, self.digest = self.digest[0], (block.index, self.keys.hash(self.snapshot))
        if before > self.log.base.index:
            self.log.compact(before)  # one window stays, for those who are a little behind
        self._forget_below()

    def _forget_below(self) -> None:
        for index in [index for index in self.proofs if index <= self.log.base.index]:
            del self.proofs[index]
        self._told.clear()

    # ---- jumping

    def _make_bundle(self, certificate: Certificate, block: Block) -> None:
        header = block.header
        if self.snapshot is None or (header.applied_index, header.result_digest) != self.digest or self.lacks_step():
            return
        if self.bundle is not None and self._bundled == self.digest[0]:
            return
        steps = [
            [block_to_value(step), certificate_to_value(proof)] for step, proof in self.steps if step.index <= self.digest[0]
        ]
        self._bundled = self.digest[0]
        self.bundle = self.keys.encode([self.genesis.epoch, steps, self.snapshot, certificate_to_value(certificate)])
        self._rows.append(Bundle(self._bundled, self.bundle))

    @property
    def bundled(self) -> int:
        """Index of the snapshot in the bundle."""
        return self._bundled

    def jump_untrusted(self, raw: bytes) -> None:
        """Take the state out of a bundle. Raises Malformed, with nothing changed, when it is not proven or not news."""
        if len(raw) > 2 * SNAPSHOT_BYTES_MAX:
            raise Malformed("a bundle is too large")
        match self.keys.decode_untrusted(raw):
            case [int(epoch), list() | tuple() as rows, bytes(taken), proof] if epoch == self.genesis.epoch:
                if len(rows) > STEPS_MAX:
                    raise Malformed("a bundle of too many steps")
            case _:
                raise Malformed("a bundle has another shape, or is of another epoch")
        trail, steps = Trail(self.genesis.config, self.genesis.epoch, self.keys), list[Step]()
        try:
            for first, second in rows:
                block = block_from_value_untrusted(first, self.keys)
                certificate = certificate_from_value_untrusted(second)
                trail.extend_untrusted(block, certificate)
                steps.append(Step(block, certificate))
            header = trail.verify_untrusted(certificate_from_value_untrusted(proof))
        except (NotCertified, TypeError, ValueError) as error:
            raise Malformed(f"a bundle proves nothing: {error}") from error
        snapshot, ledger = snapshot_from_bytes_untrusted(taken, self.keys, self._read_score)
        if (header.applied_index, header.result_digest) != (snapshot.last.index, self.keys.hash(taken)):
            raise Malformed("the certified header is about another state")
        if snapshot.last.index <= self.floor:
            raise Malformed("a bundle of what is here")
        machine, last = self._new_machine(self._read_score), snapshot.last.index
        machine.restore_untrusted(snapshot.state)
        adopt = partial(self._adopt_bundle, raw, (trail, steps), (snapshot, ledger, machine, taken))
        anchor = self._anchor if self.awaits else None
        if anchor is not None and not agrees(
            anchor, [(step.block.index, step.block.hash) for step in steps], last, snapshot.hash
        ):
            self._contradicted(
                f"a state after block {last} was told here whose voters are not those that this agent's token names"
            )
            raise Malformed("a bundle of another history than the one that the token names")
        if anchor is not None and last < anchor.index:
            self._held = Held(last, snapshot.hash, adopt)
        else:
            adopt()

    def _adopt_bundle(self, raw: bytes, way: tuple[Trail, list[Step]], state: tuple[Snapshot, Ledger, Machine, bytes]) -> None:
        self.trail, self.steps = way
        self.bundle, self._bundled, self._held = raw, state[0].last.index, None
        self._adopt(*state)

    def reads(self, index: int, state: bytes) -> bool:
        """Whether this is a state of the machine, exactly after the block at `index`: what a leader sends is not proven."""
        machine = self._new_machine(self._read_score)
        try:
            machine.restore_untrusted(state)
        except Malformed:
            return False
        return machine.index == index

    def restored(self, index: int, raw: bytes) -> None:
        """This agent's own Raft has taken a snapshot over from its leader."""
        if index > self.applied:
            snapshot, ledger = snapshot_from_bytes_untrusted(raw, self.keys, self._read_score)
            machine = self._new_machine(self._read_score)
            machine.restore_untrusted(snapshot.state)
            self._adopt(snapshot, ledger, machine, raw)

    def _adopt(self, snapshot: Snapshot, ledger: Ledger, machine: Machine, raw: bytes) -> None:
        index = snapshot.last.index
        ledger.counts_keys = False
        self.ledger, self.machine, self.snapshot = ledger, machine, raw
        self.jumps += 1
        self._rows += [State(index, raw, False), *self.steps, *([Bundle(self._bundled, self.bundle)] if self.bundle else [])]
        self.digest, self._state = (index, self.keys.hash(raw)), (index, snapshot.state)
        self.log = empty_log(snapshot, ledger, self.keys)
        self._pending = {at: block for at, block in self._pending.items() if at > index}
        self._waiting = {at: waiting for at, waiting in self._waiting.items() if at > index}
        self.proofs.clear()
        self._told.clear()
        self._lacks(())

    # ---- from the disk

    def restore(
        self,
        snapshot: bytes | None,
        blocks: Sequence[Block],
        steps: Iterable[tuple[Block, Certificate]],
        bundle: tuple[int, bytes] | None,
        proof: tuple[int, bytes, tuple[Ack, ...]] | None,
    ) -> None:
        """What an own disk has kept: `blocks` in a row above the snapshot, all committed. Raises Malformed or NotCertified."""
        if snapshot is not None:
            self.restored(snapshot_from_bytes_untrusted(snapshot, self.keys, self._read_score)[0].last.index, snapshot)
        for block, certificate in steps:
            self.trail.extend_untrusted(block, certificate)
            self.steps.append(Step(block, certificate))
        if bundle is not None:
            self._bundled, self.bundle = bundle
        for block in blocks:
            self.committed(block)
        if proof is not None and self.offer_acks_untrusted(*proof):
            self.settle()
        self._rows.clear()
        self._done.clear()
        self.jumps = 0
