"""mesh.overlay: a table that many hold alike."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mesh.overlay import Overlay


def pristine() -> dict[int, list[int]]:
    return {key: [key] for key in range(4)}


BASE = pristine()
KEYS = st.integers(0, 6)


def test_what_is_asked_for_is_ones_own() -> None:
    one, other = Overlay(BASE, list.copy), Overlay(BASE, list.copy)
    one[1].append(99)
    assert one.get(1) == one.peek(1) == [1, 99]
    assert other.peek(1) is BASE[1]
    assert other.get(1) == [1]
    assert other.get(1) is other.peek(1) is not BASE[1]
    assert pristine() == BASE


def test_looking_copies_nothing() -> None:
    table = Overlay(BASE, list.copy)
    assert dict(table.items()) == BASE
    assert all(table.peek(key) is BASE[key] for key in table)
    assert table._own == {}


class AsADict(RuleBasedStateMachine):
    """Against a dict that holds all of it itself."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Overlay[int, list[int]] = Overlay(BASE, list.copy)
        self.model = {key: list(value) for key, value in BASE.items()}

    @rule(key=KEYS, value=KEYS)
    def put(self, key: int, value: int) -> None:
        self.table[key] = [value]
        self.model[key] = [value]

    @rule(key=KEYS, value=KEYS)
    def change(self, key: int, value: int) -> None:
        for each in (self.table.get(key), self.model.get(key)):
            if each is not None:
                each.append(value)

    @rule(key=KEYS)
    def take(self, key: int) -> None:
        assert self.table.pop(key) == self.model.pop(key, None)

    @rule()
    def go_on_with_a_copy(self) -> None:
        """What becomes of the first one is nothing to the copy."""
        before, self.table = self.table, self.table.copy()
        for key in range(7):
            before[key] = [-1]

    @invariant()
    def same(self) -> None:
        assert len(self.table) == len(self.model)
        assert sorted(self.table) == sorted(self.model)
        assert dict(self.table.items()) == self.model
        assert all((key in self.table) == (key in self.model) for key in range(7))
        assert all(self.table.peek(key) == self.model.get(key) for key in range(7))
        assert pristine() == BASE


TestAsADict = AsADict.TestCase
