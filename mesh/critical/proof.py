"""The decision ledger as a file: what was agreed, who wanted it, who endorsed and who refused it, and why; provable to anybody.

    file = [NAME, FORMAT, charter, statements, genesis, changes of voters, blocks, certificates, refusals]

Whoever knows the authority's key trusts nobody else: its statements name the voters' keys and the genesis, certificates lead from
there to the voters of every block, hashes from the certified header to each block before, and each entry bears its author's
signature, or the block that it is in. Pure: the command line reads and writes files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from consensus_escalation.authorship import batches, is_signed_untrusted, is_vouched_for
from consensus_escalation.block import Block, Entry, Kind
from consensus_escalation.certificate import Certificate, NotCertified, Trail
from consensus_escalation.chain import Chain
from consensus_escalation.command import command_from_bytes_untrusted
from consensus_escalation.machine import Machine, Outcome
from consensus_escalation.membership import leaving
from consensus_escalation.policy import is_dangerous
from consensus_escalation.quorum import Config
from consensus_escalation.types import Purpose
from consensus_escalation.verdict import Proposal, Verdict, endorsed_by_untrusted, is_endorsed_untrusted, is_genuine
from consensus_escalation.wire import (
    block_from_value_untrusted,
    block_to_value,
    certificate_from_value_untrusted,
    certificate_to_value,
    proposal_from_value_untrusted,
    proposal_to_value,
    verdict_from_value_untrusted,
    verdict_to_value,
)
from crdt.ids import ReplicaId
from crdt.types import format_path
from crdt.types.cells import plain
from mesh.errors import ConfigError, Malformed, Refused
from mesh.notary import Notary
from mesh.quorum.keeper import Refusal
from mesh.quorum.scores import read_score
from mesh.quorum.signing import keys_of
from mesh.quorum.warrants import dismissed_by_untrusted
from mesh.trust import Directory, Identity
from mesh.trust.identity import key_id
from mesh.trust.statements import Genesis, charter_from_bytes
from mesh.wire.cbor import decode_untrusted, encode
from mesh.wire.crypto import LIBSODIUM

NAME: Final = "gossipmesh ledger"
FORMAT: Final = 1
FILE_BYTES_MAX: Final = 256 << 20


class NotProven(ValueError):
    """The file does not prove what it says; tells what is wrong."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One entry of the log."""

    index: int
    term: int
    time: int
    """Log time, microseconds since 1970."""
    leader: str
    author: str
    """Empty for what the leader writes itself."""
    kind: str
    """The verb, or the kind of an entry about the quorum itself."""
    path: str
    value: Any
    intent: str
    rationale: str
    trace: str
    dangerous: bool
    endorsed_by: tuple[str, ...]
    outcome: str
    """"done", why it is void, or "unknown": the file does not begin with the first block."""
    signed: bool
    """By its author; or the leader wrote it."""


@dataclass(frozen=True, slots=True)
class Dissent:
    """A voter's signed no to what was proposed for endorsement."""

    term: int
    author: str
    voter: str
    rule: str
    kind: str
    path: str
    intent: str
    rationale: str


@dataclass(frozen=True, slots=True)
class Change:
    """Of the voters, certified by those before it."""

    index: int
    time: int
    """Log time, microseconds since 1970."""
    came: tuple[str, ...]
    went: tuple[str, ...]
    countersigned: tuple[str, ...]
    """Of those who went: whom the authority had taken the vote from, by its own signature."""


@dataclass(slots=True)
class Report:
    """What a file proves."""

    charter: bytes
    """What all of it rests on, as it travels: compare it with your own."""
    mesh: bytes
    authorities: tuple[bytes, ...]
    """Public keys that the mesh began with, `threshold` of which must sign: compare them with those that you trust."""
    threshold: int
    in_force: tuple[bytes, ...]
    """Public keys of the authority today, as far as is known here."""
    epoch: int
    voters: tuple[str, ...]
    first: int
    last: int
    """Blocks first..last are proven."""
    changes: list[Change] = field(default_factory=list)
    """Of the voters, since the genesis."""
    decisions: list[Decision] = field(default_factory=list)
    refusals: list[Dissent] = field(default_factory=list)


# ---- writing


def ledger_file(
    chain: Chain,
    genesis: bytes,
    charter: bytes,
    statements: Iterable[bytes],
    refusals: Iterable[Refusal],
    *,
    only: int | None = None,
) -> bytes:
    """All proven blocks that are kept here, or `only` one. Raises ConfigError when there is no proof."""
    base = chain.log.base.index
    first = base + 1 if only is None else only
    proven = max((at for at in chain.proofs if at >= first), default=0) if only is None else only
    certificate = chain.proof(proven) if proven else None
    if certificate is None or not base < first <= proven:
        raise ConfigError("there is nothing here that could be proven: the quorum has agreed on nothing, or it is no longer kept")
    blocks = chain.log.between(first, proven)
    steps = [[block_to_value(block), certificate_to_value(proof)] for block, proof in chain.steps]
    noes = [[proposal_to_value(each.proposal), verdict_to_value(each.verdict)] for each in refusals]
    head = [NAME, FORMAT, charter, list(statements), genesis, steps]
    return encode([*head, [block_to_value(block) for block in blocks], [certificate_to_value(certificate)], noes])


# ---- checking


def verify_untrusted(raw: bytes, known: Iterable[bytes] = ()) -> Report:
    """`known`: statements of the same mesh that are known here. They count for more than the file: a thief of a key that the
    authority replaced since can leave that out of a file, and say anything. Raises NotProven."""
    try:
        return _Reader(raw, list(known)).report()
    except (Malformed, ConfigError, Refused, NotCertified, TypeError, ValueError, IndexError) as error:
        raise error if isinstance(error, NotProven) else NotProven(str(error)) from error


class _Reader:
    def __init__(self, raw: bytes, known: list[bytes]) -> None:
        if len(raw) > FILE_BYTES_MAX:
            raise NotProven("the file is too large")
        match decode_untrusted(raw):
            case [name, form, bytes(charter), statements, bytes(genesis), steps, blocks, certificates, refusals] if name == NAME:
                if form != FORMAT:
                    raise NotProven("the file has another format: is this version older than the file?")
            case _:
                raise NotProven("this is no decision ledger")
        if not isinstance(statements, tuple) or not all(type(each) is bytes for each in statements):
            raise NotProven("the file holds something else than statements")
        self.raw_charter, self.charter = charter, charter_from_bytes(charter)
        self.directory = Directory(charter)
        complaints = self.directory.restore(statements)
        if complaints:
            raise NotProven(complaints[0])
        if known:  # judged by both: of what the file says, a handover that is known here may have made some void
            self.directory = Directory(charter)
            self.directory.restore([*known, *statements])
        nobody = Identity.generate(bytes(32))
        self.keys = keys_of(nobody.replica_id, lambda _purpose, _raw: b"", Notary(nobody, self.directory, LIBSODIUM).verify_vote)
        self.genesis = self._genesis_untrusted(genesis)
        self.trail = self._trail_untrusted(genesis, steps)
        self.blocks = [block_from_value_untrusted(each, self.keys) for each in blocks]
        self.certificates = [certificate_from_value_untrusted(each) for each in certificates]
        self.noes = [(proposal_from_value_untrusted(one), verdict_from_value_untrusted(other)) for one, other in refusals]

    def _genesis_untrusted(self, raw: bytes) -> Genesis:
        genesis = self.directory.genesis_named(raw)
        if genesis is None:
            raise NotProven("the authority did not sign this genesis")
        return genesis

    def _trail_untrusted(self, genesis: bytes, steps: Any) -> Trail:
        first = Config((key_id(self.genesis.public_key),))
        self.configs: dict[int, Config] = {0: first}
        self.changes: list[Change] = []
        trail = Trail(first, self.genesis.epoch, self.keys)
        for block_value, certificate_value in steps:
            block = block_from_value_untrusted(block_value, self.keys)
            trail.extend_untrusted(block, certificate_from_value_untrusted(certificate_value))
            self.configs[block.index] = config = trail.newest[1]
            if config.is_joint:
                self.changes.append(self._change(block, config))
        self.hash_before_first = self.keys.hash(genesis)
        return trail

    def _change(self, block: Block, config: Config) -> Change:
        came, went = sorted(set(config.voters) - set(config.outgoing)), leaving(config)
        evidence = b"".join(entry.evidence for entry in block.entries)  # a change has a block, and an entry, of its own
        dismissed = sorted(dismissed_by_untrusted(self.directory, evidence, went)) if evidence else []
        if evidence and not dismissed:
            raise NotProven(f"block {block.index} takes votes away under words that are not the authority's")
        named = [tuple(map(self.name, each)) for each in (came, went, dismissed)]
        return Change(block.index, block.time, *named)

    def report(self) -> Report:
        if not self.blocks or len(self.certificates) != 1:
            raise NotProven("the file holds no blocks, or no certificate")
        self._check_chain(self.certificates[0])
        first, last = self.blocks[0].index, self.blocks[-1].index
        voters = tuple(self.name(voter) for voter in self.trail.newest[1].voters)
        root, in_force = self.charter, tuple(self.directory.seat.keys.values())
        keys = (root.authorities, root.threshold, in_force)
        found = Report(self.raw_charter, root.mesh_id, *keys, self.genesis.epoch, voters, first, last)
        found.changes, outcomes = self.changes, self._outcomes()
        for block in self.blocks:
            found.decisions += self._decisions(block, outcomes)
        found.refusals = [self._dissent(proposal, verdict) for proposal, verdict in self.noes]
        return found

    def _check_chain(self, certificate: Certificate) -> None:
        """The certified header is the last block's, and each block names the one before."""
        if self.trail.verify_untrusted(certificate).index != self.blocks[-1].index:
            raise NotProven("the certificate is for another block")
        expected = self.keys.hash(certificate.headers[0])
        for block in reversed(self.blocks):
            if block.hash != expected:
                raise NotProven(f"block {block.index} is not the one that was certified")
            expected = block.header.prev
        if self.blocks[0].index == 1 and expected != self.hash_before_first:
            raise NotProven("the first block does not follow on the genesis")

    def _outcomes(self) -> dict[int, tuple[Outcome, ...]]:
        """By index, when the file begins with the first block: the state machine says what counts."""
        if self.blocks[0].index != 1:
            return {}
        machine = Machine(read_score=read_score, encode=encode, decode_untrusted=decode_untrusted)
        found: dict[int, tuple[Outcome, ...]] = {}
        for block in self.blocks:
            if machine.lacks(block.entries):
                break  # how that mesh's own predicates judge is known to its agents only
            found[block.index] = machine.apply(block)
        return found

    def _decisions(self, block: Block, outcomes: dict[int, tuple[Outcome, ...]]) -> list[Decision]:
        leader = block.header.leader
        if not self.keys.verify(leader, Purpose.BLOCK, block.header_bytes, block.signature):
            raise NotProven(f"block {block.index} is not signed by its leader")
        is_signed = partial(is_signed_untrusted, keys=self.keys)
        signed = {entry for batch in batches(block.entries) if is_vouched_for(batch, leader, is_signed) for entry in batch}
        found = []
        for place, entry in enumerate(block.entries):
            outcome = outcomes[block.index][place] if block.index in outcomes else None
            said = "unknown" if outcome is None else "repeated" if outcome.repeated else outcome.reason or "done"
            found.append(self._decision(block, entry, said, not entry.author or entry in signed))
        return found

    def _decision(self, block: Block, entry: Entry, outcome: str, signed: bool) -> Decision:
        kind, path, value, intent, rationale, trace = _told(entry)
        dangerous = is_dangerous(entry, decode_untrusted)
        config = self.configs.get(block.header.config_index)
        endorsers: tuple[str, ...] = ()
        if dangerous:
            if config is None or not is_endorsed_untrusted(entry, block.header, config, self.keys):
                raise NotProven(f"block {block.index} holds a dangerous entry that was not endorsed")
            signed_by = endorsed_by_untrusted(entry, block.header, self.keys) & set(config.electorate)
            endorsers = tuple(map(self.name, sorted(signed_by)))
        author = self.name(ReplicaId(entry.author)) if entry.author else ""
        leader = self.name(block.header.leader)
        place = (block.index, block.term, block.time, leader, author)
        return Decision(*place, kind, path, value, intent, rationale, trace, dangerous, endorsers, outcome, signed)

    def _dissent(self, proposal: Proposal, verdict: Verdict) -> Dissent:
        if verdict.proposal != self.keys.hash(proposal.signed_bytes(self.keys)) or not is_genuine(verdict, self.keys):
            raise NotProven("a refusal that its voter did not sign")
        kind, path, _, intent, rationale, _ = _told(proposal.entry)
        author, voter = self.name(ReplicaId(proposal.entry.author)), self.name(verdict.voter)
        return Dissent(proposal.term, author, voter, verdict.rule or "endorsed", kind, path, intent, rationale)

    def name(self, replica: ReplicaId) -> str:
        return self.directory.name(replica)


def _told(entry: Entry) -> tuple[str, str, Any, str, str, str]:
    """(kind, path, value, intent, rationale, trace)."""
    kind = entry.kind.name.lower()
    try:
        if entry.kind is Kind.POLICY:
            return kind, "", plain(decode_untrusted(entry.body)), "", "", ""
        if entry.kind is not Kind.COMMAND:
            return kind, "", entry.body.hex() or None, "", "", ""
        command = command_from_bytes_untrusted(entry.body, decode_untrusted)
        value, thought = plain(decode_untrusted(command.value)), command.thought
    except Malformed:
        return kind, "", None, "malformed", "", ""
    path = format_path(command.path) if command.path else ""
    return command.verb.name.lower(), path, value, thought.intent, thought.rationale, thought.trace
