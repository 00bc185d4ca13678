"""What goes to the disk and what comes back from it: plain rows, no I/O.

The peer core hands out a `Batch` after each turn (the *Persist* of the design): everything that the turn changed and that a
restart must find again. A store applies batches in order, each as a whole or not at all, and gives one `Restored` at the next
start. Nothing in here waits for the disk: deltas are sent at once, since every start begins a new shelf, so a power cut can
lose what nobody had received and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from crdt.ids import ReplicaId
from crdt.journal import JournalEntry
from mesh.effects import Address


class KnownPeer(NamedTuple):
    """One other member, as remembered across restarts, so that a mesh whose every member restarted reassembles itself."""

    replica: ReplicaId
    public_key: bytes
    address: Address
    incarnation: int
    """The highest one that a claim signed by this member named; starting lower would revive an old claim."""
    name: str
    last_seen: int
    """Wall clock in microseconds when an authenticated datagram last came from it; 0 when none ever did."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one turn of the core changed. Applied in order, and each batch as a whole or not at all."""

    journal: tuple[JournalEntry, ...] = ()
    """`Replica.take_journal()`, in its order."""
    peers: tuple[KnownPeer, ...] = ()
    """Replace what is stored of these members."""
    forgotten: tuple[ReplicaId, ...] = ()
    """Members whose row goes (applied before `peers`)."""
    statements: tuple[bytes, ...] = ()
    """Trust statements as they came; a grow-only set, so a second one of the same bytes changes nothing."""
    incarnation: int | None = None
    """This replica's own; None: as before."""
    meta: Mapping[str, bytes] = field(default_factory=dict)
    """Small named values of the node, by name; an empty value removes the name."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What the disk held at the start. Empty for a fresh start and for a node without a data directory."""

    journal: list[JournalEntry] = field(default_factory=list)
    """For `Replica.restore()`."""
    peers: list[KnownPeer] = field(default_factory=list)
    """Sorted by replica id."""
    statements: list[bytes] = field(default_factory=list)
    """In the order in which they were first stored, so what a statement builds on comes before it."""
    incarnation: int = 0
    meta: dict[str, bytes] = field(default_factory=dict)
