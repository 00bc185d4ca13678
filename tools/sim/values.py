"""Every value of every type is what its specification says of the calls that were made on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from crdt.history import History
from crdt.history import Write as Name
from crdt.ids import replica_of
from crdt.ops import Key
from crdt.specifications import by_clock
from mesh.events import Event
from mesh.peer import Peer
from mesh.testing import Host
from tools.sim.ground import Ground, Moment, Touch, seldom
from tools.sim.workload import ACTS

VALUES_EVERY: Final = 24
"""Of the values that changed at some replica of a mesh of usual size, how many are read there at once: a specification takes a
millisecond or so."""


class Values:
    name = "values"
    looks_at: Moment = "changes"

    def __init__(self, ground: Ground, touch: Touch) -> None:
        self._ground = ground
        self._touch = touch
        self._changes = 0
        self._every = seldom(VALUES_EVERY, len(ground.mesh.hosts))

    def turned(self, host: Host[Peer], events: Sequence[Event], changes: Sequence[Key]) -> None:
        for key in changes:
            self._changes += 1
            if self._changes % self._every:
                continue
            place = "/".join(map(str, key[1][:2]))
            if self._is_known(place):
                self._check(host, place)

    def settled(self) -> None:
        """All show the same (checked elsewhere), so one replica stands for all."""
        mesh = self._ground.mesh
        for place in self._ground.calls.by_place if mesh.running else ():
            if self._is_known(place):
                self._check(mesh.hosts[mesh.running[0]], place, settled=True)

    def _is_known(self, place: str) -> bool:
        return place in self._ground.calls.by_place and place not in self._ground.calls.blurred

    def _check(self, host: Host[Peer], place: str, *, settled: bool = False) -> None:
        ground, kind = self._ground, ACTS[place.partition("/")[0]]
        assert host.core is not None
        visible: list[Name] = []
        for key in ground.calls.keys[place]:
            mask = ground.oracle.observe(host.number, key, host.core.replica)
            history, names = ground.oracle.keys[key], ground.calls.names[key]
            if not history.is_whole(mask):
                return  # it lacks something that they build upon
            visible += [names[write.bit] for write in history.each(mask)]
            if history.mask(host.core.replica.shown(key)) & ~ground.oracle.expected(key, mask):
                return  # it flickers, as it may for a moment; see the checker of views
        operations = ground.calls.history(place, frozenset(visible))
        if operations is None:
            return
        ground.counts[self.name] += 1
        ground.counts[f"{self.name}: {place.partition('/')[0]}"] += 1
        shown = kind.handle(ground.mesh.node(host.number), place).value
        said = _present(operations, host.core) if kind.presence else kind.means(operations)
        if not kind.equal(shown, said) and (settled or not self._touch.is_behind(host)):
            ground.fail(self.name, host, f"{place} is {shown!r}, by its specification {said!r}")


def _present(history: History, core: Peer) -> object:
    """A register that shows a write only while its author lives; also the write of a dead author replaces what it has seen."""
    kept = by_clock(history.unseen("set"))
    lives = (one for one in kept if one.shelf in (core.replica.shelf, core.swim.current_shelf(replica_of(one.shelf))))
    return next((one.arguments[0] for one in lives), None)
