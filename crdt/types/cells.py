"""What views do with shown cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from crdt.ids import Dot, dot_index, dot_seq
from crdt.ops import Op, Path, Value


def dot_of(op: Op) -> Dot:
    origin, dot = op.origin, op.dot
    made: Dot = _new(_DOT, (origin, dot_seq(dot), dot_index(dot)))  # as `Dot` does, without its function in Python
    return made


_DOT: Final[Any] = Dot
_new: Final[Any] = tuple.__new__


def newest(shown: Sequence[Op]) -> Op:
    """The one with the highest (time, origin). A tie within one origin cannot be: an origin has one cell at a path."""
    if len(shown) == 1:  # nearly always
        return shown[0]
    return max(shown, key=lambda op: (op.time, op.origin, op.dot))


def newest_value(shown: Sequence[Op]) -> Any:
    """The winner's value; None where nothing is shown."""
    return plain(newest(shown).payload) if shown else None


def only_newest(shown: Sequence[Op]) -> list[str]:
    """Verdicts of a last-writer-wins register."""
    if not shown:
        return []
    winner = newest(shown)
    return ["shown" if op is winner else _why_lost(op, winner) for op in shown]


def _why_lost(op: Op, winner: Op) -> str:
    if op.time == winner.time:
        return f"loses: the same time, a higher origin in {dot_of(winner)}"
    return f"loses: later time in {dot_of(winner)}"


def by_path(shown: Iterable[Op]) -> dict[Path, list[Op]]:
    groups: dict[Path, list[Op]] = {}
    for op in shown:
        groups.setdefault(op.path, []).append(op)
    return groups


_IMMUTABLE: Final = frozenset({type(None), bool, int, float, str, bytes})


def plain(value: Value) -> Any:
    """A copy in lists and dicts, the same on every replica: maps are sorted by key."""
    if type(value) in _IMMUTABLE:  # nearly all, and the general questions take several times as long
        return value
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {
            key: plain(item) for key, item in sorted(value.items(), key=lambda entry: (isinstance(entry[0], bytes), entry[0]))
        }
    return value


def is_integer(value: object) -> bool:
    """An int that is not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)
