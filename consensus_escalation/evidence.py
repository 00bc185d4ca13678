"""What a block has to bring along before a voter stores it. Structure, not judgement: each answer follows from the block, the log
before it and what the authority has signed."""

from __future__ import annotations

from collections.abc import Callable

from consensus_escalation.authorship import IsSigned, batches, is_vouched_for
from consensus_escalation.block import Block, Entry, Kind, config_of
from consensus_escalation.core import Core
from consensus_escalation.impeachment import Guilt, read_proof_untrusted, unendorsed_proof
from consensus_escalation.membership import Authority, leaving
from consensus_escalation.quorum import Config
from consensus_escalation.verdict import is_endorsed_untrusted


class Evidence:
    def __init__(
        self,
        core: Core,
        proofs: list[bytes],
        is_dangerous: Callable[[Entry], bool],
        is_signed: IsSigned,
        is_certified: Callable[[bytes], bool],
        authority: Authority,
    ) -> None:
        """`proofs`: where those against leaders go. The others: see `raft.Raft`."""
        self._core, self._proofs, self._authority = core, proofs, authority
        self._is_dangerous, self._is_signed, self._is_certified = is_dangerous, is_signed, is_certified

    def holds(self, block: Block, config: Config) -> bool:
        """Batches are their authors', dangerous entries have their endorsements, demotions their proof, and what is countersigned
        has the authority's signature. Raises Malformed."""
        leader = block.header.leader
        if not all(is_vouched_for(batch, leader, self._is_signed) for batch in batches(block.entries)):
            return False
        return all(self._is_proven(entry, block, config) for entry in block.entries)

    def _is_proven(self, entry: Entry, block: Block, config: Config) -> bool:
        core = self._core
        if self._is_dangerous(entry) and not is_endorsed_untrusted(entry, block.header, config, core.keys):
            self._proofs.append(unendorsed_proof(block, core.keys))
            return False
        if entry.kind is Kind.SCORE:
            return self._is_certified(entry.evidence)
        if entry.kind is Kind.CONFIG and entry.evidence:
            changed = config_of(block, core.keys)
            return changed is not None and self._authority.is_warrant_untrusted(entry.evidence, leaving(changed))
        if entry.kind is Kind.DEMOTE:
            guilt = self.read_proof(entry.evidence)
            return guilt is not None and guilt.leader == entry.body
        return True

    def _config_at(self, index: int) -> Config | None:
        found, config = self._core.log.config_before(index + 1)
        return config if found == index else None

    def read_proof(self, raw: bytes) -> Guilt | None:
        return read_proof_untrusted(raw, self._core.epoch, self._config_at, self._is_dangerous, self._core.keys)
