"""What a core holds in memory, container by container, without knowing its parts by name.

A queue that nobody empties shows in no state and no datagram. So every container that can be reached from a core is measured, and
named by the module, class and attribute that hold it: `mesh.sync.pull.Puller._pulls`.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Set
from enum import Enum
from itertools import chain
from operator import attrgetter
from typing import Any, Final

from crdt.base import Held
from crdt.body import Body
from crdt.chunks import Content
from crdt.delta import Head, Header
from crdt.ops import Op

DEPTH_MAX: Final = 12
PACKAGES: Final = ("mesh.", "crdt.", "consensus_escalation.")
"""Whose objects are looked into; what hangs on the simulator's side of a callback is not the core's."""
NOT_OF_THE_CORE: Final = ("mesh.testing.", "mesh.presets")
VALUES: Final = (Op, Body, Held, Content, Head, Header)
"""Of bounded size from the start: not looked into. They are most of what a core holds."""


def containers(core: object) -> dict[str, int]:
    """By `module.Class.attribute`: entries of the largest container there, those of containers inside it included."""
    found: Counter[tuple[type, str]] = Counter()
    seen: set[int] = set()
    todo: list[object] = [core]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        kind = type(one)
        for name, value in _attributes(one):
            shape = _SHAPES[type(value)]
            if shape == _OBJECT:
                todo.append(value)
            elif shape:
                entries = _measured(value, DEPTH_MAX, todo)
                if entries > found[kind, name]:
                    found[kind, name] = entries
    return {f"{kind.__module__}.{kind.__name__}.{name}": count for (kind, name), count in found.items() if count}


def _attributes(one: object) -> Iterable[tuple[str, Any]]:
    """Those of an object that may be containers or lead to some, perhaps with others."""
    names, together = _slots_of(type(one))
    found: Iterable[tuple[str, Any]]
    try:
        values = together(one)
        found = zip(names, values, strict=False) if any(map(_SHAPES.__getitem__, map(type, values))) else ()
    except AttributeError:  # a slot that nobody has filled
        found = [(name, getattr(one, name)) for name in names if hasattr(one, name)]
    fields = getattr(one, "__dict__", None)
    return chain(found, list(fields.items())) if fields else found


_LEAF, _OBJECT, _MAPPING, _SEQUENCE, _VALUE = range(5)


class _Shapes(dict[type, int]):
    """How instances of a type are looked at: asked a million times a run, of a few dozen types."""

    def __missing__(self, kind: type) -> int:
        self[kind] = found = self._of(kind)
        return found

    @staticmethod
    def _of(kind: type) -> int:
        if issubclass(kind, (str, bytes, int, float, type(None), type, random.Random, Enum, *VALUES)):
            return _LEAF
        if issubclass(kind, Mapping):
            return _MAPPING
        if issubclass(kind, list | deque | Set):
            return _SEQUENCE
        if issubclass(kind, tuple):  # a tuple is a value, it does not grow
            return _VALUE
        module = kind.__module__ + "."
        return _OBJECT if module.startswith(PACKAGES) and not module.startswith(NOT_OF_THE_CORE) else _LEAF


_SHAPES: Final = _Shapes()
_PLAIN_NAMES: Final = {int, str, bytes, tuple}
"""Of entries in a mapping. Such a name does not grow, and holds nothing that does: it has a hash."""
_SLOTS: Final[dict[type, tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]]] = {}


def _slots_of(kind: type) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]:
    """Of all its ancestors; and what reads them all at once."""
    found = _SLOTS.get(kind)
    if found is None:
        kept = [vars(owner).get(kept, ()) for owner in kind.__mro__ for kept in ("__slots__", "__mypyc_attrs__")]
        names = tuple(name for names in kept if not isinstance(names, str) for name in names if name != "__dict__")
        found = _SLOTS[kind] = (names, attrgetter(*names, "__class__") if names else _nothing)  # of one name it would be no tuple
    return found


def _nothing(one: object) -> tuple[Any, ...]:
    return ()


def _measured(value: Any, depth: int, inside: list[object]) -> int:
    """Entries of a container with those inside it. The core's objects that hang there are added to `inside`."""
    shape = _SHAPES[type(value)]
    if not depth:
        return 0
    entries = len(value) if shape != _VALUE else 0
    if shape == _MAPPING:
        plain = set(map(type, value)) <= _PLAIN_NAMES
        groups = (value.values(),) if plain else (value.keys(), value.values())
    else:
        groups = (value,)
    for group in groups:
        if any(map(_SHAPES.__getitem__, set(map(type, group)))):  # most containers hold plain values only
            for part in group:
                shape = _SHAPES[type(part)]
                if shape == _OBJECT:
                    inside.append(part)
                elif shape:
                    entries += _measured(part, depth - 1, inside)
    return entries
