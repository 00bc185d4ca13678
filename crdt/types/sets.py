"""Sets: one path per element, so that elements never touch each other.

Add-wins: `discard` removes the additions that it has seen, and no other. Remove-wins: `discard` is a value that stays until
an `add` has seen it, so a removed element keeps one cell. Elements are told apart as Python does it: 1, 1.0 and True are
one element.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Final, TypeVar

from crdt.errors import Malformed, UnsupportedValue
from crdt.ids import Dot
from crdt.ops import Op, Path, Value
from crdt.types.base import ViewType, declare
from crdt.types.cells import by_path
from crdt.types.handle import Handle
from crdt.types.paths import Element, element_of_untrusted, element_segment, is_hashed, normal_element

T = TypeVar("T")


def add_wins_view(shown: Sequence[Op]) -> set[Element]:
    """Every element of which an addition is shown."""
    return {element for op in shown if not isinstance(element := added_element(op), _Nothing)}


def remove_wins_view(shown: Sequence[Op]) -> set[Element]:
    """Every element of which an addition is shown and no removal. What is neither counts for nothing."""
    elements = set()
    for ops in by_path(shown).values():
        found = [_said(op) for op in ops]
        additions = [element for present, element in found if present]
        if additions and not any(present is False for present, _ in found):
            elements.add(additions[0])
    return elements


class _Nothing:
    """What no element can be; None can."""


_NONE: Final = _Nothing()


def added_element(op: Op) -> Element | _Nothing:
    """The element that a cell of an add-wins set adds."""
    try:
        return element_of_untrusted(op.path[-1], op.payload)
    except Malformed:
        return _NONE


def _said(op: Op) -> tuple[bool | None, Element]:
    """(present or not, element) of a cell of a remove-wins set; (None, None) for what is neither."""
    payload = op.payload
    if isinstance(payload, tuple | list) and len(payload) == 2:
        present, element = payload
    else:
        present, element = payload, None
    try:
        return (present if isinstance(present, bool) else None), element_of_untrusted(op.path[-1], element)
    except Malformed:
        return None, None


def add_wins_verdicts(shown: Sequence[Op]) -> list[str]:
    return ["ignored: not an element" if added_element(op) is _NONE else "shown" for op in shown]


def remove_wins_verdicts(shown: Sequence[Op]) -> list[str]:
    removed = {op.path for op in shown if _said(op)[0] is False}
    reasons = {None: "ignored: not an element", False: "shown: a removal stays until an addition has seen it"}
    return [reasons.get(_said(op)[0], "loses: a concurrent removal wins" if op.path in removed else "shown") for op in shown]


ADD_WINS_SET: Final = declare(
    ViewType(code=9, name="add-wins set", covers="all", view=add_wins_view, verdicts=add_wins_verdicts, per_element=True)
)
REMOVE_WINS_SET: Final = declare(
    ViewType(
        code=10, name="remove-wins set", covers="all", view=remove_wins_view, verdicts=remove_wins_verdicts, per_element=True
    )
)


class AddWinsSet(Handle["set[Element]"], Set[Element]):
    """A set of text, bytes, numbers and tuples of them. Reads like a Python set; `add` and `discard` write."""

    TYPE = ADD_WINS_SET
    __slots__ = ()

    def add(self, element: Element, *, while_alive: bool | None = None) -> Dot:
        """Raises UnsupportedValue for what cannot be an element."""
        return self._say(True, element, while_alive)

    def update(self, elements: Iterable[Element], *, while_alive: bool | None = None) -> list[Dot]:
        return [self.add(element, while_alive=while_alive) for element in elements]

    def discard(self, element: Element) -> Dot | None:
        """None when it is not there."""
        return self._remove(self._path_of(element))

    def remove(self, element: Element) -> Dot:
        """Raises KeyError when it is not there."""
        if element not in self:
            raise KeyError(element)
        dot = self.discard(element)
        assert dot is not None
        return dot

    def clear(self) -> list[Dot]:
        """Remove every element seen here."""
        paths = [key[1] for key in self._keys()]
        return [dot for path in paths if (dot := self._remove(path)) is not None]

    def __contains__(self, element: object) -> bool:
        try:
            path = (*self._path, element_segment(element))
        except UnsupportedValue:
            return False
        return bool(self._type.view(self._store.shown((self._type.code, path))))

    def __iter__(self) -> Iterator[Element]:
        return iter(self.value)

    def __len__(self) -> int:
        return len(self.value)

    @classmethod
    def _from_iterable(cls, elements: Iterable[T]) -> set[T]:
        """What `a | b` and the like make: a plain set."""
        return set(elements)

    def _path_of(self, element: object) -> Path:
        return (*self._path, element_segment(element))

    def _say(self, present: bool, element: object, while_alive: bool | None) -> Dot:
        path = self._path_of(element)
        named = normal_element(element) if is_hashed(path[-1]) else None
        return self._draft(self._payload(present, named), path=path, while_alive=while_alive)

    def _payload(self, present: bool, named: Element) -> Value:
        """`named`: the element where its path holds only a hash, else None."""
        return named


class RemoveWinsSet(AddWinsSet):
    """A set whose removals beat additions that have not seen them: for revocations."""

    TYPE = REMOVE_WINS_SET
    __slots__ = ()

    def discard(self, element: Element, *, while_alive: bool | None = None) -> Dot:
        """Always writes: it must also beat an addition that is on its way."""
        return self._say(False, element, while_alive)

    def clear(self) -> list[Dot]:
        """Discard every element seen here."""
        return [self.discard(element) for element in sorted(self.value, key=element_segment)]

    def _payload(self, present: bool, named: Element) -> Value:
        return present if named is None else (present, named)
