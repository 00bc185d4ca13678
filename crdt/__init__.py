"""Signed shelves: the CRDT core, pure and stdlib only.

Everything revolves around `Replica`. It writes to its own shelf, one numbered chain of signed deltas, and holds what it knows of all others.

    ids, ops        names of writes; one class for what a delta carries and a shelf holds
    codec           deterministic CBOR
    body, delta     ops packed; the header that their author signs
    digest          the incremental hash of a shelf's live ops
    base            S(n): one shelf as its author had it after delta n
    index, state    where everything is found; views, what is gone, how a base changes
    statements      lists of live ops, verified jumps
    takeover        who speaks for a shelf whose author started again
    chores, housekeeping    what may be dropped, retired and repacked
    chunks          what does not fit into one datagram
    draft, replica  writing, receiving
    types           CRDT types: pure views of the cells at one key
"""

from crdt.base import Entry, Listing
from crdt.body import Body, body_from_bytes_untrusted
from crdt.delta import Delta, Head, Header, delta_from_parts_untrusted, head_from_bytes_untrusted
from crdt.errors import CrdtError, Malformed, PathError, TypeConflict, UnsupportedValue, ValueTooLarge, WriteRefused
from crdt.ids import Dot, ReplicaId, ShelfId, shelf_id
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
    "Header",
    "Key",
    "Listing",
    "Loose",
    "Malformed",
    "Op",
    "Path",
    "PathError",
    "Replica",
    "ReplicaId",
    "Rights",
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
