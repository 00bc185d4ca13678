"""A *handle* is a path seen through a view: it reads with the type's function and turns a wish ("add 3") into one write. It needs
only a `Store`, so the same classes serve a bare replica and a node of the mesh.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from crdt.errors import PathError, TypeConflict
from crdt.ids import Dot
from crdt.ops import Key, Op, Path, Value
from crdt.types.base import CoverPolicy, Explanation, Store, ViewType, name_of
from crdt.types.lookup import codes_at, keys_of, shown_of
from crdt.types.paths import SEGMENTS_MAX, PathLike, format_path, parse_path

T = TypeVar("T")


class Handle(Generic[T]):
    """A path, read and written as one type. Cheap: it holds no state, make one whenever you need it.

    `while_alive`: what is written through this handle shows only while this replica is a live member (presence).
    """

    TYPE: ClassVar[ViewType[Any]]
    __slots__ = ("_path", "_store", "_while_alive")

    def __init__(self, store: Store, path: PathLike, *, while_alive: bool = False) -> None:
        self._store = store
        self._path = parse_path(path)
        self._while_alive = while_alive
        if self._type.per_element and len(self._path) == SEGMENTS_MAX:
            raise PathError(f"path {format_path(self._path)} has no room for elements: at most {SEGMENTS_MAX - 1} segments here")

    def __repr__(self) -> str:
        return f"<{self._type.name} {format_path(self._path)}>"

    @property
    def path(self) -> Path:
        return self._path

    @property
    def value(self) -> T:
        """A plain copy of what is shown now. Raises TypeConflict where there is only a state of another type."""
        shown = self._shown()
        if not shown:
            self._refuse_conflict()
        value: T = self._type.view(shown)
        return value

    def history(self) -> Explanation:
        """Every live cell of this value, and why it counts or not."""
        return [line for key in self._keys() for line in self._type.explain(self._store.cells(key), self._store.shown(key))]

    @property
    def _type(self) -> ViewType[Any]:
        return self.TYPE

    def _keys(self) -> Iterator[Key]:
        return keys_of(self._store, self._type, self._path)

    def _shown(self) -> Sequence[Op]:
        return shown_of(self._store, self._type, self._path)

    def _refuse_conflict(self) -> None:
        """A path that shows another type and nothing of this one is somebody's mistake. Two types that halves of the mesh made at
        the same time are not stopped: they are two states that never touch."""
        if any(self._store.shown(key) for key in self._keys()):
            return
        for code in codes_at(self._store, self._path):
            name = name_of(code)
            raise TypeConflict(
                f"{format_path(self._path)} is {_a(name)}, not {_a(self._type.name)}: "
                f"use it as {_a(name)}, take another path, or remove what is there first"
            )

    def _draft(
        self,
        payload: Value,
        *,
        path: Path | None = None,
        removed: bool = False,
        covers: CoverPolicy | None = None,
        while_alive: bool | None = None,
    ) -> Dot:
        if not removed:
            self._refuse_conflict()
        return self._store.draft(
            self._type.code,
            self._path if path is None else path,
            payload,
            removed=removed,
            covers=covers or self._type.covers,
            while_alive=not removed and (self._while_alive if while_alive is None else while_alive),
        )

    def _remove(self, path: Path) -> Dot | None:
        """A removal of all that is seen at the path; None when nothing is shown there, so that there is nothing to remove."""
        if not self._store.shown((self._type.code, path)):
            return None
        return self._draft(None, path=path, removed=True, covers="all")


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "aeiou" else f"a {noun}"
