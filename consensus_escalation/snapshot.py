"""What stands for the beginning of a log, and how it travels: in pieces that fit a frame, a few at a time, resumed where they
stopped.

A snapshot holds the state of the host (opaque here) and the ledger, both exactly after the block that it names. It is used only
when all of it is there and has the hash that was announced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from consensus_escalation.ledger import Ledger, ReadScore
from consensus_escalation.log import Log
from consensus_escalation.messages import SnapshotPiece
from consensus_escalation.quorum import Config, config_from_value_untrusted, config_to_value
from consensus_escalation.types import HASH_BYTES, Keys, Position
from crdt.errors import Malformed

PIECE_BYTES: Final = 900
PIECES_IN_FLIGHT: Final = 32
"""As TCP's first windows on a LAN: 28 kB unanswered. Guess."""
SNAPSHOT_BYTES_MAX: Final = 64 << 20
"""Critical state is small (owners, leases); a receiver takes no more than this into memory. Guess."""
PLACES_MAX: Final = 1 << 63
"""Above it no disk keeps the place of a snapshot (SQLite: 64 bits and a sign)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    last: Position
    hash: bytes
    """Of the block at `last`."""
    config_index: int
    config: Config
    ledger: Any
    state: bytes

    def to_bytes(self, keys: Keys) -> bytes:
        parts = [
            self.last.index,
            self.last.term,
            self.hash,
            self.config_index,
            config_to_value(self.config),
            self.ledger,
            self.state,
        ]
        return keys.encode(parts)


def snapshot_from_bytes_untrusted(raw: bytes, keys: Keys, read_score: ReadScore) -> tuple[Snapshot, Ledger]:
    """Raises Malformed."""
    try:
        value = keys.decode_untrusted(raw)
    except Malformed as error:
        raise Malformed("snapshot is no CBOR") from error
    match value:
        case [int(index), int(term), bytes(digest), int(config_index), config, ledger, bytes(state)] if len(
            digest
        ) == HASH_BYTES and all(0 <= each < PLACES_MAX for each in (index, term, config_index)):
            found = Snapshot(Position(term, index), digest, config_index, config_from_value_untrusted(config), ledger, state)
            return found, Ledger.from_value_untrusted(ledger, read_score)
        case _:
            raise Malformed("snapshot has another shape")


def empty_log(snapshot: Snapshot, ledger: Ledger, keys: Keys) -> Log:
    return Log(snapshot.last, snapshot.hash, snapshot.config_index, snapshot.config, keys, ledger.attested)


@dataclass(slots=True)
class Outgoing:
    """A snapshot on its way to one follower."""

    raw: bytes
    index: int
    digest: bytes
    acked: int = 0
    sent: int = 0
    heard: int = 0
    """The last answer, which may have been overtaken."""
    acked_before: int = -1
    """At the last heartbeat: no progress since means that pieces were lost."""

    def pieces(self, term: int) -> list[SnapshotPiece]:
        """What may be sent now."""
        found = []
        while self.sent < min(len(self.raw), self.acked + PIECES_IN_FLIGHT * PIECE_BYTES):
            data = self.raw[self.sent : self.sent + PIECE_BYTES]
            found.append(SnapshotPiece(term, self.index, self.digest, self.sent, len(self.raw), data))
            self.sent += len(data)
        return found

    def answered(self, offset: int) -> None:
        self.heard = offset
        if self.acked < offset <= len(self.raw):
            self.acked = offset
            self.sent = max(self.sent, offset)

    def repeat(self) -> None:
        """Without progress since the last time, go on from where the follower says that it is: after a restart it has less."""
        if self.acked == self.acked_before:
            self.acked = self.sent = min(self.heard, self.acked)
        self.acked_before = self.acked


class Incoming:
    """A snapshot that arrives. Only one, and only in order: a gap is asked for again by the answers."""

    def __init__(self) -> None:
        self._about = (0, b"", 0)
        self._held = bytearray()

    def take(self, piece: SnapshotPiece, keys: Keys) -> tuple[int, bytes | None]:
        """(how much is here, the whole when it is complete and has its hash)."""
        about = (piece.index, piece.digest, piece.total)
        if piece.total > SNAPSHOT_BYTES_MAX or len(piece.data) > PIECE_BYTES:
            return 0, None
        if about != self._about:
            self._about, self._held = about, bytearray()
        if piece.offset == len(self._held) and piece.offset + len(piece.data) <= piece.total:
            self._held += piece.data
        if len(self._held) < piece.total:
            return len(self._held), None
        whole = bytes(self._held)
        self._about, self._held = (0, b"", 0), bytearray()
        return (piece.total, whole) if keys.hash(whole) == piece.digest else (0, None)
