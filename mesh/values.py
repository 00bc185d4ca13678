"""Values as watchers, `history` and the `mesh` command see them: by path and by the names of the node's methods.

A type that this program does not know (somebody else's own view) is told, listed and explained all the same: as the payloads
that are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from crdt.ids import Dot, ReplicaId, replica_of
from crdt.ops import KIND_MASK, REMOVED, Key, Op, Path
from crdt.types import REGISTRY, codes_at, explain_path, format_path, name_of, value_key, value_type
from crdt.types.base import Shows
from crdt.types.cells import dot_of, newest, plain
from crdt.types.lookup import shown_of, way_of
from mesh.errors import ConfigError, KeyMissing
from mesh.events import Changed
from mesh.secrecy.sealing import Sealed

_SHORT: Final = {"multi-value register": "multi_value", "add-wins set": "set", "enable-wins flag": "flag"}
"""The plain method names; all others are made of the type's name: remove_wins_set, bounded_counter ..."""

_format: Final = format_path
"""What is this module's own is found without a look into a dictionary, compiled."""
_NAMES: Final[dict[int, str]] = {}
"""By code, as they were asked for."""


def type_name(code: int) -> str:
    """`register`, `multi_value`, `counter`, `set`, `remove_wins_set` ...; `custom` for a type that is not known here."""
    known = _NAMES.get(code)
    if known is None:
        name = name_of(code) if code in REGISTRY else value_type(code).name
        known = _SHORT.get(name, name.replace("-", "_").replace(" ", "_"))
        if code in REGISTRY:
            _NAMES[code] = known
    return known


def type_code(name: str) -> int:
    """Raises ConfigError, which lists the names."""
    codes = {type_name(code): code for code in REGISTRY}
    if name not in codes:
        raise ConfigError(f"there is no type {name!r}; there are {', '.join(codes)}")
    return codes[name]


def types_at(store: Shows, path: Path) -> list[int]:
    """The codes of the types of which something is shown at exactly this path, ascending."""
    return sorted(set(codes_at(store, path)))


def value_keys(store: Shows, prefix: Path) -> Iterator[Key]:
    """The keys of the values at or below a prefix, each once, in the order of their paths."""
    seen: set[Key] = set()
    for cell_key in store.keys(prefix):
        key = value_key(cell_key)
        if key not in seen and len(key[1]) >= len(prefix):
            seen.add(key)
            yield key


def changed(path: str, type: str, value: Any, dot: Dot | None) -> Changed:
    """As `Changed` makes it: a frozen dataclass asks for each field what it is to set where, in Python, which takes as long as to
    find the value."""
    made: Changed = _new(_CHANGED)
    _set_path(made, path)
    _set_type(made, type)
    _set_value(made, value)
    _set_dot(made, dot)
    return made


_CHANGED: Final[Any] = Changed
_new: Final[Any] = object.__new__


def _setter_of(field: str) -> Any:
    return getattr(Changed, field).__set__


_set_path: Final = _setter_of("path")
_set_type: Final = _setter_of("type")
_set_value: Final = _setter_of("value")
_set_dot: Final = _setter_of("dot")


@final
class Reading:
    """A value, and a mark that is another whenever what is shown is another; None where nothing is."""

    __slots__ = ("change", "mark")

    def __init__(self, change: Changed, mark: int | None) -> None:
        self.change = change
        self.mark = mark


def read_value(store: Shows, key: Key) -> Reading:
    """The value at a key as it is now. Its mark is of the cells that are shown: a view is a function of nothing else."""
    way = way_of(key[0])
    try:
        if way is None or way.per_element:
            type = value_type(key[0])
            shown, view = shown_of(store, type, key[1]), type.view
        else:
            shown, view = store.shown(key), way.view
        dot = dot_of(newest(shown)) if shown else None
        change = changed(_format(key[1]), type_name(key[0]), view(shown), dot)
        return Reading(change, hash(tuple([(op.origin, op.dot) for op in shown])) if shown else None)
    except KeyMissing as missing:  # told as what it is, so that one of them stops no watcher and no listing
        change = changed(format_path(key[1]), type_name(key[0]), Sealed(missing.epoch), missing.dot)
        return Reading(change, hash((missing.epoch, missing.dot)))


@dataclass(frozen=True, slots=True)
class Entry:
    """One live write, as `history` tells it."""

    path: str
    """Of the value; an element's own path below it, where it has one."""
    type: str
    dot: Dot
    author: str
    """Name of the agent that wrote it first, "?" when its credential is not known here."""
    time: int
    """Wall clock of its author, in microseconds since 1970."""
    kind: str
    """"value" or "removal"."""
    value: Any
    shown: bool
    why: str


def history_of(store: Shows, path: Path, name: Callable[[ReplicaId], str]) -> list[Entry]:
    """Every live cell at exactly this path, whatever its type, the newest first."""
    return sorted((_entry(store, op, why, name) for op, why in explain_path(store, path)), key=lambda entry: -entry.time)


def _entry(store: Shows, op: Op, why: str, name: Callable[[ReplicaId], str]) -> Entry:
    dot = dot_of(op)
    return Entry(
        path=format_path(op.path),
        type=type_name(op.type),
        dot=dot,
        author=name(replica_of(op.origin)),
        time=op.time,
        kind="removal" if op.kind & KIND_MASK == REMOVED else "value",
        value=_value_of(store, op),
        shown=why.startswith("shown"),
        why=why,
    )


def _value_of(store: Shows, op: Op) -> Any:
    """The payload; of a shown cell the whole one, where it is in chunks."""
    shown: Sequence[Op] = store.shown(op.key)
    return plain(next((each.payload for each in shown if each.dot == op.dot and each.origin == op.origin), op.payload))
