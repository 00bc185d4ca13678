"""What `put` does to each type: a value in, a clear, and for those that have elements, one element out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from crdt.errors import UnsupportedValue
from crdt.ops import Path

if TYPE_CHECKING:
    from mesh.node import Node


class Writer(NamedTuple):
    put: Callable[[Node, Path, Any], object]
    clear: Callable[[Node, Path], object]
    discard: Callable[[Node, Path, Any], object] | None = None


def _set_flag(node: Node, path: Path, value: Any, *, disable_wins: bool = False) -> None:
    flag = node.flag(path, disable_wins=disable_wins)
    if not isinstance(value, bool):
        raise UnsupportedValue("a flag is true or false")
    flag.enable() if value else flag.disable()


def _update_map(node: Node, path: Path, value: Any) -> None:
    if not isinstance(value, Mapping) or not value:
        raise UnsupportedValue('a map takes an object of the keys to set, such as {"battery": 80}')
    node.map(path).update(value)


def _cannot_clear(node: Node, path: Path) -> None:
    raise UnsupportedValue("a bounded counter cannot be cleared, rights would vanish: put a negative number")


def _cannot_clear_log(node: Node, path: Path) -> None:
    raise UnsupportedValue("a log only grows")


WRITERS: Final[Mapping[str, Writer]] = {
    "register": Writer(lambda n, p, v: n.register(p).set(v), lambda n, p: n.register(p).clear()),
    "multi_value": Writer(lambda n, p, v: n.multi_value(p).set(v), lambda n, p: n.multi_value(p).clear()),
    "counter": Writer(lambda n, p, v: n.counter(p).add(v), lambda n, p: n.counter(p).clear()),
    "grow_only_counter": Writer(lambda n, p, v: n.grow_only_counter(p).add(v), lambda n, p: n.grow_only_counter(p).clear()),
    "maximum": Writer(lambda n, p, v: n.maximum(p).update(v), lambda n, p: n.maximum(p).clear()),
    "minimum": Writer(lambda n, p, v: n.minimum(p).update(v), lambda n, p: n.minimum(p).clear()),
    "bounded_counter": Writer(lambda n, p, v: n.bounded_counter(p).add(v), _cannot_clear),
    "set": Writer(lambda n, p, v: n.set(p).add(v), lambda n, p: n.set(p).clear(), lambda n, p, v: n.set(p).discard(v)),
    "remove_wins_set": Writer(
        lambda n, p, v: n.set(p, remove_wins=True).add(v),
        lambda n, p: n.set(p, remove_wins=True).clear(),
        lambda n, p, v: n.set(p, remove_wins=True).discard(v),
    ),
    "flag": Writer(_set_flag, lambda n, p: n.flag(p).clear()),
    "disable_wins_flag": Writer(
        lambda n, p, v: _set_flag(n, p, v, disable_wins=True), lambda n, p: n.flag(p, disable_wins=True).clear()
    ),
    "list": Writer(lambda n, p, v: n.list(p).append(v), lambda n, p: n.list(p).clear(), lambda n, p, v: n.list(p).remove(v)),
    "log": Writer(lambda n, p, v: n.log(p).append(v), _cannot_clear_log),
    "map": Writer(_update_map, lambda n, p: n.map(p).clear(), lambda n, p, v: n.map(p).discard(v)),
}
