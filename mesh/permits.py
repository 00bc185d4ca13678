"""Whether this agent may write now, and what to tell its user when not."""

from __future__ import annotations

from typing import Final

import crdt
from crdt.ids import ReplicaId
from crdt.ops import Path
from crdt.types.paths import format_path
from mesh.effects import Now
from mesh.errors import Backpressure, ClockWrong, NotPermitted, QuotaExceeded
from mesh.swim import Swim
from mesh.trust import Admission, Directory

DRAFT_BYTES_MAX: Final = 16 * 1024 * 1024
"""Written but not yet sent: a loop that never lets the event loop run is told so. Guess: 300,000 small writes."""
ROOM_BYTES: Final = 64 * 1024
"""Kept free of what an author may hold, for removals and housekeeping. Guess."""
CLOCK_OFFSET_MAX_MICROSECONDS: Final = 3600 * 1_000_000
"""DESIGN section 1: more than an hour off the median of the peers is an error at the writer."""
CLOCK_MAX_MICROSECONDS: Final = 1 << 62
"""Half of what a delta can carry: the year 148,000."""


def check_rights(me: ReplicaId, directory: Directory, path: Path, now: Now) -> None:
    """Raises NotPermitted."""
    rights = directory.rights(me)
    if rights is None:
        if directory.admission(me, now) is Admission.MEMBER:
            raise NotPermitted("this agent's key was replaced by the authority, and it does not have the new one")
        raise NotPermitted("this agent's credential is revoked or unknown: enrol it anew with `mesh invite` and `mesh join`")
    if not directory.may_write(me, rights, path):
        grant = directory.credential(me)
        patterns = ", ".join(grant.terms.may_write if grant else ())
        raise NotPermitted(f"{format_path(path)}: outside what this agent may write ({patterns}); see `mesh keys show`")


def check_write(me: ReplicaId, directory: Directory, replica: crdt.Replica, swim: Swim, path: Path, now: Now) -> None:
    """Raises a subclass of WriteRefused."""
    check_rights(me, directory, path, now)
    if directory.is_critical(path):
        raise NotPermitted(f"{format_path(path)} is under a critical prefix of the charter: only the quorum writes there")
    if replica.draft_size > DRAFT_BYTES_MAX:
        raise Backpressure("16 MiB are written but not yet sent: let the event loop run (await anything) between writes")
    offset = swim.clock_outvoted(CLOCK_OFFSET_MAX_MICROSECONDS, now)
    if offset is not None:
        direction = "ahead of" if offset < 0 else "behind"
        raise ClockWrong(f"this machine's clock is {abs(offset) // 1_000_000} s {direction} its peers: set it")
    if not 0 <= now.wall < CLOCK_MAX_MICROSECONDS:
        raise ClockWrong(f"this machine's clock says {now.wall // 1_000_000} s since 1970, which no peer would take: set it")


def check_quota(replica: crdt.Replica) -> None:
    """What all others would take no more of. Raises QuotaExceeded."""
    base = replica.bases.get(replica.shelf)
    size, ops = replica.draft_size, 0
    if base is not None:
        size, ops = size + base.body_bytes, base.live_ops
    if size > replica.shelf_bytes_max - ROOM_BYTES or ops >= replica.shelf_ops_max:
        limit = f"{replica.shelf_bytes_max} bytes or {replica.shelf_ops_max} keys"
        raise QuotaExceeded(f"this agent holds {size} bytes and {ops} keys, the charter allows {limit}: remove something first")
