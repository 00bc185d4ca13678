"""The blocks of one voter and the configurations in them.

Invariant (Raft's Log Matching): equal hash at an index means equal blocks up to there. What is committed is never cut off;
`Replication` sees to that before it calls `put`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from consensus_escalation.block import Block, clock_of, config_of
from consensus_escalation.quorum import Config
from consensus_escalation.types import Keys, Position, Voter

T = TypeVar("T")


class InForce(Generic[T]):
    """What blocks bring into force, from where on, ascending: the newest counts, committed or not."""

    def __init__(self, index: int, first: T) -> None:
        self.found: list[tuple[int, T]] = [(index, first)]
        """(index, what counts from there on); the first one is from below the log."""

    def before(self, index: int) -> tuple[int, T]:
        """What decides about the block at `index`."""
        if self.found[-1][0] < index:
            return self.found[-1]
        return next((pair for pair in reversed(self.found) if pair[0] < index), self.found[0])

    def put(self, first: int, found: Iterable[tuple[int, T]]) -> None:
        """In place of all from `first` on."""
        while self.found[-1][0] >= first:
            self.found.pop()
        self.found.extend(found)

    def compact(self, index: int) -> None:
        self.found = [self.before(index + 1), *(pair for pair in self.found if pair[0] > index)]


class Log:
    def __init__(
        self, base: Position, base_hash: bytes, config_index: int, config: Config, keys: Keys, attested: int = 0
    ) -> None:
        """An empty log above `base`: (0, 0) and the hash of the genesis at first, later a snapshot. `attested`: the time that a
        quorum's clocks had reached there."""
        self._keys = keys
        self.base, self.base_hash = base, base_hash
        self._blocks: list[Block] = []
        self._configs = InForce(config_index, config)
        self._clocks = InForce(base.index, attested)
        self.last_index, self.last_hash = base.index, base_hash
        """Of the newest block; kept, since both are asked for at every turn."""

    @property
    def last(self) -> Position:
        return Position(self._blocks[-1].term, self._blocks[-1].index) if self._blocks else self.base

    def get(self, index: int) -> Block | None:
        place = index - self.base.index - 1
        return self._blocks[place] if 0 <= place < len(self._blocks) else None

    def term_at(self, index: int) -> int | None:
        block = self.get(index)
        return block.term if block else self.base.term if index == self.base.index else None

    def hash_at(self, index: int) -> bytes | None:
        block = self.get(index)
        return block.hash if block else self.base_hash if index == self.base.index else None

    def between(self, first: int, last: int) -> Sequence[Block]:
        """Blocks first..last, as far as they are there."""
        start = max(0, first - self.base.index - 1)
        return self._blocks[start : max(start, last - self.base.index)]

    def last_of_term(self, term: int, below: int) -> int:
        """The highest index below `below` whose term is at most `term`: where two logs may first agree (paper 5.3)."""
        index = min(below - 1, self.last_index)
        while index > self.base.index and (self.term_at(index) or 0) > term:
            index -= 1
        return index

    # ---- configurations

    @property
    def config(self) -> Config:
        """The newest one in the log, committed or not: it counts from its append on."""
        return self._configs.found[-1][1]

    @property
    def config_index(self) -> int:
        return self._configs.found[-1][0]

    def config_before(self, index: int) -> tuple[int, Config]:
        """(where written, configuration) that decides about the block at `index`."""
        return self._configs.before(index)

    def audience(self, commit: int) -> tuple[Voter, ...]:
        """All to whom the log has to go, sorted: also those whom a configuration leaves out that they have yet to agree on."""
        if self.config_index <= commit:
            return self.config.everyone
        configs = [self.config_before(commit + 1)[1], *(config for index, config in self._configs.found if index > commit)]
        return tuple(sorted({voter for config in configs for voter in config.everyone}))

    def configs_between(self, low: int, high: int) -> Iterator[int]:
        """Indexes in (low, high] at which the configuration changes."""
        if self.config_index <= low:  # as nearly always
            return iter(())
        return (index for index, _ in self._configs.found if low < index <= high)

    # ---- clocks

    @property
    def attested(self) -> int:
        """The newest time in the log that a quorum's clocks have reached, committed or not."""
        return self._clocks.found[-1][1]

    def attested_before(self, index: int) -> int:
        """What bounds the time of the block at `index`, unless that attests a later one."""
        return self._clocks.before(index)[1]

    # ---- changes

    def put(self, blocks: Sequence[Block]) -> None:
        """Blocks in a row; those that stood in their place, and all after them, go. Raises Malformed, with nothing changed."""
        if not blocks:
            return
        configs = [(block.index, config) for block in blocks if (config := config_of(block, self._keys))]
        clocks = [(block.index, time) for block in blocks if (time := clock_of(block.entries)) is not None]
        first = blocks[0].index
        assert self.base.index < first <= self.last_index + 1, "a log has no gaps"
        del self._blocks[first - self.base.index - 1 :]
        self._blocks.extend(blocks)
        self._configs.put(first, configs)
        self._clocks.put(first, clocks)
        self.last_index, self.last_hash = self.base.index + len(self._blocks), self._blocks[-1].hash

    def compact(self, index: int) -> None:
        """Forget the blocks up to `index`, which a snapshot stands for."""
        term, digest = self.term_at(index), self.hash_at(index)
        assert term is not None, "only what is there can be compacted"
        assert digest is not None
        del self._blocks[: index - self.base.index]
        self.base, self.base_hash = Position(term, index), digest
        self._configs.compact(index)
        self._clocks.compact(index)
