"""Several critical writes under a key that their user chose, asked for again with the same key, as `Node.agree` does.

The user gave up waiting, or the whole process died and was started again, or another leader was elected meanwhile: asked for
again, each write is done once, and whoever asks hears of the block that did it the first time. The writes go into the history
that is checked for linearizability, each from its first call to the first definite answer.
"""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

from consensus_escalation.command import NULL, Command, Verb, command_to_bytes
from consensus_escalation.machine import MISMATCH, Status
from consensus_escalation.sessions import Key
from mesh.critical.clerk import number_of
from mesh.errors import Backpressure
from mesh.peer import Peer
from mesh.quorum.courier import Answered, NotTaken
from mesh.testing import Host, microseconds
from mesh.testing.linearizable import DONE, SET, SWAP, Mismatch, Operation
from mesh.wire.cbor import decode_untrusted, encode
from tools.sim.ground import Ground

WRITES_MAX: Final = 4
TRIES_MAX: Final = 4
AGAIN_SECONDS: Final = (0.05, 3.0)
"""Between two tries: before any answer, and after a leader was replaced."""


@dataclass(slots=True)
class Several:
    """Writes that were asked for together."""

    host: int
    name: str
    bodies: list[bytes]
    operations: list[Operation]
    tries: int = 0
    keys: list[Key] = field(default_factory=list)
    """Of the newest try."""
    start: int = -1
    """Which process of the host that was."""
    indexes: dict[int, int] = field(default_factory=dict)
    """Place of a write -> the block that decided about it, once that is known."""
    refused: set[int] = field(default_factory=set)
    """Definitely not done, when there was one try only."""


class Repeats:
    name = "critical"

    def __init__(self, ground: Ground, history: list[Operation]) -> None:
        """`history`: where operations go."""
        self._ground, self._history = ground, history
        self._rng = random.Random(0)
        self._all: list[Several] = []
        self._asked: dict[tuple[int, int, Key], tuple[Several, int]] = {}

    def ask(self, host: Host[Peer], rng: random.Random, values: int, paths: int) -> int:
        """Begin one. Returns the last value that it uses: they are drawn in a row, above `values`."""
        self._rng, now = rng, self._ground.mesh.now
        several = Several(host.number, f"several {len(self._all)}", [], [])
        chain = _peer(host).quorum.chain
        assert chain is not None
        for value in range(values + 1, values + 1 + rng.randint(2, WRITES_MAX)):
            path, kind = f"critical/{rng.randrange(paths)}", rng.choice((SET, SWAP))
            where = tuple(path.split("/"))
            cell = chain.machine.cell(where) if kind == SWAP else None
            expected = decode_untrusted(cell.value) if cell is not None else None
            verb = Verb.SET if kind == SET else Verb.COMPARE_AND_SET
            command = Command(verb, where, encode(value), encode(expected) if kind == SWAP else NULL)
            several.bodies.append(command_to_bytes(command, encode))
            several.operations.append(Operation(host.number, path, kind, now, value=value, expected=expected))
        self._all.append(several)
        self._try(several)
        return values + len(several.bodies)

    def _try(self, several: Several) -> None:
        """By whatever process lives there now, under the same name."""
        host = self._ground.mesh.hosts[several.host]
        if host.core is not None and not host.paused and not host.core.left and host.core.quorum.chain is not None:
            quorum, chain = host.core.quorum, host.core.quorum.chain
            if several.start == host.starts and self._rng.random() < 0.5:  # whoever waited for the former try was cancelled
                for key in several.keys:
                    quorum.courier.forget(key)
                    self._asked.pop((host.number, host.starts, key), None)
            try:
                since = max(chain.ledger.time, quorum.wall)
                keys = quorum.courier.want_again(chain, several.bodies, (since, number_of(several.name)))
            except Backpressure:
                self._ground.counts[f"{self.name} backpressure"] += 1
            else:
                self._ground.counts[f"{self.name} asked again"] += several.tries > 0
                self._ground.counts[f"{self.name} asked again by a later process"] += -1 < several.start < host.starts
                several.keys, several.start = keys, host.starts
                self._asked.update({(host.number, host.starts, key): (several, place) for place, key in enumerate(keys)})
                several.tries += 1
                host.wake_soon()
        if several.tries < TRIES_MAX:
            world = self._ground.mesh.world
            world.at(world.time + microseconds(self._rng.uniform(*AGAIN_SECONDS)), lambda: self._again(several))

    def _again(self, several: Several) -> None:
        if not self.is_over:
            self._try(several)

    is_over = False
    """Nobody asks any more."""

    def answered(self, host: Host[Peer], each: Answered) -> None:
        found = self._asked.pop((host.number, host.starts, each.key), None)
        if found is None:
            return
        several, place = found
        if isinstance(each, NotTaken):
            if several.tries == 1:
                several.refused.add(place)
            return
        outcome = each.outcome
        if outcome.status is Status.UNKNOWN:
            return
        first = several.indexes.setdefault(place, outcome.index)
        if first != outcome.index:
            self._ground.fail(self.name, host, f"write {place} of {several.name} is done by block {first} and {outcome.index}")
        operation = several.operations[place]
        if operation.returned < float("inf"):
            self._ground.counts[f"{self.name} answered again"] += 1
            return
        several.operations[place] = operation = operation._replace(returned=self._ground.mesh.now)
        result: Hashable = DONE
        if outcome.reason == MISMATCH:
            if outcome.repeated or outcome.value is None:
                return  # definite, but what it found is no longer known
            result = Mismatch(decode_untrusted(outcome.value))
        self._history.append(operation._replace(result=result))

    def under_way(self) -> list[tuple[int, int]]:
        """(host, start) of who waits for an answer."""
        return [place[:2] for place in self._asked]

    def end(self) -> None:
        """What nobody heard of may have been done at any time."""
        for several in self._all:
            for place, operation in enumerate(several.operations):
                if place not in several.indexes and place not in several.refused:
                    self._history.append(operation)
        self._all.clear()
        self._asked.clear()


def _peer(host: Host[Peer]) -> Peer:
    assert host.core is not None
    return host.core
