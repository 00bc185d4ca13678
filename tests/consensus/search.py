"""A breadth-first search over *all* behaviours of the pure rules, for three voters and a few terms.

The network is as bad as can be: what a leader sent may arrive at any later time, in any order, never or twice, because a leader's
log of a term only grows: an Append is a prefix of it. Voters may stop at any moment and keep what is durable. PreVote, ranks and
time are left out: they choose among these behaviours, and add none. The rules searched are the functions that `Raft` itself
calls.

`python -m tests.consensus.search [terms] [log length]` for a larger bound.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

from consensus_escalation.election import may_grant_vote
from consensus_escalation.quorum import Config, has_quorum
from consensus_escalation.replication import may_commit, may_sign_ack
from consensus_escalation.types import Position, Voter
from tests.consensus.cluster import voter

VOTERS = [voter(number) for number in (1, 2, 3)]
CONFIG = Config(tuple(VOTERS))
NOBODY = -1
Blocks = tuple[int, ...]
"""A log: the term of each block. As terms have one leader (checked), term and index name a block."""


class Agent(NamedTuple):
    term: int = 0
    vote: int = NOBODY
    log: Blocks = ()
    role: str = "F"
    granted: frozenset[int] = frozenset()
    """Who voted for it in its term, while it is a candidate."""
    match: tuple[int, int, int] = (0, 0, 0)
    """What each voter has accepted from it, while it leads."""
    acks: tuple[int, ...] = ()
    """For each term, how far it signed that term's log. Signatures never go away."""


class State(NamedTuple):
    agents: tuple[Agent, ...]
    led: tuple[Blocks, ...]
    """For each term, the longest log that its leader had: what it may have sent."""
    committed: tuple[int, ...]
    """For each term, how much of its leader's log that leader has committed."""


class Unsafe(AssertionError):
    """A state that must not be."""


@dataclass(frozen=True)
class Rules:
    """What is searched; tests plant bugs here."""

    grant_vote: Callable[..., bool] = may_grant_vote
    sign_ack: Callable[[int, int, int], bool] = may_sign_ack
    commit: Callable[..., int] = may_commit
    forgets_vote: bool = False


class FixedLog(NamedTuple):
    """A log whose configuration never changes."""

    last_index: int

    def configs_between(self, _low: int, _high: int) -> Iterator[int]:
        return iter(())

    def config_before(self, _index: int) -> tuple[int, Config]:
        return 0, CONFIG


def end(log: Blocks) -> Position:
    return Position(log[-1] if log else 0, len(log))


def named(numbers: frozenset[int] | set[int]) -> set[Voter]:
    return {VOTERS[number] for number in numbers}


def is_prefix(short: Blocks, long: Blocks) -> bool:
    return long[: len(short)] == short


class Search:
    def __init__(self, terms: int, length: int, rules: Rules | None = None) -> None:
        self.terms, self.length, self.rules = terms, length, rules or Rules()
        self.seen: set[State] = set()
        self.steps = 0

    def start(self) -> State:
        return State((Agent(acks=(0,) * (self.terms + 1)),) * 3, ((),) * (self.terms + 1), (0,) * (self.terms + 1))

    def run(self, start: State | None = None, states_max: int = 10_000_000) -> int:
        """All states that can be reached; how many there are, names of voters not counted. Raises Unsafe."""
        layer = [start or self.start()]
        self.seen = set(layer)
        while layer:
            following = []
            for state in layer:
                for reached in self.after(state):
                    self.steps += 1
                    same = self.canonical(reached)
                    if same not in self.seen:
                        self.check(same)
                        self.seen.add(same)
                        following.append(same)
            if len(self.seen) > states_max:
                raise MemoryError(f"more than {states_max} states")
            layer = following
        return len(self.seen)

    def first(self, wanted: Callable[[State], bool]) -> State:
        """The first state found in which something has come about."""
        layer = [self.start()]
        while True:
            layer = [self.canonical(reached) for state in layer for reached in self.after(state)]
            layer = list(dict.fromkeys(layer))
            for state in layer:
                if wanted(state):
                    return state

    def canonical(self, state: State) -> State:
        """The same state under the best of all renamings of the voters: names decide nothing here."""
        looks = [self._look(agent, who) for who, agent in enumerate(state.agents)]
        first = sorted(range(3), key=lambda who: looks[who])
        if len(set(looks)) == 3:
            return self._in_order(state, tuple(first))
        alike = [order for order in permutations(first) if [looks[who] for who in order] == [looks[who] for who in first]]
        return min((self._in_order(state, order) for order in alike), key=self._key)

    @staticmethod
    def _look(agent: Agent, who: int) -> tuple[object, ...]:
        """What of an agent does not depend on names."""
        is_own = agent.vote if agent.vote == NOBODY else int(agent.vote == who)
        return (agent.term, agent.log, agent.role, is_own, agent.acks, len(agent.granted), tuple(sorted(agent.match)))

    @staticmethod
    def _key(state: State) -> tuple[object, ...]:
        return tuple([(*a[:4], sorted(a.granted), a.match, a.acks) for a in state.agents])

    def _in_order(self, state: State, order: tuple[int, ...]) -> State:
        new = {old: place for place, old in enumerate(order)}
        new[NOBODY] = NOBODY
        return state._replace(agents=tuple([self._renamed(state.agents[old], order, new) for old in order]))

    def _renamed(self, agent: Agent, order: tuple[int, ...], new: dict[int, int]) -> Agent:
        granted = frozenset([new[who] for who in agent.granted])
        first, second, third = order
        return agent._replace(
            vote=new[agent.vote], granted=granted, match=(agent.match[first], agent.match[second], agent.match[third])
        )

    # ---- what may happen

    def after(self, state: State) -> Iterator[State]:
        for me, agent in enumerate(state.agents):
            if agent.term < self.terms:
                yield self._with(
                    state, me, self._stepped(agent, agent.term + 1)._replace(vote=me, role="C", granted=frozenset([me]))
                )
            if agent.role != "F" or (self.rules.forgets_vote and agent.vote != NOBODY):
                yield self._with(state, me, self._crashed(agent))
            if agent.role == "C":
                yield from self._candidate(state, me, agent)
            if agent.role == "L":
                yield from self._leader(state, me, agent)
            yield from self._follower(state, me, agent)
            yield from self._signs_late(state, me, agent)

    @staticmethod
    def _with(state: State, me: int, agent: Agent) -> State:
        return state._replace(agents=(*state.agents[:me], agent, *state.agents[me + 1 :]))

    @staticmethod
    def _stepped(agent: Agent, term: int) -> Agent:
        """In a higher term nothing volatile is left."""
        return (
            agent._replace(term=term, vote=NOBODY, role="F", granted=frozenset(), match=(0, 0, 0)) if term > agent.term else agent
        )

    def _crashed(self, agent: Agent) -> Agent:
        vote = NOBODY if self.rules.forgets_vote else agent.vote
        return agent._replace(vote=vote, role="F", granted=frozenset(), match=(0, 0, 0))

    def _candidate(self, state: State, me: int, agent: Agent) -> Iterator[State]:
        for other, judge in enumerate(state.agents):
            voted = None if judge.vote == NOBODY or agent.term > judge.term else VOTERS[judge.vote]
            if other == me or other in agent.granted:
                continue
            if self.rules.grant_vote(
                term=judge.term,
                voted=voted,
                mine=end(judge.log),
                candidate=VOTERS[me],
                asked_term=agent.term,
                candidate_last=end(agent.log),
            ):
                after = self._with(state, other, self._stepped(judge, agent.term)._replace(vote=me))
                yield self._with(after, me, agent._replace(granted=agent.granted | {other}))
        if has_quorum(CONFIG, named(agent.granted)):
            yield self._leads(state, me, agent)

    def _leads(self, state: State, me: int, agent: Agent) -> State:
        if state.led[agent.term]:
            raise Unsafe(f"two leaders in term {agent.term}: {state}")
        return self._cut(state, me, agent._replace(role="L", granted=frozenset()))

    def _cut(self, state: State, me: int, agent: Agent) -> State:
        """A block at the end of the leader's log, the no-op first."""
        log = (*agent.log, agent.term)
        led = (*state.led[: agent.term], log, *state.led[agent.term + 1 :])
        return self._accepts(state._replace(led=led), me, agent._replace(log=log), agent.term, len(log), me, agent)

    def _leader(self, state: State, me: int, agent: Agent) -> Iterator[State]:
        if len(agent.log) < self.length:
            yield self._cut(state, me, agent)
        match = dict(zip(VOTERS, agent.match, strict=True))
        reached = self.rules.commit(FixedLog(len(agent.log)), match, 0, agent.log.index(agent.term) + 1)
        if reached > state.committed[agent.term]:
            yield state._replace(
                committed=(*state.committed[: agent.term], reached, *state.committed[agent.term + 1 :]),
            )

    def _follower(self, state: State, me: int, agent: Agent) -> Iterator[State]:
        """Any prefix of what the leader of a term sent, whenever."""
        for term in range(max(agent.term, 1), self.terms + 1):
            if agent.role == "L" and agent.term == term:
                continue
            for count in range(1, len(state.led[term]) + 1):
                sent = state.led[term][:count]
                log = agent.log if is_prefix(sent, agent.log) else sent
                follower = self._stepped(agent, term)._replace(log=log, role="F", granted=frozenset())
                leader = next((w for w, a in enumerate(state.agents) if a.role == "L" and a.term == term), NOBODY)
                yield self._accepts(state, me, follower, term, count, leader, state.agents[leader])

    def _accepts(self, state: State, me: int, agent: Agent, term: int, count: int, leader: int, leading: Agent) -> State:
        """`me` has stored the first `count` blocks of `term`'s leader: it signs, and the leader (if it still leads) learns it."""
        if self.rules.sign_ack(agent.log[count - 1], term, agent.term):
            agent = self._signed(agent, agent.log[count - 1], count)
        if leader == NOBODY:
            return self._with(state, me, agent)
        now = list((agent if me == leader else leading).match)
        now[me] = max(now[me], count)
        if me == leader:
            return self._with(state, me, agent._replace(match=(now[0], now[1], now[2])))
        return self._with(self._with(state, me, agent), leader, leading._replace(match=(now[0], now[1], now[2])))

    @staticmethod
    def _signed(agent: Agent, term: int, count: int) -> Agent:
        acks = list(agent.acks)
        acks[term] = max(acks[term], count)
        return agent._replace(acks=tuple(acks))

    def _signs_late(self, state: State, me: int, agent: Agent) -> Iterator[State]:
        """Somebody asks again for the signature of a block that is stored."""
        for place, term in enumerate(agent.log, 1):
            if agent.acks[term] < place and self.rules.sign_ack(term, term, agent.term):
                yield self._with(state, me, self._signed(agent, term, place))

    # ---- what must be true

    def check(self, state: State) -> None:
        """What is committed or certified in a term, the leaders of all later terms have (paper 5.4.3)."""
        for term in range(1, self.terms + 1):
            log = state.led[term]
            self._lasts(state, term, log[: state.committed[term]], "committed")
            for count, block in enumerate(log, 1):
                signers = {who for who, agent in enumerate(state.agents) if agent.acks[term] >= count}
                if block == term and has_quorum(CONFIG, named(signers)):
                    self._lasts(state, term, log[:count], "certified")

    def _lasts(self, state: State, term: int, log: Blocks, what: str) -> None:
        for later in range(term + 1, self.terms + 1):
            if state.led[later] and not is_prefix(log, state.led[later]):
                raise Unsafe(f"{what} in {term}, and the leader of {later} lacks it: {state}")


def main() -> None:
    terms, length = (int(argument) for argument in sys.argv[1:]) if len(sys.argv) == 3 else (3, 2)
    search = Search(terms, length)
    print(f"{search.run()} states, {search.steps} steps, all safe: 3 voters, {terms} terms, {length} blocks")


if __name__ == "__main__":
    main()
