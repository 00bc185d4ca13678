"""Every error of the CRDT core, split by whose fault it is.

CrdtError
  WriteRefused      this write did not happen, here or anywhere; the message says what to do instead
    PathError         not a path
    UnsupportedValue  a value outside the data model
    ValueTooLarge     a value above the limit
    TypeConflict      the path holds a state of another type
    NotEnoughRights   a bounded counter has too few rights here
  Malformed         bytes or cells from outside that do not follow the format; raised only by functions named *_untrusted
"""

from __future__ import annotations


class CrdtError(Exception):
    """Anything this package raises on purpose."""


class WriteRefused(CrdtError):
    """The write did not happen, here or anywhere."""


class PathError(WriteRefused, ValueError):
    """Not a path: 1 to 16 segments of 1 to 256 bytes each."""


class UnsupportedValue(WriteRefused, TypeError):
    """Outside the data model: None, bool, 64-bit int, float, str, bytes, list, map with str or bytes keys."""


class ValueTooLarge(WriteRefused, ValueError):
    """The value is above the limit (1 MiB by default)."""


class TypeConflict(WriteRefused):
    """The path holds a state of another type. The message names both and the way out."""


class NotEnoughRights(WriteRefused):
    """A bounded counter has too few rights here. `here`: how many there are; `others`: (shelf, rights) of those who hold more."""

    def __init__(self, message: str, here: int = 0, others: tuple[tuple[bytes, int], ...] = ()) -> None:
        super().__init__(message)
        self.here = here
        self.others = others


class Malformed(CrdtError):
    """From outside, and not as the format says. State is as it was."""
