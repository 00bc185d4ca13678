"""Who writes what, and how often: random writes of every type from a small space of paths, so that they meet each other."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from mesh.errors import WriteRefused
from mesh.testing import Mesh, VirtualNode, microseconds

Act = Callable[[VirtualNode, str, random.Random], object]


def _set_register(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.register(path).set(rng.randrange(1_000_000))


def _clear_register(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.register(path).clear()


def _set_multi_value(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.multi_value(path).set(rng.randrange(1_000))


def _count(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.counter(path).add(rng.choice((1, 1, 5, -2)))


def _clear_counter(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.counter(path).clear()


def _raise_maximum(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.maximum(path).update(rng.randrange(1_000))


def _add(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.set(path).add(rng.randrange(6))


def _discard(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.set(path).discard(rng.randrange(6))


def _add_remove_wins(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.set(path, remove_wins=True).add(rng.randrange(4))


def _discard_remove_wins(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.set(path, remove_wins=True).discard(rng.randrange(4))


def _switch(node: VirtualNode, path: str, rng: random.Random) -> object:
    flag = node.flag(path)
    return flag.enable() if rng.random() < 0.5 else flag.disable()


def _append(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.list(path).append(rng.randrange(1_000))


def _insert(node: VirtualNode, path: str, rng: random.Random) -> object:
    items = node.list(path)
    return items.insert(rng.randint(0, len(items)), rng.randrange(1_000))


def _cut_item(node: VirtualNode, path: str, rng: random.Random) -> object:
    items = node.list(path)
    if not len(items):
        return None
    del items[rng.randrange(len(items))]
    return None


def _note(node: VirtualNode, path: str, rng: random.Random) -> object:
    return node.log(path).append(rng.randrange(1_000))


def _put(node: VirtualNode, path: str, rng: random.Random) -> object:
    node.map(path)[rng.choice("abcd")] = rng.randrange(1_000)
    return None


ACTS: Final[dict[str, tuple[tuple[int, Act], ...]]] = {
    "register": ((5, _set_register), (1, _clear_register)),
    "multi_value": ((1, _set_multi_value),),
    "counter": ((6, _count), (1, _clear_counter)),
    "maximum": ((1, _raise_maximum),),
    "set": ((2, _add), (1, _discard)),
    "remove_wins_set": ((2, _add_remove_wins), (1, _discard_remove_wins)),
    "flag": ((1, _switch),),
    "list": ((3, _append), (2, _insert), (2, _cut_item)),
    "log": ((1, _note),),
    "map": ((1, _put),),
}
"""Acts by type, each with its weight."""


class Workload:
    """`rate`: writes per second in the whole mesh. `paths`: how many of each type; few, so that writers collide."""

    def __init__(self, mesh: Mesh, *, rate: float, seconds: float, types: Sequence[str] = tuple(ACTS), paths: int = 2) -> None:
        self.counts: Counter[str] = Counter()
        """Writes by type, and `refused`."""
        self._mesh = mesh
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
        weights, acts = zip(*ACTS[name], strict=True)
        act = rng.choices(acts, weights)[0]
        path, own = f"{name}/{rng.randrange(self._paths)}", random.Random(rng.getrandbits(64))
        host = mesh.hosts[number]
        if host.core is not None and not host.paused and not host.core.left:
            try:
                act(mesh.node(number), path, own)
                self.counts[name] += 1
            except WriteRefused as error:
                self.counts["refused"] += 1
                self.counts[type(error).__name__] += 1
        self._next()
