"""CRDT types as views: pure functions from the cells of a path to a value. One type per file; `base` says what they share.

`REGISTRY` has every type by its code (stable, on the wire); `type_named` finds one by name.
"""

from __future__ import annotations

from typing import Any

from crdt.ops import Key, Op, Path
from crdt.types.base import REGISTRY, CoverPolicy, Explanation, Shows, Store, ViewType, name_of
from crdt.types.bounded_counter import BOUNDED_COUNTER, BoundedCounter
from crdt.types.counter import COUNTER, GROW_ONLY_COUNTER, Counter, GrowOnlyCounter
from crdt.types.custom import CUSTOM, Custom, custom_type
from crdt.types.extreme import MAXIMUM, MINIMUM, Maximum, Minimum
from crdt.types.flag import DISABLE_WINS_FLAG, ENABLE_WINS_FLAG, DisableWinsFlag, Flag
from crdt.types.handle import Handle
from crdt.types.handles import Handles
from crdt.types.list import LIST, List
from crdt.types.log import LOG, Log
from crdt.types.lookup import codes_at, keys_of, shown_of, value_key
from crdt.types.map import Map, tree, value_type
from crdt.types.multi_value import MULTI_VALUE, MultiValue
from crdt.types.paths import Element, PathLike, format_path, parse_path
from crdt.types.register import REGISTER, Register
from crdt.types.sets import ADD_WINS_SET, REMOVE_WINS_SET, AddWinsSet, RemoveWinsSet


def type_named(name: str) -> ViewType[Any]:
    """By name, spaces or hyphens alike. Raises KeyError, which lists the names."""
    wanted = name.replace(" ", "-")
    names = {REGISTRY[code].name.replace(" ", "-"): REGISTRY[code] for code in sorted(REGISTRY)}
    if wanted not in names:
        raise KeyError(f"no type {name!r}: there are {', '.join(names)}")
    return names[wanted]


def shown_at(store: Shows, key: Key) -> list[Op]:
    """The shown cells that make up the value at `key` (as `value_key` gives it)."""
    return [*shown_of(store, value_type(key[0]), key[1])]  # here `list` is the submodule


def read(store: Shows, key: Key) -> Any:
    """The value at `key` (as `value_key` gives it), by its type's view."""
    return value_type(key[0]).view(shown_at(store, key))


def explain(store: Shows, key: Key) -> Explanation:
    """Every live cell of the value at `key` (as `value_key` gives it), and why it counts or not."""
    view = value_type(key[0])
    return [line for cell in keys_of(store, view, key[1]) for line in view.explain(store.cells(cell), store.shown(cell))]


def explain_path(store: Shows, path: Path) -> Explanation:
    """Every live cell of every value at exactly `path`, whatever its types."""
    codes = {key[0] for key in store.keys_at(path)} | {code for code, view in REGISTRY.items() if view.per_element}
    return [line for code in sorted(codes) for line in explain(store, (code, path))]


__all__ = [
    "ADD_WINS_SET",
    "BOUNDED_COUNTER",
    "COUNTER",
    "CUSTOM",
    "DISABLE_WINS_FLAG",
    "ENABLE_WINS_FLAG",
    "GROW_ONLY_COUNTER",
    "LIST",
    "LOG",
    "MAXIMUM",
    "MINIMUM",
    "MULTI_VALUE",
    "REGISTER",
    "REGISTRY",
    "REMOVE_WINS_SET",
    "AddWinsSet",
    "BoundedCounter",
    "Counter",
    "CoverPolicy",
    "Custom",
    "DisableWinsFlag",
    "Element",
    "Explanation",
    "Flag",
    "GrowOnlyCounter",
    "Handle",
    "Handles",
    "List",
    "Log",
    "Map",
    "Maximum",
    "Minimum",
    "MultiValue",
    "PathLike",
    "Register",
    "RemoveWinsSet",
    "Store",
    "ViewType",
    "codes_at",
    "custom_type",
    "explain",
    "explain_path",
    "format_path",
    "name_of",
    "parse_path",
    "read",
    "shown_at",
    "tree",
    "type_named",
    "value_key",
    "value_type",
]
