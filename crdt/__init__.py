"""Signed shelves: the CRDT core, pure and stdlib only.

Everything revolves around `Replica`. It writes to its own shelf, one numbered chain of signed deltas, and holds what it knows of
all others.

    ids, ops, limits    names of writes; one class for what a delta carries and a shelf holds; bounds
    codec               deterministic CBOR
    body, packer        ops packed into the body of a delta
    delta               body and header; the header is what their author signs
    digest              the incremental hash of a shelf's live ops
    base                S(n): one shelf as its author had it after delta n
    index               every live op by its key, every key by its prefix
    state               what is held and how it is read: what shows, what is gone
    shelves             how bases change: deltas, takeovers
    takeover            who speaks for a shelf whose author started again
    statements          lists of live ops, verified jumps
    draft, writer       the own shelf
    chores, housekeeping    what to drop, retire, repack and take over
    chunks              what does not fit into one datagram
    journal             what a store keeps
    replica             all of it in one
    types               CRDT types: pure views of the cells at one key
"""

from crdt.base import Entry, Listing
from crdt.body import Body, body_from_bytes_untrusted
from crdt.delta import Delta, Head, Header, delta_from_parts_untrusted, head_from_bytes_untrusted
from crdt.errors import CrdtError, Malformed, PathError, TypeConflict, UnsupportedValue, ValueTooLarge, WriteRefused
from crdt.ids import Dot, ReplicaId, ShelfId, shelf_id
from crdt.journal import HeadSet, JournalEntry, LiveSet, LooseSet, ShelfGone
from crdt.ops import Cover, Key, Op, Path, Rights, Value
from crdt.replica import CoverPolicy, Replica
from crdt.state import RULES, Fault, Loose

__all__ = [
    "RULES",
    "Body",
    "Cover",
    "CoverPolicy",
    "CrdtError",
    "Delta",
    "Dot",
    "Entry",
    "Fault",
    "Head",
    "HeadSet",
    "Header",
    "JournalEntry",
    "Key",
    "Listing",
    "LiveSet",
    "Loose",
    "LooseSet",
    "Malformed",
    "Op",
    "Path",
    "PathError",
    "Replica",
    "ReplicaId",
    "Rights",
    "ShelfGone",
    "ShelfId",
    "TypeConflict",
    "UnsupportedValue",
    "Value",
    "ValueTooLarge",
    "WriteRefused",
    "body_from_bytes_untrusted",
    "delta_from_parts_untrusted",
    "head_from_bytes_untrusted",
    "shelf_id",
]
