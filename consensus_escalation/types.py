"""Words that all parts share: time, voters, positions, what is injected, and the pace of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, Protocol

from crdt.codec import decode_untrusted, encode
from crdt.ids import ReplicaId

Voter = ReplicaId
"""A voter or learner is named by its replica id: one identity for gossip and agreement."""

HASH_BYTES: Final = 16
_INT: Final = {int}


def are_numbers(values: tuple[object, ...]) -> bool:
    """Whether all (one at least) are integers of 64 bits that are not negative; a truth value is none."""
    return {*map(type, values)} == _INT and min(values) >= 0 and max(values) < 1 << 64  # type: ignore[type-var,operator]


class Now(Protocol):
    """Both clocks, as `mesh.effects.Now`. Wall time reaches block times only, and through them session and score expiry."""

    @property
    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never falling."""

    @property
    def wall(self) -> int:
        """Microseconds since 1970."""


class Position(NamedTuple):
    """The end of a log. Compares as Raft does: the later term, then the longer log (paper 5.4.1)."""

    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which has no use here


class Role(Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Purpose(Enum):
    """What a signature is for: part of what is signed, so that none can be used as another."""

    BLOCK = b"block"
    ACK = b"ack"
    MANDATE = b"mandate"
    PROPOSAL = b"proposal"
    VERDICT = b"verdict"
    ENTRY = b"entry"
    CLOCK = b"clock"


@dataclass(frozen=True, slots=True)
class Keys:
    """Cryptography and encoding, injected."""

    hash: Callable[[bytes], bytes]
    """16 bytes."""
    sign: Callable[[Purpose, bytes], bytes]
    """With this voter's own key."""
    verify: Callable[[Voter, Purpose, bytes, bytes], bool]
    """(signer, purpose, signed bytes, signature). False for strangers."""
    encode: Callable[[object], bytes] = encode
    """Deterministic CBOR."""
    decode_untrusted: Callable[[bytes], object] = decode_untrusted
    """Raises `crdt.errors.Malformed` for anything else, as all `_untrusted` functions here do."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds. Agreement never waits for any of them: they decide only when silence becomes suspicion."""

    heartbeat_seconds: float = 0.03
    """A fifth of the election time-out, so that four in a row must be lost (guess, as etcd's ratio of 10 is for seconds)."""
    election_seconds: float = 0.15
    """Silence after which a leader may be replaced; the lower end of the paper's 150-300 ms (section 9.3). Also the time after
    which a leader without answers falls silent, and for which a voter stands by a leader that it hears."""
    slot_seconds: float = 0.06
    """Distance of two ranks' campaigns: PreVote, vote and two fsyncs take 5-20 ms on a LAN with Python voters, and slots must not
    overlap. Guess, to be measured."""
    reign_seconds: float = 60.0
    """A leader stays at least so long before it hands back: at most one change a minute under oscillating scores."""
    stable_seconds: float = 5.0
    """Without a gap in its answers, before leadership is handed to a voter. Guess."""
    window_blocks: int = 256
    """Blocks on their way to one follower: at 1,020 bytes 260 kB, more than a LAN's bandwidth times delay."""
    pending_entries_max: int = 4096
    """Entries that wait for a block; more are refused at once (backpressure)."""
    snapshot_blocks: int = 4096
    """A snapshot at every multiple of this index, the same at every voter, so that its hash can stand in headers: about 4 MB of
    log."""
    verdict_seconds: float = 2.0
    """A dangerous proposal without a quorum of verdicts is given up so long after the leader's own judges have decided, or after
    as long as these took: people are slow everywhere. Guess."""
    replace_seconds: float = 600.0
    """A voter silent for so long is replaced by one that stands by (DESIGN section 7)."""

    def turn_seconds(self, voters: int, patience: float = 1.0) -> float:
        """Within which one of so many is elected: the silence, a slot for each that comes before, one to be elected in."""
        return patience * self.election_seconds + (voters + 1) * self.slot_seconds


FRAME_BYTES_MAX: Final = 1120
"""What one message may have: a frame of the mesh carries 1,161 bytes; the rest is for the words around it."""
BLOCK_BYTES_MAX: Final = 1020
"""A block with its signature: fits a frame together with the fields of an Append, or of a campaign that it proves to be necessary
(`impeachment.PROOF_BYTES_MAX`). Every block costs two signatures and two verifications: at 900 bytes, 64 clients wrote a
tenth less."""
