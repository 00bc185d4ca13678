"""Log time: what a leader may claim, and how a quorum's clocks come into the log.

A block carries the time that its leader claims. Voters store it whatever their own clocks say: who refuses what others store may
never agree with them again, and clocks are set while logs are on their way. What bounds the claim stands in the log itself:

    leader  --AskClock-->  voters, each of whom signs what its own clock says  --TellClock-->  a CLOCK block that holds a quorum
    of such statements. The latest time that all of them have reached is *attested* from there on.

No block is more than `AHEAD_MICROSECONDS` later than what is attested before it, and that is a rule about the log alone: every
voter judges each block alike, today and in a year. A leader whose clock is wrong cuts its claims down to it and goes on; one that
does not has no correct voter store what it sends. Every quorum has a correct clock in it, if a majority has, so neither can move
log time far. While a majority's clocks are behind, so is log time, and everything else goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Final, NamedTuple

from consensus_escalation.block import TIME_SIZE, Block, Entry, Kind, clock_of
from consensus_escalation.core import Core
from consensus_escalation.messages import AskClock, TellClock
from consensus_escalation.quorum import CONFIG_SIZE_MAX, Config, has_quorum, reached_by_quorum
from consensus_escalation.types import Keys, Purpose, Role, Voter
from consensus_escalation.verdict import just_enough
from crdt.errors import Malformed

AHEAD_MICROSECONDS: Final = 2 * 3600 * 1_000_000
"""How far a leader may claim to be beyond what is attested: both may be an hour off their peers' median (DESIGN section 1).
What the log remembers for 24 h, it so remembers for 22 at least."""
RENEW_MICROSECONDS: Final = AHEAD_MICROSECONDS // 4
"""So much later, clocks are asked again: half an hour, 48 small blocks a day, while good clocks have 90 minutes left. Guess."""
ASK_SECONDS: Final = 10.0
"""Between two rounds of questions to clocks that do not agree with the leader's. Guess."""
SIGN_SECONDS: Final = 1.0
"""A voter signs what its clock says so often at most; in between it repeats itself."""

# ---- the rules, pure: tests.consensus.clock_search searches these very functions


def latest(attested: int) -> int:
    """The latest time that a block may carry."""
    return attested + AHEAD_MICROSECONDS


def stamp(now: int, before: int, attested: int) -> int:
    """The time of a leader's next block: its own clock, not below the block before, and not beyond what it may claim."""
    return min(max(now, before), latest(attested))


def agreed(config: Config, clocks: Mapping[Voter, int]) -> int:
    """The latest time that the clocks of a quorum have reached."""
    return int(reached_by_quorum(config, clocks))


def renews(attested: int, time: int) -> bool:
    """Whether a time is worth a block."""
    return time >= attested + RENEW_MICROSECONDS


# ---- in the log


class Statement(NamedTuple):
    """What a voter's clock said."""

    time: int
    signature: bytes


def statement_bytes(epoch: int, term: int, base: int, time: int) -> bytes:
    """What is signed. It counts in one term, and once: `base` is what was attested before."""
    return b"".join([number.to_bytes(TIME_SIZE, "big") for number in (epoch, term, base, time)])


def clock_entry(time: int, statements: Mapping[Voter, Statement], keys: Keys) -> Entry:
    rows = [[voter, *statements[voter]] for voter in sorted(statements)]
    return Entry(Kind.CLOCK, body=time.to_bytes(TIME_SIZE, "big"), evidence=keys.encode(rows))


def is_attested_untrusted(block: Block, config: Config, attested: int, keys: Keys) -> bool:
    """Whether a quorum of `config`, the one before the block, says that the time of its CLOCK entry has come."""
    time = clock_of(block.entries)
    if time is None or not renews(attested, time):
        return False
    try:
        value = keys.decode_untrusted(block.entries[0].evidence)
    except Malformed:
        return False
    if not isinstance(value, list | tuple) or len(value) > 2 * CONFIG_SIZE_MAX:
        return False
    electorate, valid = config.electorate, set[Voter]()
    for row in value:
        match row:
            case [bytes(voter), int(said), bytes(signature)] if time <= said < 1 << 64 and voter in electorate:
                raw = statement_bytes(block.header.epoch, block.term, attested, said)
                if voter not in valid and keys.verify(Voter(voter), Purpose.CLOCK, raw, signature):
                    valid.add(Voter(voter))
            case _:
                return False
    return has_quorum(config, valid)


# ----


class Clocks:
    def __init__(self, core: Core, is_sure: Callable[[], bool]) -> None:
        """`is_sure`: whether this voter may say what time it is."""
        self._core, self._is_sure = core, is_sure
        self._said: dict[Voter, Statement] = {}
        """In this round, on top of what is attested in the log."""
        self._base = 0
        self._asked_at = -inf
        self._is_agreed = False
        """Whether a quorum has said in this term what its clocks say."""
        self._answer: TellClock | None = None
        """The last one, signed at:"""
        self._signed_at = -inf

    # ---- leader

    def lead(self) -> None:
        self._is_agreed, self._said, self._asked_at = False, {}, -inf
        if renews(self._core.log.attested, self._core.now.wall):
            self._open()

    def _open(self) -> None:
        core = self._core
        self._base = core.log.attested
        self._said = {core.me: self._sign(core.term, self._base)} if self._is_sure() else {}

    @property
    def is_waiting(self) -> bool:
        """Whether this leader cannot say yet what time it is, and entries would be taken for those of the future."""
        return not self._is_agreed and self._core.now.wall > latest(self._core.log.attested)

    def ask(self) -> None:
        """With every heartbeat; while entries wait for it, each asks again."""
        core = self._core
        if not renews(core.log.attested, core.now.wall):
            return
        is_due = core.now.monotonic >= self._asked_at + ASK_SECONDS or self._base != core.log.attested
        if is_due:
            self._asked_at = core.now.monotonic
            self._open()
        if core.me not in self._said and self._is_sure():
            self._said[core.me] = self._sign(core.term, self._base)
        if is_due or self.is_waiting:
            for voter in core.others(core.log.config.electorate):
                if voter not in self._said:
                    core.send_at_once(voter, AskClock(core.term, self._base))

    def told(self, sender: Voter, message: TellClock) -> None:
        core = self._core
        if core.role is not Role.LEADER or message.term != core.term or message.base != self._base or sender in self._said:
            return
        raw = statement_bytes(core.epoch, core.term, self._base, message.time)
        if sender in core.log.config.electorate and core.keys.verify(sender, Purpose.CLOCK, raw, message.signature):
            self._said[sender] = Statement(message.time, message.signature)

    def entry(self) -> Entry | None:
        """What the clocks of a quorum say, once it is worth a block."""
        core, config = self._core, self._core.log.config
        if self._base != core.log.attested or not has_quorum(config, self._said):
            return None
        self._is_agreed = True
        time = agreed(config, {voter: said.time for voter, said in self._said.items()})
        if not renews(self._base, time):
            return None
        enough = just_enough(config, [voter for voter, said in self._said.items() if said.time >= time])
        return clock_entry(time, {voter: self._said[voter] for voter in enough}, core.keys)

    # ---- voter

    def asked(self, sender: Voter, message: AskClock) -> None:
        core = self._core
        if sender != core.leader or message.term != core.term or core.me not in core.log.config.electorate:
            return
        if core.now.monotonic >= self._signed_at + SIGN_SECONDS and self._is_sure():
            self._signed_at = core.now.monotonic
            self._answer = TellClock(core.term, message.base, *self._sign(core.term, message.base))
        if self._answer is not None and (self._answer.term, self._answer.base) == (message.term, message.base):
            core.send_at_once(sender, self._answer)

    def _sign(self, term: int, base: int) -> Statement:
        core, time = self._core, self._core.now.wall
        return Statement(time, core.keys.sign(Purpose.CLOCK, statement_bytes(core.epoch, term, base, time)))
