"""What a map in the state is read as."""

from __future__ import annotations

from typing import NoReturn

from crdt.ops import Value


class FrozenMap(dict["str | bytes", Value]):
    """A map inside a value: reads and compares like a dict, hashes, and cannot be changed."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]  # dict says None: it is mutable, this is not
        return hash(frozenset(self.items()))

    def _refuse(self, *_args: object, **_options: object) -> NoReturn:
        raise TypeError("a value read from the state cannot be changed: make a dict of it and write that")

    __setitem__ = __delitem__ = update = setdefault = pop = popitem = clear = __ior__ = _refuse

    def __copy__(self) -> FrozenMap:
        return self

    def __deepcopy__(self, _memo: object) -> FrozenMap:
        return self

    def __reduce__(self) -> tuple[type[FrozenMap], tuple[dict[str | bytes, Value]]]:
        return FrozenMap, (dict(self),)
