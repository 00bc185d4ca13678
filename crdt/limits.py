"""Bounds of the format, one place for all. What a peer sends beyond them is Malformed; what a user writes beyond them is
refused."""

from __future__ import annotations

from typing import Final

from crdt import codec
from crdt.ids import make_dot

CORE_TYPE: Final = 0
"""Type code of the core's own keys: chunks at (hash,), takeovers at (former shelf,)."""
TYPE_LIMIT: Final = 256
SEGMENTS_MAX: Final = 16
SEGMENT_BYTES_MAX: Final = 256
"""DESIGN section 1, Paths."""
PAYLOAD_DEPTH_MAX: Final = codec.DEPTH_MAX - 3
"""A payload sits inside body, ops and op."""

BODY_BYTES_MAX: Final = 960
"""What this side writes: leaves room in a sealed datagram of 1,200 bytes for header, signature, seal and frames."""
BODY_BYTES_LIMIT: Final = 1100
"""What this side takes: nothing larger fits into a datagram."""

SEQ_LIMIT: Final = 1 << 48
"""Deltas of one start of one agent: a million a second for nine years. Keeps dots within 64 bits."""
DOT_LIMIT: Final = make_dot(SEQ_LIMIT, 0)
TIME_LIMIT: Final = 1 << 63
CHECK_LIMIT: Final = 1 << 32
SERIAL_LIMIT: Final = 1 << 63
BIRTH_LIMIT: Final = 1 << 32
HASH_BYTES: Final = 16

LARGE_BYTES_MAX: Final = 1 << 20
"""Largest encoded payload (DESIGN section 2: 1 MiB by default)."""
COVERS_MAX: Final = 4096
"""Covers of one write (guess: four concurrent writes of a key by each of 1,000 members). Above it, a write keeps those of
what its author holds."""
SHELF_BYTES_MAX: Final = 256 << 20
"""Bodies of one shelf. Guess: an edge board's memory would be full at a tenth of it; a charter may say less."""
SHELF_OPS_MAX: Final = 1 << 20
"""Live ops of one shelf, about its keys. Guess: ten times what a robot has."""
LOOSE_MAX: Final = 256
"""Loose deltas per shelf (DESIGN section 2); the furthest are dropped, they come again."""
UNCHECKED_MAX: Final = 64
"""Deltas of a shelf applied in order until its digest is compared with what its author signed (DESIGN section 2: at the latest
after 64 deltas or 1 s; the second is the caller's)."""
SHELVES_MAX: Final = 8
"""Shelves of one replica that nobody has taken over (DESIGN section 2); later ones wait."""
