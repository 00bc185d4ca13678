"""Which cells make up a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from crdt.ops import Key, Op, Path
from crdt.types.base import REGISTRY, Shows, ViewType

_TYPES: Final = REGISTRY
"""This module's own: found without a look into a dictionary, compiled."""


def value_key(key: Key) -> Key:
    """The key of the value that a cell belongs to: of an element, its set, list or log."""
    code, path = key
    view = _TYPES.get(code)
    return (code, path[:-1]) if view is not None and view.per_element and len(path) > 1 else key


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
