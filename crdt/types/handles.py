"""The entry points: one method per type, the same on a bare replica and on a node of the mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from crdt.ops import Op
from crdt.types.base import Store, ViewType
from crdt.types.bounded_counter import BoundedCounter
from crdt.types.counter import Counter, GrowOnlyCounter
from crdt.types.custom import Custom
from crdt.types.extreme import Maximum, Minimum
from crdt.types.flag import DisableWinsFlag, Flag
from crdt.types.list import List
from crdt.types.log import Log
from crdt.types.map import Map
from crdt.types.multi_value import MultiValue
from crdt.types.paths import PathLike
from crdt.types.register import Register
from crdt.types.sets import AddWinsSet, RemoveWinsSet

T = TypeVar("T")


class Handles:
    """Mix into a `Store`. Paths are text split at `/`, or tuples of segments.

    `while_alive`: what is written through the handle shows only while its author is a live member (presence).
    Reading and writing raise PathError for what is no path, and TypeConflict where the path shows only a state of another type.
    """

    __slots__ = ()

    def register(self: Store, path: PathLike, *, while_alive: bool = False) -> Register:
        return Register(self, path, while_alive=while_alive)

    def multi_value(self: Store, path: PathLike, *, while_alive: bool = False) -> MultiValue:
        return MultiValue(self, path, while_alive=while_alive)

    def counter(self: Store, path: PathLike, *, while_alive: bool = False) -> Counter:
        return Counter(self, path, while_alive=while_alive)

    def grow_only_counter(self: Store, path: PathLike, *, while_alive: bool = False) -> GrowOnlyCounter:
        return GrowOnlyCounter(self, path, while_alive=while_alive)

    def bounded_counter(self: Store, path: PathLike) -> BoundedCounter:
        return BoundedCounter(self, path)

    def maximum(self: Store, path: PathLike, *, while_alive: bool = False) -> Maximum:
        return Maximum(self, path, while_alive=while_alive)

    def minimum(self: Store, path: PathLike, *, while_alive: bool = False) -> Minimum:
        return Minimum(self, path, while_alive=while_alive)

    def set(self: Store, path: PathLike, *, remove_wins: bool = False, while_alive: bool = False) -> AddWinsSet:
        return (RemoveWinsSet if remove_wins else AddWinsSet)(self, path, while_alive=while_alive)

    def flag(self: Store, path: PathLike, *, disable_wins: bool = False, while_alive: bool = False) -> Flag:
        return (DisableWinsFlag if disable_wins else Flag)(self, path, while_alive=while_alive)

    def map(self: Store, path: PathLike, *, while_alive: bool = False) -> Map:
        return Map(self, path, while_alive=while_alive)

    def list(self: Store, path: PathLike, *, while_alive: bool = False) -> List:
        return List(self, path, while_alive=while_alive)

    def log(self: Store, path: PathLike, *, while_alive: bool = False) -> Log:
        return Log(self, path, while_alive=while_alive)

    def custom(
        self: Store, path: PathLike, view: Callable[[Sequence[Op]], T] | ViewType[T], *, while_alive: bool = False
    ) -> Custom[T]:
        return Custom(self, path, view, while_alive=while_alive)
