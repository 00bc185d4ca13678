"""Critical values as watchers and the command line see them, beside the ordinary ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consensus_escalation.chain import Chain
from crdt.ids import Dot, ReplicaId, ShelfId
from crdt.ops import Path
from crdt.types import format_path
from crdt.types.cells import plain
from mesh.events import Changed
from mesh.values import Reading
from mesh.wire.cbor import decode_untrusted

CRITICAL: Final = -1
"""In the place of a type's code: no type of the CRDTs has it."""
NAME: Final = "critical"


@dataclass(frozen=True, slots=True)
class Quorum:
    """Who decides, as this agent knows it; perhaps a moment old."""

    leader: ReplicaId | None
    """None: nobody leads, or it is not known who; so too when too few voters are within reach of this agent."""
    term: int
    voters: tuple[ReplicaId, ...]
    """Empty: this mesh has no quorum."""
    commit_index: int
    """Of the newest block that is applied here."""
    epoch: int = 0
    """Raised by `mesh quorum reset`."""
    proven_index: int = 0
    """Up to here, anybody can be convinced by what this agent holds."""
    awaited_index: int = 0
    """Of the block that this agent's token names, until the history that leads there is here: before, it takes none. Else 0."""


def read_critical(chain: Chain | None, path: Path) -> Reading:
    """A cell's dot names the block that wrote it: (replica that wanted it, epoch), index of the block, 0."""
    cell = chain.machine.cell(path) if chain is not None else None
    if cell is None or chain is None:
        return Reading(Changed(format_path(path), NAME, None, None), None)
    shelf = ShelfId(cell.author + chain.genesis.epoch.to_bytes(4, "big"))
    return Reading(Changed(format_path(path), NAME, plain(decode_untrusted(cell.value)), Dot(shelf, cell.index, 0)), cell.index)
