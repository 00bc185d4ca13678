"""Which cells make up a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, final

from crdt.ops import Key, Op, Path
from crdt.types.base import REGISTRY, Shows, ViewType

_TYPES: Final = REGISTRY
"""This module's own: found without a look into a dictionary, compiled."""


@final
class Way:
    """How the values of a type are found: what is asked for each change. A `ViewType` is no compiled class; to ask it costs more,
    where caches are cold, than the answer."""

    __slots__ = ("per_element", "view")

    def __init__(self, type: ViewType[Any]) -> None:
        self.per_element = type.per_element
        self.view: Callable[[Sequence[Op]], Any] = type.view


_WAYS: Final[dict[int, Way]] = {}
"""By code, as they were asked for."""


def way_of(code: int) -> Way | None:
    """None for a type that is not declared here."""
    known = _WAYS.get(code)
    if known is None and code in _TYPES:
        known = _WAYS[code] = Way(_TYPES[code])
    return known


def value_key(key: Key) -> Key:
    """The key of the value that a cell belongs to: of an element, its set, list or log."""
    code, path = key
    way = way_of(code)
    return (code, path[:-1]) if way is not None and way.per_element and len(path) > 1 else key


def keys_of(store: Shows, type: ViewType[Any], path: Path) -> Iterator[Key]:
    """The keys that make up one value, sorted."""
    return store.leaves(path, type.code) if type.per_element else iter([(type.code, path)])


def shown_of(store: Shows, type: ViewType[Any], path: Path) -> Sequence[Op]:
    if not type.per_element:
        return store.shown((type.code, path))
    return [op for key in keys_of(store, type, path) for op in store.shown(key)]


def codes_at(store: Shows, path: Path) -> Iterator[int]:
    """The types of which something is shown at exactly this path, elements counting for the value that they are part of."""
    for key in store.keys_at(path):
        if not (key[0] in REGISTRY and REGISTRY[key[0]].per_element) and store.shown(key):
            yield key[0]
    for code, view in REGISTRY.items():
        if view.per_element and any(store.shown(key) for key in store.leaves(path, code)):
            yield code
