"""Who writes what, and how often: random calls of every type on a small space of paths, so that they meet each other.

Each kind of value has the handle that a program would use, the calls that are made on it, and the specification of what it then
shows (crdt.specifications), which the simulator holds against every replica.
"""

from __future__ import annotations

import operator
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from crdt import specifications as means
from crdt.history import History
from crdt.types import custom_type
from mesh.errors import WriteRefused
from mesh.testing import Mesh, VirtualNode, microseconds
from tools.sim.calls import Calls

Draw = Callable[[random.Random, Mesh], tuple[Any, ...]]
"""A call: the name of a method, then its arguments."""
ELEMENTS: Final = 6
KEYS: Final = "abcd"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value that programs write."""

    handle: Callable[[VirtualNode, str], Any]
    calls: tuple[tuple[int, Draw], ...]
    """Each with its weight."""
    means: Callable[[History], Any]
    equal: Callable[[Any, Any], bool] = operator.eq
    """(shown, specified), where the specification leaves something open."""
    presence: bool = False
    """Shown only while its author lives."""


def call(method: str, *arguments: Callable[[random.Random], Any]) -> Draw:
    return lambda rng, mesh: (method, *(argument(rng) for argument in arguments))


def below(end: int) -> Callable[[random.Random], int]:
    return lambda rng: rng.randrange(end)


def transfer(rng: random.Random, mesh: Mesh) -> tuple[Any, ...]:
    return ("transfer", mesh.memberships[rng.randrange(len(mesh.hosts))].replica_id, 1)


def touching(key: str, history: History) -> History:
    return history.where(lambda one: one.method == "clear" or one.arguments[0] == key)


def record(history: History) -> dict[str, Any]:
    """A map of registers: each key as it would be alone, but that a removal of the map takes all keys that it has seen."""
    shown = {}
    for key in KEYS:
        kept = means.by_clock(touching(key, history).unseen("set_key", by=("set_key", "discard", "clear")))
        if kept:
            shown[key] = kept[0].arguments[1]
    return shown


CUSTOM: Final = custom_type(means.longest_shown)
WORDS: Final = ("dock", "lift", "gate 4", "ramp", "hall")
ITEMS: Final = ((5, call("put", below(99))), (2, call("change", below(99))), (2, call("take", below(99))))

ACTS: Final[dict[str, Kind]] = {
    "register": Kind(lambda n, p: n.register(p), ((5, call("set", below(10**6))), (1, call("clear"))), means.register),
    "multi_value": Kind(lambda n, p: n.multi_value(p), ((5, call("set", below(999))), (1, call("clear"))), means.multi_value),
    "counter": Kind(
        lambda n, p: n.counter(p),
        ((6, call("add", lambda rng: rng.choice((1, 1, 5, -2)))), (1, call("clear"))),
        means.counter,
    ),
    "grow_only_counter": Kind(lambda n, p: n.grow_only_counter(p), ((1, call("add", below(4))),), means.counter),
    "bounded_counter": Kind(
        lambda n, p: n.bounded_counter(p),
        ((3, call("add", below(4))), (3, call("subtract", below(3))), (1, transfer)),
        means.bounded,
    ),
    "maximum": Kind(lambda n, p: n.maximum(p), ((1, call("update", below(999))),), means.maximum),
    "minimum": Kind(lambda n, p: n.minimum(p), ((5, call("update", below(999))), (1, call("clear"))), means.minimum),
    "set": Kind(
        lambda n, p: n.set(p),
        ((4, call("add", below(ELEMENTS))), (3, call("discard", below(ELEMENTS))), (1, call("clear"))),
        means.add_wins,
    ),
    "remove_wins_set": Kind(
        lambda n, p: n.set(p, remove_wins=True),
        ((2, call("add", below(ELEMENTS))), (1, call("discard", below(ELEMENTS)))),
        means.remove_wins,
    ),
    "flag": Kind(lambda n, p: n.flag(p), ((1, call("enable")), (1, call("disable"))), means.enable_wins),
    "disable_wins_flag": Kind(
        lambda n, p: n.flag(p, disable_wins=True), ((2, call("enable")), (1, call("disable"))), means.disable_wins
    ),
    "list": Kind(means.Items, ITEMS, means.list_of_items, means.fits),
    "log": Kind(means.Entries, ((1, call("note")),), means.log_of_entries, means.fits),
    "map": Kind(
        lambda n, p: n.map(p),
        (
            (4, call("set_key", lambda rng: rng.choice(KEYS), below(999))),
            (1, call("discard", lambda rng: rng.choice(KEYS))),
        ),
        record,
    ),
    "custom": Kind(
        lambda n, p: n.custom(p, CUSTOM),
        ((4, call("set", lambda rng: rng.choice(WORDS))), (1, call("clear"))),
        means.longest,
    ),
    "presence": Kind(
        lambda n, p: n.register(p, while_alive=True),
        ((4, call("set", below(999))), (1, call("clear"))),
        means.register,
        presence=True,
    ),
}
"""By the name that options and reports use."""


class Workload:
    """`rate`: writes per second in the whole mesh. `paths`: how many of each type; few, so that writers collide."""

    def __init__(
        self, mesh: Mesh, calls: Calls, *, rate: float, seconds: float, types: Sequence[str] = tuple(ACTS), paths: int = 2
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Writes by type, and `refused`."""
        self._mesh = mesh
        self._calls = calls
        self._rng = mesh.world.rng("workload")
        self._rate = rate
        self._end = mesh.world.time + microseconds(seconds)
        self._types = types
        self._paths = paths
        if rate > 0:
            self._next()

    def _next(self) -> None:
        pause = self._rng.uniform(0.0, 2.0 / self._rate)
        at = self._mesh.world.time + max(1, microseconds(pause))
        if at < self._end:
            self._mesh.world.at(at, self._write)

    def _write(self) -> None:
        mesh, rng = self._mesh, self._rng
        number, name = rng.randrange(len(mesh.hosts)), rng.choice(self._types)
        kind, path = ACTS[name], f"{name}/{rng.randrange(self._paths)}"
        weights, draws = zip(*kind.calls, strict=True)
        method, *arguments = rng.choices(draws, weights)[0](random.Random(rng.getrandbits(64)), mesh)
        host = mesh.hosts[number]
        if host.core is not None and not host.paused and not host.core.left:
            try:
                self._calls.make(number, path, kind.handle(mesh.node(number), path), method, arguments)
                self.counts[name] += 1
            except WriteRefused as error:
                self.counts["refused"] += 1
                self.counts[type(error).__name__] += 1
        self._next()
