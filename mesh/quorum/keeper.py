"""What stands beside Raft at every agent: leases that run out, questions for judges, and what the operator hears.

Follows the blocks as they are applied. When this agent leads, it proposes the EXPIRE of leases that nobody renewed
(`consensus_escalation.expiry`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from consensus_escalation.block import Entry, Kind
from consensus_escalation.chain import Chain
from consensus_escalation.command import Command, Thought, Verb, command_from_bytes_untrusted, command_to_bytes
from consensus_escalation.expiry import Expiry
from consensus_escalation.kept import Done
from consensus_escalation.machine import Machine, Outcome, Status
from consensus_escalation.verdict import Proposal, Verdict
from crdt.errors import Malformed
from crdt.ids import ReplicaId
from crdt.ops import Path
from crdt.types import format_path
from mesh.effects import Now
from mesh.errors import Backpressure
from mesh.events import Event, LeaderDemoted, LeaderRestored, PolicyChanged, ProposalRefused, QuorumFault
from mesh.quorum.courier import Courier
from mesh.quorum.judging import Judging
from mesh.wire.cbor import decode_untrusted, encode

REFUSALS_KEPT: Final = 256
"""Signed refusals, for the operator and for audits. In memory: about 200 kB."""
CHANGED_MAX: Final = 65_536
"""Changed paths that nobody has taken; after that, everything counts as changed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A voter's signed no."""

    proposal: Proposal
    verdict: Verdict


class Keeper:
    def __init__(self, me: ReplicaId, notify: Callable[[Event], None], name: Callable[[ReplicaId], str]) -> None:
        self._me, self._notify, self._name = me, notify, name
        self._expiry = Expiry()
        self._led_term = 0
        self.judging = Judging()
        self.refusals: deque[Refusal] = deque(maxlen=REFUSALS_KEPT)
        self._estate: list[Command] = []
        self.done = self.void = self.repeated = self.refusals_heard = 0
        self._changed: dict[Path, None] = {}
        self._jumps = 0

    def statistics(self, chain: Chain | None) -> dict[str, int]:
        """Counters since the start, and what is held now."""
        if chain is None:
            return {}
        machine = chain.machine
        return {
            "index": chain.applied,
            "proven": chain.proven,
            "jumps": chain.jumps,
            "entries_done": self.done,
            "entries_void": self.void,
            "entries_repeated": self.repeated,
            "refusals_heard": self.refusals_heard,
            "cells": sum(1 for _ in machine.cells()),
            "cell_bytes": machine.bytes,
            "leases": sum(1 for _ in machine.leases()),
            "outcomes_remembered": machine.ledger.sessions.count,
        }

    # ---- what the blocks say

    def applied(self, chain: Chain, done: Iterable[Done], now: Now) -> None:
        for each in done:
            for entry, outcome in zip(each.block.entries, each.outcomes, strict=True):
                if outcome.repeated:
                    self.repeated += 1
                elif outcome.status is Status.DONE:
                    self.done += 1
                    self._applied(chain, entry, outcome, now)
                else:
                    self.void += 1

    def _applied(self, chain: Chain, entry: Entry, outcome: Outcome, now: Now) -> None:
        match entry.kind:
            case Kind.COMMAND:
                self._commanded(chain, entry, now)
            case Kind.DEMOTE:
                who = ReplicaId(entry.body)
                self._notify(LeaderDemoted(who, self._name(who)))
            case Kind.RESTORE:
                who, by = ReplicaId(entry.body), ReplicaId(entry.author)
                self._notify(LeaderRestored(who, self._name(who), self._name(by)))
            case Kind.POLICY:
                self._notify(PolicyChanged(outcome.index, self._name(ReplicaId(entry.author))))
            case Kind.NOOP | Kind.CONFIG | Kind.SCORE | Kind.CLOCK:
                pass

    def _commanded(self, chain: Chain, entry: Entry, now: Now) -> None:
        try:
            command = command_from_bytes_untrusted(entry.body, decode_untrusted)
        except Malformed:  # void
            return
        if command.verb in (Verb.ACQUIRE, Verb.RENEW):
            self._expiry.seen(command.path, chain.machine, now.monotonic)
        elif command.verb in (Verb.SET, Verb.DELETE, Verb.COMPARE_AND_SET) and len(self._changed) < CHANGED_MAX:
            self._changed[command.path] = None

    def take_changed(self, chain: Chain) -> list[Path] | None:
        """Paths whose value changed since the last call; None when all may have."""
        changed, self._changed = list(self._changed), {}
        jumped, self._jumps = chain.jumps != self._jumps, chain.jumps
        return None if jumped or len(changed) >= CHANGED_MAX else changed

    # ---- leases

    @property
    def deadline(self) -> float:
        return self._expiry.deadline if self._led_term else float("inf")

    def tick(self, led_term: int, chain: Chain, courier: Courier, now: Now) -> None:
        """`led_term`: the term that this agent leads, 0 for none."""
        if led_term != self._led_term:
            self._led_term = led_term
            if led_term:
                self._expiry.lead(chain.machine, now.monotonic)
            else:
                self._expiry.stop()
        if led_term:
            for command in self._expiry.take(chain.machine, now.monotonic):
                self._want(command, chain, courier)
            while self._estate and self._want(self._estate[-1], chain, courier):
                self._estate.pop()

    def inherit(self, machine: Machine) -> None:
        """A new epoch begins with this agent alone: what it has of the former state is brought into the new log, where nobody was
        quicker. Leases are not: their holders have to ask anew."""
        cells = sorted(machine.cells(), key=lambda pair: encode(list(pair[0])))
        for path, cell in cells:
            command = Command(Verb.COMPARE_AND_SET, path, cell.value)
            judgement = machine.judge_command(command, self._me)
            if judgement.refused_by or judgement.judged_by:  # what nobody has judged is not endorsed, by whomever
                rule = judgement.refused_by or judgement.judged_by
                self._notify(QuorumFault(f"{format_path(path)} is not taken over into the new epoch: rule {rule}"))
            else:
                self._estate.append(command._replace(thought=Thought(is_dangerous=judgement.is_dangerous)))

    @staticmethod
    def _want(command: Command, chain: Chain, courier: Courier) -> bool:
        """False: too much waits, later."""
        try:
            courier.want(chain, command_to_bytes(command, encode))
        except Backpressure:
            return False
        return True

    # ---- dissent

    def refused(self, proposal: Proposal, verdict: Verdict) -> None:
        """A voter's no, this one's too."""
        self.refusals.append(Refusal(proposal, verdict))
        self.refusals_heard += 1
        author, voter = ReplicaId(proposal.entry.author), ReplicaId(verdict.voter)
        path, intent = _about(proposal.entry)
        self._notify(ProposalRefused(path, intent, self._name(author), self._name(voter), verdict.rule, proposal.term))


def _about(entry: Entry) -> tuple[str, str]:
    if entry.kind is not Kind.COMMAND:
        return "", entry.kind.name.lower()
    try:
        command = command_from_bytes_untrusted(entry.body, decode_untrusted)
    except Malformed:
        return "", "malformed"
    return format_path(command.path) if command.path else "", command.thought.intent or command.verb.name.lower()
