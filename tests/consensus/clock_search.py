"""A breadth-first search over what clocks do to a quorum, with the rules that `Raft` itself calls.

Every voter's clock may be right or a day ahead and change at any moment; elections, blocks and what a follower stores happen in
any order, and voters may stop leading at any moment. Terms and logs are those of `tests.consensus.search`, which looks at all
that a network can do to them; here an election and the storing of a log are one step each. Looked for are

    Unsafe   what was committed is lost, or log time is beyond what good clocks allow
    Stuck    a state out of which no block can ever be committed, although a quorum is up, hears each other, and no clock changes
             any more

`python -m tests.consensus.clock_search [voters] [terms] [log length]` for a larger bound.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from consensus_escalation.clocks import AHEAD_MICROSECONDS, agreed, latest, renews, stamp
from consensus_escalation.election import may_grant_vote
from consensus_escalation.quorum import Config, has_quorum
from consensus_escalation.types import Position
from tests.consensus.cluster import voter

START = 100 * AHEAD_MICROSECONDS
"""What is attested when the search begins, and what the good clocks say."""
DAY = 12 * AHEAD_MICROSECONDS
NOBODY = -1


class Cut(NamedTuple):
    """A block."""

    term: int
    time: int
    attests: int = 0


Blocks = tuple[Cut, ...]


class Agent(NamedTuple):
    term: int = 0
    vote: int = NOBODY
    log: Blocks = ()
    leads: bool = False
    clock: int = START


class State(NamedTuple):
    agents: tuple[Agent, ...]
    committed: Blocks = ()


class Unsafe(AssertionError):
    """A state that must not be."""


class Stuck(AssertionError):
    """A state that is never left."""


def attested(log: Blocks) -> int:
    return max([START, *(block.attests for block in log)])


def end(log: Blocks) -> Position:
    return Position(log[-1].term if log else 0, len(log))


class Rules:
    """Those in force; tests search others."""

    def time(self, agent: Agent) -> int:
        return stamp(agent.clock, agent.log[-1].time if agent.log else 0, attested(agent.log))

    def attests(self, config: Config, agent: Agent, clocks: dict[int, int]) -> int:
        """What a leader may log that the clocks of these have reached; 0 for nothing."""
        time = agreed(config, {voter(who): clock for who, clock in clocks.items()})
        return time if renews(attested(agent.log), time) else 0

    def stores(self, _follower: Agent, log: Blocks) -> bool:
        return all(block.time <= latest(attested(log[:place])) for place, block in enumerate(log, 1))


class OwnClocks(Rules):
    """Log time was the leader's clock, and a follower stored nothing that was far ahead of its own."""

    def time(self, agent: Agent) -> int:
        return max(agent.clock, agent.log[-1].time if agent.log else 0)

    def attests(self, _config: Config, _agent: Agent, _clocks: dict[int, int]) -> int:
        return 0

    def stores(self, follower: Agent, log: Blocks) -> bool:
        newest = log[-1].time
        held = follower.log[-1].time if follower.log else 0
        return newest <= max(follower.clock + AHEAD_MICROSECONDS, held) or is_prefix(log, follower.log)


class WordOfTheLog(Rules):
    """A voter took what the log says for what its clock says, when that is later."""

    def attests(self, config: Config, agent: Agent, clocks: dict[int, int]) -> int:
        reached = agent.log[-1].time if agent.log else 0
        return super().attests(config, agent, {who: max(clock, reached) for who, clock in clocks.items()})


def is_prefix(short: Blocks, long: Blocks) -> bool:
    return long[: len(short)] == short


@dataclass
class Search:
    voters: int
    terms: int
    length: int
    rules: Rules
    jumping: tuple[int, ...]
    """Whose clocks are sometimes a day ahead."""
    liar: int = NOBODY
    """Stamps its blocks with any time and stores anything; its clock says a day ahead when asked."""

    def __post_init__(self) -> None:
        self.config = Config(tuple(voter(who) for who in range(self.voters)))
        self.steps = 0

    def run(self) -> int:
        """All states that can be reached; how many. Raises Unsafe or Stuck."""
        layer = [State((Agent(),) * self.voters)]
        seen = set(layer)
        while layer:
            following = []
            for state in layer:
                for reached in self.after(state):
                    self.steps += 1
                    if reached not in seen:
                        self.check(state, reached)
                        seen.add(reached)
                        following.append(reached)
            layer = following
        return len(seen)

    # ---- what may happen

    def after(self, state: State) -> Iterator[State]:
        for me, agent in enumerate(state.agents):
            if me in self.jumping:
                yield with_agent(state, me, agent._replace(clock=2 * START + DAY - agent.clock))
            if agent.leads:
                yield with_agent(state, me, agent._replace(leads=False))
                yield from self._leader(state, me, agent)
            elif agent.term < self.terms:
                for size in range(1, self.voters):
                    for others in combinations([who for who in range(self.voters) if who != me], size):
                        elected = self.elect(state, me, others)
                        if elected is not None:
                            yield elected

    def elect(self, state: State, me: int, others: tuple[int, ...]) -> State | None:
        """`me` asks these, and all grant it."""
        candidate = state.agents[me]
        term = candidate.term + 1
        if not has_quorum(self.config, {voter(who) for who in (me, *others)}):
            return None
        agents = list(state.agents)
        for who in others:
            judge = agents[who]
            voted = None if judge.vote == NOBODY or term > judge.term else voter(judge.vote)
            if not may_grant_vote(
                term=judge.term,
                voted=voted,
                mine=end(judge.log),
                candidate=voter(me),
                asked_term=term,
                candidate_last=end(candidate.log),
            ):
                return None
            agents[who] = judge._replace(term=term, vote=me, leads=False)
        agents[me] = candidate._replace(term=term, vote=me, leads=True)
        return state._replace(agents=tuple(agents))

    def _leader(self, state: State, me: int, agent: Agent) -> Iterator[State]:
        if len(agent.log) < self.length:
            yield from self._cuts(state, me, agent)
        for other in range(self.voters):
            stored = self.store(state, me, other)
            if stored is not None:
                yield stored
        committed = self.commit(state, me)
        if committed is not None:
            yield committed

    def _cuts(self, state: State, me: int, agent: Agent) -> Iterator[State]:
        yield with_agent(state, me, self.cut(agent))
        if me == self.liar:
            before = agent.log[-1].time if agent.log else 0
            for time in (latest(attested(agent.log)), START + DAY):
                yield with_agent(state, me, agent._replace(log=(*agent.log, Cut(agent.term, max(time, before)))))
        for size in range(self.voters):
            for others in combinations([who for who in range(self.voters) if who != me], size):
                told = self.tell(state, me, (me, *others))
                if told is not None:
                    yield told

    def cut(self, agent: Agent) -> Agent:
        return agent._replace(log=(*agent.log, Cut(agent.term, self.rules.time(agent))))

    def tell(self, state: State, me: int, asked: tuple[int, ...]) -> State | None:
        """The leader logs what the clocks of these say."""
        agent = state.agents[me]
        clocks = {who: START + DAY if who == self.liar else state.agents[who].clock for who in asked}
        time = self.rules.attests(self.config, agent, clocks)
        if not time:
            return None
        stamped = stamp(agent.clock, agent.log[-1].time if agent.log else 0, time)
        return with_agent(state, me, agent._replace(log=(*agent.log, Cut(agent.term, stamped, time))))

    def store(self, state: State, me: int, other: int) -> State | None:
        """`other` hears the leader and stores what it may."""
        leader, follower = state.agents[me], state.agents[other]
        if other == me or follower.term > leader.term or not leader.log or is_prefix(leader.log, follower.log):
            return None
        if other != self.liar and not self.rules.stores(follower, leader.log):
            return None
        vote = follower.vote if follower.term == leader.term else NOBODY
        return with_agent(state, other, follower._replace(term=leader.term, vote=vote, log=leader.log, leads=False))

    def commit(self, state: State, me: int) -> State | None:
        log = state.agents[me].log
        if not log or log[-1].term != state.agents[me].term or log == state.committed:
            return None
        holders = {
            voter(who) for who, agent in enumerate(state.agents) if is_prefix(log, agent.log) and agent.term <= log[-1].term
        }
        return state._replace(committed=log) if has_quorum(self.config, holders) else None

    # ---- what must be true

    def check(self, before: State, state: State) -> None:
        if not is_prefix(before.committed, state.committed):
            raise Unsafe(f"committed and lost: {state}")
        wrong = set(self.jumping) | {self.liar}
        good = {voter(who) for who in range(self.voters) if who not in wrong}
        is_bounded = not has_quorum(self.config, {voter(who) for who in range(self.voters)} - good)
        if is_bounded and state.committed and state.committed[-1].time > START + AHEAD_MICROSECONDS:
            raise Unsafe(f"log time is {(state.committed[-1].time - START) / DAY:.1f} days ahead: {state}")
        for alive in self._quorums():
            if self.liar not in alive and not any(self._goes_on(state, me, alive) for me in alive):
                raise Stuck(f"with {alive} up: {state}")

    def _quorums(self) -> Iterator[tuple[int, ...]]:
        for size in range(1, self.voters + 1):
            for alive in combinations(range(self.voters), size):
                if has_quorum(self.config, {voter(who) for who in alive}):
                    yield alive

    def _goes_on(self, state: State, me: int, alive: tuple[int, ...]) -> bool:
        """Whether `me` can lead these and commit a block of its own, when elections have made terms equal, nobody else leads and
        no clock moves."""
        term = max(agent.term for agent in state.agents)
        up = [
            agent._replace(term=term, vote=NOBODY, leads=False) if who in alive else agent
            for who, agent in enumerate(state.agents)
        ]
        elected = self.elect(state._replace(agents=tuple(up)), me, tuple(who for who in alive if who != me))
        if elected is None:
            return False
        now = self.tell(elected, me, alive) or elected
        now = with_agent(now, me, self.cut(now.agents[me]))
        for other in alive:
            now = self.store(now, me, other) or now
        return self.commit(now, me) is not None


def with_agent(state: State, me: int, agent: Agent) -> State:
    return state._replace(agents=(*state.agents[:me], agent, *state.agents[me + 1 :]))


def main() -> None:
    voters, terms, length = (int(argument) for argument in sys.argv[1:]) if len(sys.argv) == 4 else (2, 3, 3)
    search = Search(voters, terms, length, Rules(), tuple(range(voters)))
    print(
        f"{search.run()} states, {search.steps} steps, none unsafe, none stuck: {voters} voters, {terms} terms, {length} blocks"
    )


if __name__ == "__main__":
    main()
