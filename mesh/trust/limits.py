"""What a charter sets for all members alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from crdt.limits import SHELF_BYTES_MAX, SHELF_OPS_MAX
from mesh.errors import ConfigError

SERIAL_MAX: Final = (1 << 63) - 1
"""Of any number in a statement."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a charter sets for all members alike."""

    value_bytes_max: int = 1 << 20
    """Encoded size of one value. 1 MiB: DESIGN section 2."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Limits of later versions, kept so that the charter stays what was signed."""
    shelf_bytes_max: int = SHELF_BYTES_MAX
    shelf_ops_max: int = SHELF_OPS_MAX
    """Of what one author holds, in bytes and in live ops (about its keys). A shelf beyond it stands still everywhere."""

    def __post_init__(self) -> None:
        for name, value in self.to_map().items():
            if type(value) is not int or not 1 <= value <= SERIAL_MAX:
                raise ConfigError(f"limit {name} is {value!r}: it must be a positive integer")

    def to_map(self) -> dict[str, int]:
        own = {"value_bytes_max": self.value_bytes_max}
        if self.shelf_bytes_max != SHELF_BYTES_MAX:
            own["shelf_bytes_max"] = self.shelf_bytes_max
        if self.shelf_ops_max != SHELF_OPS_MAX:
            own["shelf_ops_max"] = self.shelf_ops_max
        return {**self.others, **own}
